/** How much has gone to and from each peer, and how fast. */

import type { Connection } from "../iroh/endpoint.ts";

/** Sampled so often, and averaged over so many samples. */
const SAMPLE_MS = 1_000, SAMPLES = 5;
/** Peers that are remembered without being connected. */
const MOST_PEERS = 200;

/** Bytes of git-annex's, since the listener runs. */
export interface ByteCounts {
  readonly sent: number;
  readonly received: number;
}

/** A session that is under way. */
export interface LiveSession {
  readonly key: string;
  /** Whether the peer has opened it. */
  readonly isIncoming: boolean;
  /** How far it is. */
  readonly byteCounts: () => ByteCounts;
  /** By which it goes, if it is of this session alone. */
  readonly connection?: Connection;
  /** Kind and address of the direct connection beside iroh's by which it goes. */
  readonly lane: () => string | undefined;
}

/** What has gone to and from one peer. */
export interface PeerTraffic extends ByteCounts {
  readonly sentPerSecond: number;
  readonly receivedPerSecond: number;
  readonly incoming: number;
  readonly outgoing: number;
  readonly lanes: readonly string[];
  /** Of the sessions under way. */
  readonly connections: readonly Connection[];
}

interface PastTraffic extends ByteCounts {
  /** The sums at the last few times. */
  readonly samples: readonly ByteCounts[];
}

const NONE: PastTraffic = { sent: 0, received: 0, samples: [] };

/** Counts. Dispose of it when the listener stops. */
export class TrafficMeter implements Disposable {
  #live = new Set<LiveSession>();
  /** By public key: what ended sessions have moved. */
  #past = new Map<string, PastTraffic>();
  /** Those whose rate is not known to be nothing. */
  #fading = new Set<string>();
  /** While there are any. */
  #timer: ReturnType<typeof setInterval> | undefined;

  /** A session has begun. @returns To be called when it has ended. */
  begin(session: LiveSession): Disposable {
    const { key } = session, { samples, ...before } = this.#of(key);
    // What moves before the next sample counts as of now.
    if (samples.length === 0 || !this.#fading.has(key)) {
      this.#past.set(key, { ...before, samples: [before] });
    }
    this.#fading.add(key);
    this.#live.add(session);
    this.#timer ??= setInterval(() => this.#sample(), SAMPLE_MS);
    return {
      [Symbol.dispose]: () => {
        if (!this.#live.delete(session)) return;
        const { sent, received } = session.byteCounts(), before = this.#of(session.key);
        this.#past.delete(session.key); // so that it comes last
        this.#past.set(session.key, {
          sent: before.sent + sent,
          received: before.received + received,
          samples: before.samples,
        });
        for (const key of this.#past.keys()) {
          if (this.#past.size <= MOST_PEERS) break;
          this.#past.delete(key);
        }
      },
    };
  }

  /** By public key. */
  of(key: string): PeerTraffic {
    const live = [...this.#live].filter((session) => session.key === key);
    const now = this.#sum(key, live), [first = now] = this.#of(key).samples;
    const seconds = Math.max(1, this.#of(key).samples.length) * SAMPLE_MS / 1000;
    const incoming = live.filter(({ isIncoming }) => isIncoming).length;
    return {
      ...now,
      sentPerSecond: Math.round((now.sent - first.sent) / seconds),
      receivedPerSecond: Math.round((now.received - first.received) / seconds),
      incoming,
      outgoing: live.length - incoming,
      lanes: [...new Set(live.map(({ lane }) => lane()).filter((lane) => lane !== undefined))],
      connections: live.map(({ connection }) => connection).filter((one) => one !== undefined),
    };
  }

  /** Bytes that the sessions under way have moved that were opened here; undefined if there are none. */
  movedFromHere(): number | undefined {
    const live = [...this.#live].filter(({ isIncoming }) => !isIncoming);
    if (live.length === 0) return undefined;
    const counts = live.map(({ byteCounts }) => byteCounts());
    return counts.reduce((sum, { sent, received }) => sum + sent + received, 0);
  }

  /** Public keys of the peers of which something is known. */
  keys(): Set<string> {
    return new Set([...this.#past.keys(), ...[...this.#live].map(({ key }) => key)]);
  }

  #of(key: string): PastTraffic {
    return this.#past.get(key) ?? NONE;
  }

  /** @param live The sessions of that key. */
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
