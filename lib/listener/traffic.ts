/** Counts the bytes that each peer has sent and received, and measures the rates. */

import type { Connection } from "../iroh/connection.ts";

/** Interval between two samples, and number of samples that a rate is the average of. */
const SAMPLE_INTERVAL_MS = 1_000, SAMPLES = 5;
/** Maximum peers without a session that are remembered: more than a repository has. */
const MAX_PEERS = 200;

/** Bytes of git-annex, without those of the protocols. */
export interface ByteCounts {
  readonly sent: number;
  readonly received: number;
}

/** A session that is open. */
export interface LiveSession {
  /** Public key of the peer in hex. */
  readonly key: string;
  /** True if the peer has opened it. */
  readonly isIncoming: boolean;
  /** Returns the bytes so far. */
  readonly byteCounts: () => ByteCounts;
  /**
   * Returns its connection, which is another one once it is resumed. Undefined for an outgoing session, whose
   * connection the pool knows.
   */
  readonly connection?: () => Connection;
  /** Returns kind and address of the lane that carries it; undefined if none does. */
  readonly lane: () => string | undefined;
}

/** Traffic of one peer. */
export interface PeerTraffic extends ByteCounts {
  readonly sentPerSecond: number;
  readonly receivedPerSecond: number;
  /** Number of open sessions that the peer has opened. */
  readonly incoming: number;
  /** Number of open sessions that this repository has opened. */
  readonly outgoing: number;
  readonly lanes: readonly string[];
  /** Connections of the open incoming sessions. */
  readonly connections: readonly Connection[];
}

interface PastTraffic extends ByteCounts {
  /** The sums at the last samples, oldest first. */
  readonly samples: readonly ByteCounts[];
}

const NONE: PastTraffic = { sent: 0, received: 0, samples: [] };

/** Counts the traffic of a listener. Dispose of it when the listener stops. */
export class TrafficMeter implements Disposable {
  #live = new Set<LiveSession>();
  /** Bytes of ended sessions, by public key. */
  #past = new Map<string, PastTraffic>();
  /** Public keys of the peers whose rate may still be non-zero. */
  #fading = new Set<string>();
  /** Undefined if no rate can change. */
  #timer: ReturnType<typeof setInterval> | undefined;
  #sampleIntervalMs: number;

  constructor(sampleIntervalMs: number = SAMPLE_INTERVAL_MS) {
    this.#sampleIntervalMs = sampleIntervalMs;
  }

  /** Counts a session that has begun. @returns Dispose of it when the session has ended. */
  begin(session: LiveSession): Disposable {
    const { key } = session, { samples, ...before } = this.#of(key);
    // The rate counts what moves before the next sample.
    if (samples.length === 0 || !this.#fading.has(key)) {
      this.#past.set(key, { ...before, samples: [before] });
    }
    this.#fading.add(key);
    this.#live.add(session);
    this.#timer ??= setInterval(() => this.#sample(), this.#sampleIntervalMs);
    return {
      [Symbol.dispose]: () => {
        if (!this.#live.delete(session)) return;
        const { sent, received } = session.byteCounts(), before = this.#of(session.key);
        this.#past.delete(session.key); // a map keeps the place of a key that it has
        this.#past.set(session.key, {
          sent: before.sent + sent,
          received: before.received + received,
          samples: before.samples,
        });
        for (const key of this.#past.keys()) {
          if (this.#past.size <= MAX_PEERS) break;
          this.#past.delete(key);
        }
      },
    };
  }

  /** Returns the traffic of a peer. @param key Its public key in hex. */
  of(key: string): PeerTraffic {
    const live = [...this.#live].filter((session) => session.key === key);
    const now = this.#sum(key, live), [first = now] = this.#of(key).samples;
    const seconds = Math.max(1, this.#of(key).samples.length) * this.#sampleIntervalMs / 1000;
    const incoming = live.filter(({ isIncoming }) => isIncoming).length;
    return {
      ...now,
      sentPerSecond: Math.round((now.sent - first.sent) / seconds),
      receivedPerSecond: Math.round((now.received - first.received) / seconds),
      incoming,
      outgoing: live.length - incoming,
      lanes: [...new Set(live.map(({ lane }) => lane()).filter((lane) => lane !== undefined))],
      connections: live.map(({ connection }) => connection?.()).filter((one) => one !== undefined),
    };
  }

  /** Returns the bytes that the open outgoing sessions have moved; undefined if none is open. */
  movedByOutgoing(): number | undefined {
    const live = [...this.#live].filter(({ isIncoming }) => !isIncoming);
    if (live.length === 0) return undefined;
    const counts = live.map(({ byteCounts }) => byteCounts());
    return counts.reduce((sum, { sent, received }) => sum + sent + received, 0);
  }

  /** Returns the public keys of all peers that have traffic. */
  keys(): Set<string> {
    return new Set([...this.#past.keys(), ...[...this.#live].map(({ key }) => key)]);
  }

  #of(key: string): PastTraffic {
    return this.#past.get(key) ?? NONE;
  }

  /** @param live The open sessions of that peer. */
  #sum(key: string, live: readonly LiveSession[] = []): ByteCounts {
    let { sent, received } = this.#of(key);
    for (const session of live) {
      const counts = session.byteCounts();
      sent += counts.sent;
      received += counts.received;
    }
    return { sent, received };
  }

  #sample(): void {
    const active = Map.groupBy(this.#live, ({ key }) => key);
    for (const key of new Set([...active.keys(), ...this.#fading])) {
      const { sent, received, samples } = this.#of(key);
      const next = [...samples, this.#sum(key, active.get(key))].slice(-SAMPLES);
      this.#past.set(key, { sent, received, samples: next });
      const [first] = next, last = next.at(-1)!;
      const isStill = first!.sent === last.sent && first!.received === last.received;
      if (isStill && next.length === SAMPLES && !active.has(key)) this.#fading.delete(key);
      else this.#fading.add(key);
    }
    if (this.#fading.size > 0) return;
    clearInterval(this.#timer);
    this.#timer = undefined;
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
  }
}
