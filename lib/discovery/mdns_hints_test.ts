import assert from "node:assert/strict";
import { UnverifiedHints } from "./mdns_hints.ts";

function all(hearsay: UnverifiedHints): string[] {
  const addresses: string[] = [];
  for (let address; (address = hearsay.next()) !== undefined;) addresses.push(address);
  return addresses.sort();
}

Deno.test("UnverifiedHints gives each address once, until it starts anew", () => {
  const hearsay = new UnverifiedHints();
  assert.deepEqual(hearsay.add("a", ["1", "2", "2"]), ["1", "2"]);
  assert.deepEqual(hearsay.add("b", ["2", "3"]), ["3"]); // what is new to everybody
  assert(hearsay.hasNext);
  assert.deepEqual(all(hearsay), ["1", "2", "3"]);
  assert(!hearsay.hasNext);
  assert.deepEqual(hearsay.add("a", ["1"]), []);
  assert.deepEqual(all(hearsay), []);
  hearsay.startAnew();
  assert.deepEqual(all(hearsay), ["1", "2", "3"]);
});

Deno.test("UnverifiedHints remembers no more than so much, whoever says whatever", () => {
  const hearsay = new UnverifiedHints();
  for (let sender = 0; sender < 1_000; sender++) {
    for (let i = 0; i < 20; i++) {
      hearsay.add(`${sender}`, [`${sender}:${i}`, `${sender}:${i + 20}`]);
    }
  }
  assert.equal(all(hearsay).length, 64 * 8);
});

Deno.test("UnverifiedHints lets in who comes last, and forgets first what has been tried", () => {
  const hearsay = new UnverifiedHints();
  for (let sender = 0; sender < 64; sender++) hearsay.add(`liar ${sender}`, [`${sender}`]);
  hearsay.next();
  hearsay.add("b", ["truth"]); // in the place of the one that has been tried
  const rest = all(hearsay);
  assert.equal(rest.length, 64);
  assert(rest.includes("truth"));
});

Deno.test("UnverifiedHints leaves to chance who is next, and gives each sender a turn", () => {
  let truths = 0, seconds = 0;
  for (let i = 0; i < 1_000; i++) {
    const hearsay = new UnverifiedHints();
    hearsay.add("liar", ["1", "2", "3", "4", "5", "6", "7", "8"]);
    hearsay.add("b", ["truth"]);
    const [first, second] = [hearsay.next(), hearsay.next()];
    if (first === "truth") truths++;
    else if (second === "truth") seconds++;
  }
  assert(truths > 400 && truths < 600, `${truths} of 1000`);
  // Of the other half, those who wait for their turn, and half of those left to chance.
  assert(seconds > 300 && seconds < 450, `${seconds} of 1000`);
});

Deno.test("UnverifiedHints comes to the second address of one sender, however many others are always new", () => {
  const hearsay = new UnverifiedHints();
  hearsay.add("b", ["first", "second"]);
  const tried = new Set<string | undefined>();
  for (let i = 0; i < 2_000 && !(tried.has("first") && tried.has("second")); i++) {
    hearsay.add(`liar ${i}`, [`${i}`]);
    tried.add(hearsay.next());
  }
  assert(tried.has("first") && tried.has("second"));
});
