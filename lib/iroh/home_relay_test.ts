import assert from "node:assert/strict";
import { type AtRelays, homeRelay, keepHomeRelay } from "./home_relay.ts";

const HOME = "https://home.example/", OTHER = "https://other.example/";
const THIRD = "https://third.example/";

/** An endpoint that is at the last relay it was told of that is up. */
class FakeEndpoint implements AtRelays {
  readonly known = [HOME];

  constructor(readonly up: Set<string>) {}

  addresses(): { relay: string | undefined } {
    return { relay: this.known.findLast((url) => this.up.has(url)) };
  }

  async addRelay(url: string): Promise<void> {
    assert.ok(!this.known.includes(url));
    this.known.push(url);
    await Promise.resolve();
  }

  async removeRelay(url: string): Promise<void> {
    this.known.splice(this.known.indexOf(url), 1);
    await Promise.resolve();
  }
}

/** Where the endpoint is after each look; the home relay answers, or not, as `answers` says. */
async function relaysAfter(
  answers: readonly boolean[],
  { endpoint = new FakeEndpoint(new Set([OTHER, THIRD])), others = [OTHER] } = {},
): Promise<(string | undefined)[]> {
  const ended = new AbortController(), relays: (string | undefined)[] = [];
  let looks = 0;
  const ask = (url: string) => {
    assert.equal(url, HOME);
    if (looks > 0) relays.push(endpoint.addresses().relay);
    const answer = answers[looks++];
    if (answer === undefined) ended.abort();
    else if (answer) endpoint.up.add(HOME);
    else endpoint.up.delete(HOME);
    return Promise.resolve(answer ?? false);
  };
  await keepHomeRelay(endpoint, { home: HOME, others }, ended.signal, { ask, everyMs: 0 });
  return relays;
}

Deno.test("homeRelay() is the one in the address, in whichever form, or else the first", () => {
  const setting = { kind: "custom", urls: [OTHER, HOME, THIRD] } as const;
  const expected = { home: HOME, others: [OTHER, THIRD] };
  assert.deepEqual(homeRelay(setting, [HOME]), expected);
  assert.deepEqual(homeRelay(setting, ["https://HOME.example"]), expected);
  for (const named of [[], ["https://unknown.example/"], ["no URL"]]) {
    assert.deepEqual(homeRelay(setting, named), { home: OTHER, others: [HOME, THIRD] });
  }
});

Deno.test("homeRelay() chooses none where there is no choice", () => {
  assert.equal(homeRelay({ kind: "custom", urls: [HOME] }, [HOME]), undefined);
  assert.equal(homeRelay({ kind: "n0" }, [HOME]), undefined);
  assert.equal(homeRelay({ kind: "none" }, [HOME]), undefined);
});

Deno.test("keepHomeRelay() is at another relay as long as the home relay is away", async () => {
  assert.deepEqual(
    await relaysAfter([false, false, true, true, false, true]),
    [OTHER, OTHER, HOME, HOME, OTHER, HOME],
  );
});

Deno.test("keepHomeRelay() stays at the home relay, however near another is", async () => {
  const endpoint = new FakeEndpoint(new Set([HOME, OTHER]));
  assert.deepEqual(await relaysAfter([true, true], { endpoint }), [HOME, HOME]);
  assert.deepEqual(endpoint.known, [HOME]);
});

Deno.test("keepHomeRelay() lets an endpoint know all the others, and forget them", async () => {
  const endpoint = new FakeEndpoint(new Set([OTHER, THIRD])), others = [OTHER, THIRD];
  assert.deepEqual(await relaysAfter([false], { endpoint, others }), [THIRD]);
  assert.deepEqual(endpoint.known, [HOME, OTHER, THIRD]);
  const again = new FakeEndpoint(new Set(others));
  assert.deepEqual(await relaysAfter([false, true], { endpoint: again, others }), [THIRD, HOME]);
  assert.deepEqual(again.known, [HOME]);
});

Deno.test("keepHomeRelay() does not stay with a relay that answers and cannot be used", async () => {
  /** Only the other relay can. */
  class Stranded extends FakeEndpoint {
    override addresses(): { relay: string | undefined } {
      return { relay: this.known.includes(OTHER) ? OTHER : undefined };
    }
  }
  const endpoint = new Stranded(new Set());
  const relays = await relaysAfter(Array(20).fill(true), { endpoint });
  assert.deepEqual(relays.slice(0, 3), [undefined, undefined, OTHER]);
  // It is tried again later on, for a short time.
  assert.deepEqual(relays.slice(3).filter((relay) => relay === undefined).length, 3);
});

Deno.test("keepHomeRelay() goes on after an error, and tries that again", async () => {
  class Failing extends FakeEndpoint {
    failures = 1;
    override async addRelay(url: string): Promise<void> {
      if (this.failures-- > 0) throw new Error("not now");
      await super.addRelay(url);
    }
  }
  const endpoint = new Failing(new Set([OTHER]));
  assert.deepEqual(await relaysAfter([false, false], { endpoint }), [undefined, OTHER]);
});

Deno.test("keepHomeRelay() ends at once, also while it asks or changes something", async () => {
  const never = new Promise<never>(() => {}), choice = { home: HOME, others: [OTHER] };
  const ended = new AbortController(), endpoint = new FakeEndpoint(new Set());
  endpoint.addRelay = () => {
    queueMicrotask(() => ended.abort());
    return never;
  };
  await keepHomeRelay(endpoint, choice, ended.signal, { ask: () => Promise.resolve(false) });
  using relay = Deno.listen({ hostname: "127.0.0.1", port: 0 }); // takes connections, says nothing
  const asking = new AbortController();
  const home = `http://127.0.0.1:${relay.addr.port}/`;
  const kept = keepHomeRelay(endpoint, { home, others: [OTHER] }, asking.signal);
  (await relay.accept()).close();
  asking.abort();
  await kept;
});

Deno.test("keepHomeRelay() takes a relay for up that answers a ping, and for no other", async () => {
  let status = 502;
  const looks = Promise.withResolvers<void>();
  let asked = 0;
  await using server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen() {} }, (request) => {
    assert.equal(new URL(request.url).pathname, "/ping");
    if (++asked === 2) status = 200;
    if (asked === 4) looks.resolve();
    return new Response(null, { status });
  });
  const endpoint = new FakeEndpoint(new Set([OTHER])), ended = new AbortController();
  const home = `http://127.0.0.1:${server.addr.port}/`, seen: string[] = [];
  endpoint.known[0] = home;
  endpoint.addRelay = (url) => Promise.resolve(void seen.push(`+${url}`));
  endpoint.removeRelay = (url) => Promise.resolve(void seen.push(`-${url}`));
  endpoint.up.add(home);
  const kept = keepHomeRelay(endpoint, { home, others: [OTHER] }, ended.signal, { everyMs: 0 });
  await looks.promise;
  ended.abort();
  await kept;
  assert.deepEqual(seen, [`+${OTHER}`, `-${OTHER}`]);
});
