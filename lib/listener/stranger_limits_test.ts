import assert from "node:assert/strict";
import type { Connection } from "../iroh/connection.ts";
import { HandshakeError } from "../protocol/dumbpipe.ts";
import { Evicted, type Permit } from "./admission.ts";
import { NotAuthenticated } from "./close_reasons.ts";
import { STRANGER_LIMITS, StrangerLimits } from "./stranger_limits.ts";
import { StrangerMemory } from "./stranger_memory.ts";

const SHORT_MS = 5, LONG_MS = 60_000;
const LONG = { handshakeTimeoutMs: LONG_MS, authTimeoutMs: LONG_MS };

class FakePermit implements Permit {
  #controller = new AbortController();
  readonly isSpare = false;
  isAuthenticated = false;
  releases = 0;

  get evicted(): AbortSignal {
    return this.#controller.signal;
  }

  evict(): void {
    this.#controller.abort(new Evicted());
  }

  authenticated(): void {
    this.isAuthenticated = true;
  }

  release(): void {
    this.releases++;
  }
}

/** Memory that no stranger may take, and a connection with bytes. `closed` resolves with its close code. */
function noMemory() {
  const { promise: closed, resolve } = Promise.withResolvers<bigint>();
  const fake = { packetBytesReceived: 1, close: (code: bigint) => resolve(code) };
  const memory = new StrangerMemory({ maxWaitingBytes: 0, lookIntervalMs: 1 });
  return { closed, connection: fake as unknown as Connection, memory };
}

function aborted(signal: AbortSignal): Promise<unknown> {
  const { promise, resolve } = Promise.withResolvers<unknown>();
  if (signal.aborted) resolve(signal.reason);
  signal.addEventListener("abort", () => resolve(signal.reason));
  return promise;
}

function milliseconds(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

Deno.test("STRANGER_LIMITS has the limits that docs/protocol.md promises", () => {
  assert.equal(STRANGER_LIMITS.handshakeTimeoutMs, 10_000);
  assert.equal(STRANGER_LIMITS.authTimeoutMs, 30_000);
});

Deno.test("StrangerLimits ends a handshake that takes too long", async () => {
  using limits = new StrangerLimits(new FakePermit(), { handshakeTimeoutMs: SHORT_MS });
  const keepAlive = setTimeout(() => {}, LONG_MS); // the timer of the limits does not
  assert(await aborted(limits.exceeded) instanceof HandshakeError);
  clearTimeout(keepAlive);
});

Deno.test("StrangerLimits does not end a connection whose handshake was in time", async () => {
  using limits = new StrangerLimits(new FakePermit(), { handshakeTimeoutMs: SHORT_MS });
  limits.handshakeDone();
  await milliseconds(3 * SHORT_MS);
  assert(!limits.exceeded.aborted);
});

Deno.test("StrangerLimits releases the permit of a connection without a session, once", () => {
  const permit = new FakePermit();
  const limits = new StrangerLimits(permit, LONG);
  limits[Symbol.dispose]();
  limits[Symbol.dispose]();
  assert.equal(permit.releases, 1);
});

Deno.test("StrangerLimits ends a connection that loses its permit before its first session", () => {
  const permit = new FakePermit();
  using limits = new StrangerLimits(permit, LONG);
  permit.evict();
  assert(limits.exceeded.reason instanceof Evicted);
});

Deno.test("StrangerLimits ends a connection that has already lost its permit", () => {
  const permit = new FakePermit();
  permit.evict();
  using limits = new StrangerLimits(permit, LONG);
  assert(limits.exceeded.reason instanceof Evicted);
});

Deno.test("StrangerLimits gives the permit to the first session, which alone is evicted", () => {
  const permit = new FakePermit();
  const limits = new StrangerLimits(permit, LONG);
  assert.equal(limits.takePermit(), permit);
  assert.equal(limits.takePermit(), undefined);
  const session = limits.beginSession(permit);
  permit.evict();
  assert(session.exceeded.reason instanceof Evicted);
  assert(!limits.exceeded.aborted);
  limits[Symbol.dispose]();
  assert.equal(permit.releases, 0);
  session[Symbol.dispose]();
  assert.equal(permit.releases, 1);
});

Deno.test("StrangerLimits keeps a connection on which this repository has opened a session, without a permit", () => {
  const permit = new FakePermit();
  using limits = new StrangerLimits(permit, LONG);
  limits.markAuthenticated();
  assert.equal(permit.releases, 1);
  permit.evict();
  assert(!limits.exceeded.aborted);
  assert.equal(limits.takePermit(), undefined);
});

Deno.test("SessionLimits ends a session that git-annex does not admit in time", async () => {
  using limits = new StrangerLimits(undefined, { authTimeoutMs: SHORT_MS });
  using session = limits.beginSession(new FakePermit());
  const keepAlive = setTimeout(() => {}, LONG_MS);
  const reason = await aborted(session.exceeded);
  clearTimeout(keepAlive);
  assert(reason instanceof NotAuthenticated);
  assert.equal(reason.message, "it did not authenticate within 0.005 s");
});

Deno.test("SessionLimits does not end a session that git-annex has admitted", async () => {
  const permit = new FakePermit();
  using limits = new StrangerLimits(undefined, { authTimeoutMs: SHORT_MS });
  using session = limits.beginSession(permit);
  session.markAuthenticated();
  await milliseconds(3 * SHORT_MS);
  assert(!session.exceeded.aborted);
  assert(permit.isAuthenticated);
});

Deno.test("StrangerLimits limits the bytes of a peer until git-annex has admitted it", async () => {
  const { closed, connection, memory } = noMemory();
  using limits = new StrangerLimits(new FakePermit(), LONG);
  limits.limitBytes(connection, memory, () => {});
  assert.equal(await closed, 4n);
  const admitted = noMemory();
  using others = new StrangerLimits(new FakePermit(), LONG);
  others.limitBytes(admitted.connection, admitted.memory, () => {});
  using session = others.beginSession(new FakePermit());
  session.markAuthenticated();
  assert.equal(await Promise.race([admitted.closed, milliseconds(20)]), undefined);
});

Deno.test("StrangerLimits does not limit the bytes of a peer that was dialed", async () => {
  const { closed, connection, memory } = noMemory();
  using limits = new StrangerLimits(undefined);
  limits.limitBytes(connection, memory, () => {});
  assert.equal(await Promise.race([closed, milliseconds(20)]), undefined);
});

Deno.test("StrangerLimits no longer limits the bytes of a connection that has ended", async () => {
  const { closed, connection, memory } = noMemory();
  const limits = new StrangerLimits(new FakePermit(), LONG);
  limits.limitBytes(connection, memory, () => {});
  limits[Symbol.dispose]();
  assert.equal(await Promise.race([closed, milliseconds(20)]), undefined);
});
