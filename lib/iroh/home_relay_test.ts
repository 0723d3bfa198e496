import assert from "node:assert/strict";
import { homeRelay, keepHomeRelay, type RelayedEndpoint } from "./home_relay.ts";

const HOME = "https://home.example/", OTHER = "https://other.example/";
const THIRD = "https://third.example/";

/** An endpoint that uses the last relay it was told of that is up. */
class FakeEndpoint implements RelayedEndpoint {
  readonly known = [HOME];

  constructor(readonly up: Set<string>) {}

  addresses(): { relay: string | undefined } {
    return { relay: this.known.findLast((url) => this.up.has(url)) };
  }

  async addRelay(url: string): Promise<void> {
    if (!this.known.includes(url)) this.known.push(url);
    await Promise.resolve();
  }

  async removeRelay(url: string): Promise<void> {
    this.known.splice(this.known.indexOf(url), 1);
    await Promise.resolve();
  }
}

/** Returns the endpoint's relay after each ping. The home relay answers each ping as `answers` says. */
async function relaysAfter(
  answers: readonly boolean[],
  { endpoint = new FakeEndpoint(new Set([OTHER, THIRD])), others = [OTHER] } = {},
): Promise<(string | undefined)[]> {
  const ended = new AbortController(), relays: (string | undefined)[] = [];
  let pings = 0;
  const ping = (url: string) => {
    assert.equal(url, HOME);
    if (pings > 0) relays.push(endpoint.addresses().relay);
    const answer = answers[pings++];
    if (answer === undefined) ended.abort();
    else if (answer) endpoint.up.add(HOME);
    else endpoint.up.delete(HOME);
    return Promise.resolve(answer ?? false);
  };
  await keepHomeRelay(endpoint, { home: HOME, others }, ended.signal, { ping, pingIntervalMs: 0 });
  return relays;
}

Deno.test("homeRelay() is the relay in the address, however its URL is written, or else the first", () => {
  const setting = { kind: "custom", urls: [OTHER, HOME, THIRD] } as const;
  const expected = { home: HOME, others: [OTHER, THIRD] };
  assert.deepEqual(homeRelay(setting, [HOME]), expected);
  assert.deepEqual(homeRelay(setting, ["https://HOME.example"]), expected);
  for (const named of [[], ["https://unknown.example/"], ["no URL"]]) {
    assert.deepEqual(homeRelay(setting, named), { home: OTHER, others: [HOME, THIRD] });
  }
});

Deno.test("homeRelay() is undefined if there are not several relays", () => {
  assert.equal(homeRelay({ kind: "custom", urls: [HOME] }, [HOME]), undefined);
  assert.equal(homeRelay({ kind: "n0" }, [HOME]), undefined);
  assert.equal(homeRelay({ kind: "none" }, [HOME]), undefined);
});

Deno.test("keepHomeRelay() uses another relay only while the home relay is down", async () => {
  assert.deepEqual(
    await relaysAfter([false, false, true, true, false, true]),
    [OTHER, OTHER, HOME, HOME, OTHER, HOME],
  );
});

Deno.test("keepHomeRelay() tells the endpoint of no other relay while the home relay is up", async () => {
  const endpoint = new FakeEndpoint(new Set([HOME, OTHER]));
  assert.deepEqual(await relaysAfter([true, true], { endpoint }), [HOME, HOME]);
  assert.deepEqual(endpoint.known, [HOME]);
});

Deno.test("keepHomeRelay() adds all other relays, and removes them again", async () => {
  const endpoint = new FakeEndpoint(new Set([OTHER, THIRD])), others = [OTHER, THIRD];
  assert.deepEqual(await relaysAfter([false], { endpoint, others }), [THIRD]);
  assert.deepEqual(endpoint.known, [HOME, OTHER, THIRD]);
  const again = new FakeEndpoint(new Set(others));
  assert.deepEqual(await relaysAfter([false, true], { endpoint: again, others }), [THIRD, HOME]);
  assert.deepEqual(again.known, [HOME]);
});

