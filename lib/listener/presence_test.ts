import assert from "node:assert/strict";
import { AWAY_LIMITS, DIAL_LIMITS, REPEATED_LIMITS } from "../dial/dial_limits.ts";
import { Away, Unreachable } from "../dial/unreachable.ts";
import { NoSuchRemote, Presence } from "./presence.ts";

const FRIEND = "ab".repeat(32), OTHER = "cd".repeat(32), ADDRESS = "endpointa", MINUTE_MS = 60_000;
const never = new AbortController().signal;
const silent = () => new Unreachable("cannot reach the peer; tried relay (no answer)");

const offline = () => new Unreachable("cannot reach the peer; tried relay", { verdict: "unclear" });

/** A presence whose clock the test sets, without jitter. */
function makePresence(random: () => number = () => 0): {
  presence: Presence;
  clock: { now: number };
  seen: Map<string, Date>;
} {
  const clock = { now: 0 }, seen = new Map<string, Date>();
  const lastSeen = {
    of: (key: string) => seen.get(key),
    note: (key: string) => void seen.set(key, new Date(2026, 10, 28, 12)),
  };
  const presence = new Presence({ lastSeen, clock: () => clock.now, random });
  presence.setRemotes([FRIEND, OTHER]);
  return { presence, clock, seen };
}

Deno.test("Presence: a failed dial makes a peer away, and a connection makes it here", () => {
  const { presence } = makePresence();
  assert.equal(presence.of(FRIEND), "unknown");
  presence.failed(FRIEND, ADDRESS, silent());
  assert.equal(presence.of(FRIEND), "away");
  assert.deepEqual(presence.awayKeys(), [FRIEND]);
  presence.connected(FRIEND, false);
  assert.equal(presence.of(FRIEND), "here");
  assert.equal(presence.absence(FRIEND), undefined);
  presence.disconnected(FRIEND, "idle");
  assert.equal(presence.of(FRIEND), "here");
  presence.connected(FRIEND, true);
  presence.disconnected(FRIEND, "broken off");
  assert.equal(presence.of(FRIEND), "unknown");
});

Deno.test("Presence: dials fail at once for 10 s after one that has failed, with its reason", () => {
  const { presence, clock } = makePresence();
  presence.connected(FRIEND, true);
  presence.disconnected(FRIEND, "broken off");
  assert.equal(presence.failsAtOnce(FRIEND, ADDRESS), undefined);
  const failure = presence.failed(FRIEND, ADDRESS, silent());
  const reason = "the peer is away, last seen 2026-11-28 12:00:00; tried relay (no answer)";
  assert.equal(failure.message, reason);
  clock.now = 9_999;
  const again = presence.failsAtOnce(FRIEND, ADDRESS);
  assert(failure instanceof Away && again instanceof Away);
  assert.deepEqual([again.message, again.absence], [reason, failure.absence]);
  assert.equal(presence.failsAtOnce(OTHER, ADDRESS), undefined);
  assert.equal(presence.failsAtOnce(FRIEND, "endpointb"), undefined);
  clock.now = 10_000;
  assert.equal(presence.failsAtOnce(FRIEND, ADDRESS), undefined);
  assert.equal(presence.of(FRIEND), "away");
});

Deno.test("Presence tries a peer that is away after 1, 2, 4, 8 min, and then every 15 min", () => {
  const { presence, clock } = makePresence();
  const pauses: number[] = [];
  for (let i = 0; i < 6; i++) {
    presence.failed(FRIEND, ADDRESS, silent());
    presence.connected(OTHER, true); // it is not due meanwhile
    const begin = clock.now;
    while (presence.due().length === 0) clock.now += 1_000;
    pauses.push((clock.now - begin) / MINUTE_MS);
  }
  assert.deepEqual(pauses, [1, 2, 4, 8, 15, 15]);
  presence.forget(FRIEND);
  presence.failed(FRIEND, ADDRESS, silent());
  clock.now += MINUTE_MS;
  assert.deepEqual(presence.due(), [FRIEND]);
});

Deno.test("Presence leaves out up to a fifth of a pause", () => {
  const { presence, clock } = makePresence(() => 0.5);
  presence.failed(FRIEND, ADDRESS, silent());
  presence.failed(OTHER, ADDRESS, silent());
  clock.now = 0.9 * MINUTE_MS - 1;
  assert.deepEqual(presence.due(), []);
  clock.now++;
  assert.deepEqual(presence.due(), [FRIEND, OTHER]);
});

