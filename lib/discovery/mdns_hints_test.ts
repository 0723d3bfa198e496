import assert from "node:assert/strict";
import { UnverifiedHints } from "./mdns_hints.ts";

function all(hints: UnverifiedHints): string[] {
  const addresses: string[] = [];
  for (let address; (address = hints.next()) !== undefined;) addresses.push(address);
  return addresses.sort();
}

Deno.test("UnverifiedHints returns each address once, until the marks are reset", () => {
  const hints = new UnverifiedHints();
  assert.deepEqual(hints.add("a", ["1", "2", "2"]), ["1", "2"]);
  assert.deepEqual(hints.add("b", ["2", "3"]), ["3"]); // "2" is known from another sender
  assert.equal(hints.waiting, 3);
  assert.deepEqual(all(hints), ["1", "2", "3"]);
  assert.equal(hints.waiting, 0);
  assert.deepEqual(hints.add("a", ["1"]), []);
  assert.deepEqual(all(hints), []);
  hints.resetTried(["2"]);
  assert.deepEqual(all(hints), ["2"]);
  hints.resetTried();
  assert.deepEqual(all(hints), ["1", "2", "3"]);
});

Deno.test("UnverifiedHints remembers at most 64 senders with 8 addresses each", () => {
  const hints = new UnverifiedHints();
  for (let sender = 0; sender < 1_000; sender++) {
    for (let i = 0; i < 20; i++) {
      hints.add(`${sender}`, [`${sender}:${i}`, `${sender}:${i + 20}`]);
    }
  }
  assert.equal(all(hints).length, 64 * 8);
});

Deno.test("UnverifiedHints makes room for a new sender, first in place of one that was tried", () => {
  const hints = new UnverifiedHints();
  for (let sender = 0; sender < 64; sender++) hints.add(`liar ${sender}`, [`${sender}`]);
  hints.next();
  hints.add("b", ["truth"]); // in place of the sender whose address was tried
  const rest = all(hints);
  assert.equal(rest.length, 64);
  assert(rest.includes("truth"));
});

Deno.test("UnverifiedHints picks the next address by chance, and gives each sender a turn", () => {
  let truths = 0, seconds = 0;
  for (let i = 0; i < 1_000; i++) {
    const hints = new UnverifiedHints();
    hints.add("liar", ["1", "2", "3", "4", "5", "6", "7", "8"]);
    hints.add("b", ["truth"]);
    const [first, second] = [hints.next(), hints.next()];
    if (first === "truth") truths++;
    else if (second === "truth") seconds++;
  }
  assert(truths > 400 && truths < 600, `${truths} of 1000`);
  // Of the other half: all of those that go by turn, and half of those left to chance, weighted by sender.
  assert(seconds > 300 && seconds < 450, `${seconds} of 1000`);
});

Deno.test("UnverifiedHints reaches the second address of one sender, while new senders keep coming", () => {
  const hints = new UnverifiedHints();
  hints.add("b", ["first", "second"]);
  const tried = new Set<string | undefined>();
  for (let i = 0; i < 2_000 && !(tried.has("first") && tried.has("second")); i++) {
    hints.add(`liar ${i}`, [`${i}`]);
    tried.add(hints.next());
  }
  assert(tried.has("first") && tried.has("second"));
});

Deno.test("UnverifiedHints tries an address again that was tried, forgotten, and is heard anew", () => {
  const hints = new UnverifiedHints();
  hints.add("a", ["first"]);
  assert.equal(hints.next(), "first");
  hints.add("a", ["1", "2", "3", "4", "5", "6", "7", "8"]); // which leaves no room for the first
  while (hints.waiting > 0) hints.next();
  assert.deepEqual(hints.add("a", ["first"]), ["first"]);
  assert.equal(hints.next(), "first");
});