Deno.test("keepHomeRelay() tells an endpoint that missed it of the other relays again, and only once", async () => {
  let tellings = 0;
  const endpoint = new class extends FakeEndpoint {
    override addRelay(url: string): Promise<void> {
      return ++tellings === 1 ? Promise.resolve() : super.addRelay(url);
    }
  }(new Set([OTHER]));
  assert.deepEqual(await relaysAfter([false, false, false], { endpoint }), [
    undefined,
    OTHER,
    OTHER,
  ]);
  assert.equal(tellings, 2);
  tellings = 0;
  const offline = new class extends FakeEndpoint {
    override addRelay(): Promise<void> {
      tellings++;
      return Promise.resolve();
    }
  }(new Set());
  await relaysAfter(Array(20).fill(false), { endpoint: offline });
  assert.equal(tellings, 2);
});

Deno.test("keepHomeRelay() leaves a home relay that answers pings and cannot be used", async () => {
  /** Can use the other relay only. */
  class Stranded extends FakeEndpoint {
    override addresses(): { relay: string | undefined } {
      return { relay: this.known.includes(OTHER) ? OTHER : undefined };
    }
  }
  const endpoint = new Stranded(new Set());
  const relays = await relaysAfter(Array(20).fill(true), { endpoint });
  assert.deepEqual(relays.slice(0, 3), [undefined, undefined, OTHER]);
  // The home relay is tried again later, for three pings.
  assert.deepEqual(relays.slice(3).filter((relay) => relay === undefined).length, 3);
});

Deno.test("keepHomeRelay() trusts the home relay again once the endpoint has used it", async () => {
  const ended = new AbortController();
  let pings = 0;
  /** Can use the home relay only for a while. */
  const endpoint = new class extends FakeEndpoint {
    override addresses() {
      const isUsable = pings > 10 && pings <= 20;
      return { relay: this.known.includes(OTHER) ? OTHER : isUsable ? HOME : undefined };
    }
  }(new Set());
  const usesOthers: string[] = [];
  const ping = () => {
    usesOthers.push(endpoint.known.includes(OTHER) ? "o" : ".");
    if (++pings === 80) ended.abort();
    return Promise.resolve(true);
  };
  const choice = { home: HOME, others: [OTHER] };
  await keepHomeRelay(endpoint, choice, ended.signal, { ping, pingIntervalMs: 0 });
  const periods = usesOthers.join("").match(/o+/g)!.map(({ length }) => length);
  assert.deepEqual(periods.slice(0, 3), [12, 12, 24]); // it was used between the first two
});

Deno.test("keepHomeRelay() goes on after an error, and tries again", async () => {
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

Deno.test("keepHomeRelay() ends at once when aborted, also during a ping or a change", async () => {
  const never = new Promise<never>(() => {}), choice = { home: HOME, others: [OTHER] };
  const ended = new AbortController(), endpoint = new FakeEndpoint(new Set());
  endpoint.addRelay = () => {
    queueMicrotask(() => ended.abort());
    return never;
  };
  await keepHomeRelay(endpoint, choice, ended.signal, { ping: () => Promise.resolve(false) });
  using relay = Deno.listen({ hostname: "127.0.0.1", port: 0 }); // accepts connections, sends nothing
  const pinging = new AbortController();
  const home = `http://127.0.0.1:${relay.addr.port}/`;
  const kept = keepHomeRelay(endpoint, { home, others: [OTHER] }, pinging.signal);
  (await relay.accept()).close();
  pinging.abort();
  await kept;
});

Deno.test("keepHomeRelay() takes a relay for up if it answers with status 200, and not with 502", async () => {
  let status = 502;
  const fourPings = Promise.withResolvers<void>();
  let pings = 0;
  await using server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen() {} }, (request) => {
    assert.equal(new URL(request.url).pathname, "/ping");
    if (++pings === 2) status = 200;
    if (pings === 4) fourPings.resolve();
    return new Response(null, { status });
  });
  const endpoint = new FakeEndpoint(new Set([OTHER])), ended = new AbortController();
  const home = `http://127.0.0.1:${server.addr.port}/`, seen: string[] = [];
  endpoint.known[0] = home;
  endpoint.addRelay = (url) => Promise.resolve(void seen.push(`+${url}`));
  endpoint.removeRelay = (url) => Promise.resolve(void seen.push(`-${url}`));
  endpoint.up.add(home);
  const kept = keepHomeRelay(endpoint, { home, others: [OTHER] }, ended.signal, {
    pingIntervalMs: 0,
  });
  await fourPings.promise;
  ended.abort();
  await kept;
  assert.deepEqual(seen, [`+${OTHER}`, `-${OTHER}`]);
});