Deno.test("Presence tries remotes alone, and none that is connected", () => {
  const { presence, clock } = makePresence(), stranger = "ef".repeat(32);
  presence.failed(stranger, ADDRESS, silent());
  presence.connected(OTHER, true);
  clock.now = MINUTE_MS;
  assert.deepEqual(presence.due(), [FRIEND]);
  presence.postpone(FRIEND);
  assert.deepEqual(presence.due(), []);
  presence.disconnected(OTHER, "broken off");
  assert.deepEqual(presence.due(), [OTHER]);
  presence.setRemotes([FRIEND]);
  assert.deepEqual(presence.due(), []);
});

Deno.test("Presence: a hint has a peer tried at once, and useless ones are taken ever less often", () => {
  const { presence, clock } = makePresence(), taken: number[] = [];
  presence.failed(FRIEND, ADDRESS, silent());
  for (; clock.now < 40_000; clock.now += 100) {
    presence.hinted(FRIEND);
    if (presence.of(FRIEND) === "away") continue;
    assert(presence.due().includes(FRIEND));
    assert.equal(presence.failsAtOnce(FRIEND, ADDRESS), undefined);
    taken.push(clock.now);
    presence.failed(FRIEND, ADDRESS, silent());
  }
  assert.deepEqual(taken, [0, 5_000, 15_000, 35_000]);
  presence.connected(FRIEND, false);
  presence.disconnected(FRIEND, "broken off");
  for (let i = 0; i < 2; i++) {
    clock.now += 40_000;
    presence.failed(FRIEND, ADDRESS, silent());
    presence.hinted(FRIEND);
    assert.equal(presence.of(FRIEND), "unknown");
  }
  presence.hinted("ef".repeat(32)); // a stranger's
  assert.equal(presence.of("ef".repeat(32)), "unknown");
});

Deno.test("Presence: a dial that began before a sign of the peer, or another network, makes it not away", () => {
  const { presence, clock } = makePresence();
  const failsLater = (begunAt: number) => presence.failed(FRIEND, ADDRESS, silent(), begunAt);
  clock.now = 1_000;
  presence.connected(FRIEND, false);
  presence.disconnected(FRIEND, "idle");
  clock.now = 8_000;
  assert(failsLater(0) instanceof Away, "remotedaemon's dial may wait");
  assert.deepEqual([presence.of(FRIEND), presence.failsAtOnce(FRIEND, ADDRESS)], [
    "here",
    undefined,
  ]);
  failsLater(2_000);
  assert.equal(presence.of(FRIEND), "away");
  clock.now = 9_000;
  presence.hinted(FRIEND);
  presence.postpone(FRIEND); // the try waits for the dial that is under way
  clock.now = 10_000;
  failsLater(8_000);
  assert.equal(presence.of(FRIEND), "unknown");
  assert(presence.due().includes(FRIEND));
  clock.now = 20_000;
  presence.forget(); // this host was asleep
  failsLater(10_000);
  assert.equal(presence.of(FRIEND), "unknown");
});

Deno.test("Presence believes a peer away that is one too many", () => {
  const { presence } = makePresence();
  presence.setRemotes(Array.from({ length: 1_000 }, (_, i) => `${i}`.padStart(64, "0")));
  for (const key of ["ef".repeat(32), "fe".repeat(32)]) {
    assert(presence.failed(key, ADDRESS, silent()) instanceof Away);
    assert.deepEqual([presence.awayKeys(), presence.of(key)], [[key], "away"]);
  }
});

Deno.test("Presence has a peer tried first for which a process waits", async () => {
  const { presence, clock } = makePresence(), cancel = new AbortController();
  presence.failed(OTHER, ADDRESS, silent());
  clock.now = 1_000;
  presence.failed(FRIEND, ADDRESS, silent());
  clock.now += MINUTE_MS;
  assert.deepEqual(presence.due(), [OTHER, FRIEND]);
  const waiting = presence.untilHere(FRIEND, cancel.signal);
  assert.deepEqual(presence.due(), [FRIEND, OTHER]);
  cancel.abort(new Error("the process is gone"));
  await assert.rejects(waiting, /the process is gone/);
});

