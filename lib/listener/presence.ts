/**
 * What a listener believes of its peers: whether they are there. It is the one source of that, for dials, for
 * processes that wait for a peer, and for `status`.
 *
 * Only a connection proves that a peer is there, since that proves its key. Only a dial that has failed while
 * this host was online makes a peer away.
 */

import { abortable } from "../async/abort.ts";
import {
  AWAY_LIMITS,
  DIAL_LIMITS,
  type DialLimits,
  FAILS_AT_ONCE_MS,
  REPEATED_LIMITS,
} from "../dial/dial_limits.ts";
import { type Absence, Away, type Unreachable } from "../dial/unreachable.ts";

/** Pauses between attempts to reach a peer that is not connected: the first, and the longest. */
const FIRST_PAUSE_MS = 60_000, LONGEST_PAUSE_MS = 15 * 60_000;
/** Part of a pause that is left out at random, so that not all peers are tried at once. */
const JITTER = 0.2;
/** Time over which the attempts are spread that become due for all peers at once. */
const SPREAD_MS = 5_000;
/** Time after a dial that told nothing, in which dials of the same peer are shorter. */
const REPEATED_MS = 60_000;
/**
 * Minimum interval between hints that are taken for one peer. Anyone on the local network can make them up, so it
 * doubles with each hint that was of no use.
 */
const HINT_INTERVAL_MS = 5_000;
/** Maximum peers. A repository has fewer remotes, and those beyond are seldom dialed. */
const MAX_PEERS = 500;

/** What is believed of a peer. */
export type Belief = "unknown" | "here" | "away";

/** How a connection has ended. One that was idle has told nothing of the peer. */
export type ConnectionOutcome = "idle" | "broken off";

/** Remembers when peers were last seen. */
export interface LastSeenMemory {
  of(key: string): Date | undefined;
  note(key: string): void;
}

/** What {@linkcode Presence} needs. */
export interface PresenceOptions {
  readonly lastSeen: LastSeenMemory;
  /** Called when a peer has become away, before which it was not. */
  readonly onAway?: () => void;
  /** Milliseconds of a clock that only goes forward; tests pass another. */
  readonly clock?: () => number;
  /** A number from 0 to 1, without 1; tests pass another. */
  readonly random?: () => number;
}

interface FailedDial {
  readonly at: number;
  /** The routes that its address names. */
  readonly address: string;
  readonly error: Unreachable;
}

/** A peer of which something is known. */
interface Peer {
  belief: Belief;
  /** Open connections with it. */
  connections: number;
  /** Time of the first dial that has failed since the last connection. */
  since: Date | undefined;
  /** The last dial that has failed, while it is away. */
  failure: FailedDial | undefined;
  /** A dial that began before this time, of a connection, a hint or a change of network, tells nothing of it. */
  tellsFrom: number;
  /** Time of the last dial that told nothing of it. */
  unclearAt: number;
  /** Attempts since it was tried for another reason than that a pause was over. */
  attempts: number;
  /** Time at which it is to be tried. */
  dueAt: number;
  /** Time from which a hint is taken, and the interval until the one after it. */
  hintsFrom: number;
  hintIntervalMs: number;
  waiters: Set<PromiseWithResolvers<void>>;
}

/** No remote of the repository has the peer's address, so the peer is not waited for. */
export class NoSuchRemote extends Error {
  override readonly name = "NoSuchRemote";

  constructor() {
    super("no remote has this address");
  }
}

/** What is believed of all peers. Keys are public keys in hex. */
export class Presence {
  readonly #lastSeen: LastSeenMemory;
  readonly #onAway: () => void;
  readonly #clock: () => number;
  readonly #random: () => number;
  readonly #peers = new Map<string, Peer>();
  /** Keys of the repository's remotes. */
  #remotes: ReadonlySet<string> = new Set();

  constructor(
    { lastSeen, onAway = () => {}, clock = () => performance.now(), random = Math.random }:
      PresenceOptions,
  ) {
    this.#lastSeen = lastSeen;
    this.#onAway = onAway;
    this.#clock = clock;
    this.#random = random;
  }

  /** The time by the clock of this presence. */
  get now(): number {
    return this.#clock();
  }