Deno.test("Presence: a dial that told nothing makes no peer away, but later ones shorter for a minute", () => {
  const { presence, clock } = makePresence();
  assert.equal(presence.limits(FRIEND), DIAL_LIMITS);
  const unclear = presence.failed(FRIEND, ADDRESS, offline());
  assert.equal(unclear.message, offline().message);
  assert(unclear instanceof Away, "remotedaemon's dial may wait");
  assert.deepEqual([presence.of(FRIEND), presence.limits(FRIEND)], ["unknown", REPEATED_LIMITS]);
  clock.now = MINUTE_MS;
  assert.equal(presence.limits(FRIEND), DIAL_LIMITS);
  presence.failed(FRIEND, ADDRESS, silent());
  assert.equal(presence.limits(FRIEND), AWAY_LIMITS);
  presence.failed(FRIEND, ADDRESS, offline());
  presence.forget();
  assert.equal(presence.limits(FRIEND), DIAL_LIMITS);
});

Deno.test("Presence.forget has every peer tried that is not connected, spread over 5 s", () => {
  const { presence, clock } = makePresence(() => 0.5);
  presence.failed(FRIEND, ADDRESS, silent());
  presence.connected(OTHER, true);
  presence.forget();
  assert.deepEqual([presence.of(FRIEND), presence.of(OTHER)], ["unknown", "here"]);
  clock.now = 2_499;
  assert.deepEqual(presence.due(), []);
  clock.now = 2_500;
  assert.deepEqual(presence.due(), [FRIEND]);
});

Deno.test("Presence.untilHere resolves when the peer is there, and can be cancelled", async () => {
  const { presence } = makePresence();
  const waiting = presence.untilHere(FRIEND, never), cancel = new AbortController();
  const cancelled = presence.untilHere(FRIEND, cancel.signal);
  presence.failed(FRIEND, ADDRESS, silent());
  cancel.abort(new Error("the process is gone"));
  await assert.rejects(cancelled, /the process is gone/);
  presence.connected(FRIEND, false);
  await waiting;
  await presence.untilHere(FRIEND, never);
});

Deno.test("Presence keeps nothing of strangers that dial", () => {
  const { presence, seen } = makePresence();
  presence.connected("ef".repeat(32), false);
  presence.disconnected("ef".repeat(32), "idle");
  assert.deepEqual([presence.of("ef".repeat(32)), seen.size], ["unknown", 0]);
});

Deno.test("Presence: a peer that refuses a dial is not away, and is not waited for", () => {
  const { presence } = makePresence();
  const refused = new Unreachable("cannot reach the peer; tried relay", { verdict: "refused" });
  assert.equal(presence.failed(FRIEND, ADDRESS, refused), refused);
  assert.equal(presence.of(FRIEND), "unknown");
});

Deno.test("Presence.withdraw takes back that peers are away, since this host was offline", () => {
  const { presence } = makePresence();
  presence.failed(FRIEND, ADDRESS, silent());
  presence.connected(OTHER, true);
  presence.withdraw();
  assert.deepEqual([presence.of(FRIEND), presence.of(OTHER)], ["unknown", "here"]);
  assert.deepEqual([presence.limits(FRIEND), presence.due()], [REPEATED_LIMITS, []]);
});

Deno.test("Presence.untilHere fails for a peer that is no remote, also if that ends while it waits", async () => {
  const { presence } = makePresence();
  await assert.rejects(presence.untilHere("ef".repeat(32), never), NoSuchRemote);
  const waiting = presence.untilHere(FRIEND, never), other = presence.untilHere(OTHER, never);
  presence.setRemotes([OTHER]);
  await assert.rejects(waiting, NoSuchRemote);
  presence.connected(OTHER, true);
  await other;
});

Deno.test("Presence.untilHere waits after a dial that told nothing of a peer which was there", async () => {
  const { presence } = makePresence();
  presence.seen(FRIEND);
  await presence.untilHere(FRIEND, never);
  presence.failed(FRIEND, ADDRESS, offline());
  const cancel = new AbortController(), waiting = presence.untilHere(FRIEND, cancel.signal);
  cancel.abort(new Error("still waiting"));
  await assert.rejects(waiting, /still waiting/);
});