  /** Sets the keys of the repository's remotes, the peers that are tried without a dial. */
  setRemotes(keys: Iterable<string>): void {
    this.#remotes = new Set([...keys].slice(0, MAX_PEERS));
    for (const key of this.#remotes) this.#peer(key);
    for (const [key, { waiters }] of this.#peers) {
      if (this.#remotes.has(key)) continue;
      for (const { reject } of waiters) reject(new NoSuchRemote());
    }
  }

  /** Returns what is believed of a peer. */
  of(key: string): Belief {
    return this.#peers.get(key)?.belief ?? "unknown";
  }

  /** Returns the keys of all peers that are believed away. */
  awayKeys(): string[] {
    return [...this.#peers.keys()].filter((key) => this.of(key) === "away");
  }

  /** Returns since when a peer is away, and when it was last seen; undefined unless it is believed away. */
  absence(key: string): Absence | undefined {
    const { belief, since } = this.#peers.get(key) ?? {};
    return belief === "away" ? { since: since!, lastSeen: this.#lastSeen.of(key) } : undefined;
  }

  /** Returns when a peer was last seen. */
  lastSeen(key: string): Date | undefined {
    return this.#lastSeen.of(key);
  }

  /**
   * Returns the error with which a dial fails at once; undefined if the peer is to be dialed. Another address of
   * the same peer may name other routes, so it is dialed.
   */
  failsAtOnce(key: string, address: string): Away | undefined {
    const failure = this.#peers.get(key)?.failure;
    if (failure?.address !== address) return undefined;
    if (this.#clock() - failure.at >= FAILS_AT_ONCE_MS) return undefined;
    return Away.from(failure.error, this.absence(key)!);
  }

  /** Returns how long a dial may take. */
  limits(key: string): DialLimits {
    const { belief, unclearAt } = this.#peers.get(key) ?? {};
    if (belief === "away") return AWAY_LIMITS;
    const isRepeated = unclearAt !== undefined && this.#clock() - unclearAt < REPEATED_MS;
    return isRepeated ? REPEATED_LIMITS : DIAL_LIMITS;
  }

  /**
   * Resolves as soon as a peer is there.
   *
   * @throws {NoSuchRemote} if it is no remote, or as soon as it no longer is. @throws The signal's reason.
   */
  async untilHere(key: string, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    if (!this.#remotes.has(key)) throw new NoSuchRemote();
    const peer = this.#peer(key);
    if (peer.belief === "here") return;
    const waiter = Promise.withResolvers<void>();
    peer.waiters.add(waiter);
    try {
      await abortable(waiter.promise, signal);
    } finally {
      peer.waiters.delete(waiter);
    }
  }

  /** Notes that a connection with a peer has begun. @param isDialed True if this repository has dialed it. */
  connected(key: string, isDialed: boolean): void {
    // A peer that dials without its listener has a fresh key, which is never seen again.
    if (!isDialed && !this.#peers.has(key)) return;
    const peer = this.#peer(key);
    peer.connections++;
    peer.tellsFrom = this.now;
    this.#believe(peer, "here");
  }

  /** Notes that a connection with a peer has ended. If it was idle, the peer is probably still there. */
  disconnected(key: string, outcome: ConnectionOutcome): void {
    const peer = this.#peers.get(key);
    if (!peer || peer.connections === 0) return;
    peer.connections--;
    this.#lastSeen.note(key);
    if (peer.connections > 0) return;
    if (outcome === "idle") peer.dueAt = this.#clock() + this.#nextPause(peer);
    else this.#doubt(peer);
  }

  /** Notes that a peer was reached on a connection that was not kept. */
  seen(key: string): void {
    this.connected(key, true);
    this.disconnected(key, "idle");
  }

  /**
   * Notes that a dial has failed. It tells nothing of the peer if there was a sign of the peer since it began, or a
   * reason to forget what is believed.
   *
   * @param begunAt When the dial began, as {@linkcode now} tells.
   * @returns The error for the process.
   */
  failed(key: string, address: string, error: Unreachable, begunAt = this.now): Unreachable {
    if (error.verdict !== "away") return this.#unclear(key, error);
    const peer = this.#peer(key), at = this.now;
    if (peer.tellsFrom > begunAt) {
      if (peer.belief !== "here") peer.dueAt = at;
      return this.#unclearError(key, error);
    }
    const isNew = peer.belief !== "away";
    if (isNew) peer.attempts = 0;
    peer.since ??= new Date();
    peer.failure = { at, address, error };
    peer.belief = "away";
    peer.dueAt = at + this.#nextPause(peer);
    if (isNew) this.#onAway();
    return Away.from(error, this.absence(key)!);
  }

  /** Notes a sign that a peer may be there, which anyone could have made: it is tried soon. */
  hinted(key: string): void {
    const peer = this.#peers.get(key), now = this.#clock();
    if (!peer || peer.belief === "here" || now < peer.hintsFrom) return;
    peer.tellsFrom = now;
    peer.hintsFrom = now + peer.hintIntervalMs;
    peer.hintIntervalMs = Math.min(2 * peer.hintIntervalMs, LONGEST_PAUSE_MS);
    this.#doubt(peer);
  }

  /** Forgets who is away, for example since the network has changed. @param key Only that peer; else all. */
  forget(key?: string): void {
    const keys = key === undefined ? [...this.#peers.keys()] : [key];
    for (const key of keys) {
      const peer = this.#peers.get(key);
      if (!peer || peer.connections > 0) continue;
      this.#doubt(peer);
      peer.tellsFrom = this.now;
      peer.hintsFrom = -Infinity;
      peer.hintIntervalMs = HINT_INTERVAL_MS;
      peer.dueAt += keys.length > 1 ? SPREAD_MS * this.#random() : 0;
    }
  }

  /** Withdraws what failed dials have told, since this host was not online. */
  withdraw(): void {
    for (const key of this.awayKeys()) {
      const peer = this.#peer(key);
      this.#believe(peer, "unknown");
      this.#putOff(peer);
    }
  }

  /** Returns the keys of the remotes that are to be tried: first those for which a process waits, then the oldest. */
  due(): string[] {
    const now = this.#clock();
    const due = [...this.#peers].filter(([key, { connections, dueAt }]) =>
      this.#remotes.has(key) && connections === 0 && dueAt <= now
    );
    return due.sort(([, a], [, b]) => isAwaited(b) - isAwaited(a) || a.dueAt - b.dueAt)
      .map(([key]) => key);
  }

  /** Puts off the next attempt to reach a peer, since one is being made, or none makes sense. */
  postpone(key: string): void {
    const peer = this.#peers.get(key);
    if (peer) peer.dueAt = this.#clock() + FIRST_PAUSE_MS;
  }

  /** Notes that a dial has failed, but not because the peer is away, as far as is known. */
  #unclear(key: string, error: Unreachable): Unreachable {
    const peer = this.#peer(key);
    this.#putOff(peer);
    if (error.verdict === "refused") return error;
    // A process that waits would else dial again at once, and again.
    if (peer.connections === 0 && peer.belief === "here") peer.belief = "unknown";
    return this.#unclearError(key, error);
  }

  /** Returns the error for a process whose dial has failed, although the peer is not believed away. */
  #unclearError(key: string, error: Unreachable): Away {
    const { message, hint } = error;
    const since = this.#peers.get(key)?.since ?? new Date();
    return new Away(message, { since, lastSeen: this.#lastSeen.of(key) }, {
      verdict: "unclear",
      ...hint === undefined ? {} : { hint },
      cause: error,
    });
  }

  /** Shortens the next dials, and puts off the next attempt. */
  #putOff(peer: Peer): void {
    peer.unclearAt = this.#clock();
    peer.dueAt = this.#clock() + this.#nextPause(peer);
  }

  /** Nothing is believed of the peer, and it is to be tried at once. */
  #doubt(peer: Peer): void {
    peer.attempts = 0;
    peer.dueAt = this.#clock();
    this.#believe(peer, "unknown");
  }

  #believe(peer: Peer, belief: "unknown" | "here"): void {
    if (belief === "here" && peer.belief !== "here") peer.attempts = 0;
    peer.belief = belief;
    peer.failure = undefined;
    peer.unclearAt = -Infinity;
    if (belief === "unknown") return;
    peer.since = undefined;
    peer.hintIntervalMs = HINT_INTERVAL_MS;
    for (const { resolve } of peer.waiters) resolve();
  }

  #nextPause(peer: Peer): number {
    const pause = Math.min(FIRST_PAUSE_MS * 2 ** peer.attempts++, LONGEST_PAUSE_MS);
    return pause * (1 - JITTER * this.#random());
  }

  #peer(key: string): Peer {
    let peer = this.#peers.get(key);
    if (peer) return peer;
    peer = {
      belief: "unknown",
      connections: 0,
      since: undefined,
      failure: undefined,
      tellsFrom: -Infinity,
      unclearAt: -Infinity,
      attempts: 0,
      dueAt: this.#clock() + SPREAD_MS * this.#random(),
      hintsFrom: -Infinity,
      hintIntervalMs: HINT_INTERVAL_MS,
      waiters: new Set(),
    };
    this.#makeRoom();
    this.#peers.set(key, peer);
    return peer;
  }

  /** Drops peers that are neither remotes, connected nor waited for, if there are too many for another one. */
  #makeRoom(): void {
    for (const [key, { connections, waiters }] of this.#peers) {
      if (this.#peers.size < MAX_PEERS) return;
      const isUsed = this.#remotes.has(key) || connections > 0 || waiters.size > 0;
      if (!isUsed) this.#peers.delete(key);
    }
  }
}

/** Returns 1 if a process waits for a peer, else 0. */
function isAwaited({ waiters }: Peer): number {
  return waiters.size > 0 ? 1 : 0;
}
