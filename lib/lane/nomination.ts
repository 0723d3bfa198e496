/** Which of the connections that get through is taken. One end chooses; the other is told. */

import { delayWhileRunning } from "../async/abort.ts";
import { debug } from "../console/stderr.ts";
import { splitSocketAddress } from "../platform/socket_address.ts";
import type { Candidate } from "./candidate.ts";

/** So much longer than in time in which this process ran may a head start take. */
const MOST_BY_THE_CLOCK = 30;

/** Takes one of what is added. Close it when one has been taken, or none will be. */
export class Nomination {
  #isControlling: boolean;
  #headStartMs: number;
  #isWorthTrying: (kind: Candidate["kind"], remoteHost: string) => boolean;
  #nominated = Promise.withResolvers<Candidate>();
  #candidates = new Set<Candidate>();
  #closed = new AbortController();
  #isClosed = false;

  /**
   * @param isControlling Whether it is this end that chooses.
   * @param headStartMs How long QUIC waits for TLS.
   * @param isWorthTrying What is not chosen.
   * @param until Aborted, nothing is taken any more; what was taken by then stays so.
   */
  constructor(
    isControlling: boolean,
    headStartMs: number,
    until: AbortSignal,
    isWorthTrying: (kind: Candidate["kind"], remoteHost: string) => boolean = () => true,
  ) {
    this.#isWorthTrying = isWorthTrying;
    this.#isControlling = isControlling;
    this.#headStartMs = headStartMs;
    this.#nominated.promise.catch(() => {}); // told to whoever awaits it
    const giveUp = () => {
      this.close();
      this.#nominated.reject(until.reason); // which says nothing to one that was taken
    };
    if (until.aborted) giveUp();
    else until.addEventListener("abort", giveUp, { once: true, signal: this.#closed.signal });
  }

  /** What was taken. Rejects if that breaks while the other end is told, or nothing is taken. */
  get nominated(): Promise<Candidate> {
    return this.#nominated.promise;
  }

  /** What may be taken, when it gets through. */
  async add(connecting: Promise<Candidate>): Promise<void> {
    let candidate: Candidate;
    try {
      candidate = await connecting;
    } catch (error) {
      return debug(() => `lane: ${error instanceof Error ? error.message : error}`);
    }
    const { host } = splitSocketAddress(candidate.remote);
    const isUnwanted = this.#isControlling && !this.#isWorthTrying(candidate.kind, host);
    if (this.#isClosed || isUnwanted) return candidate.close();
    debug(() => `lane: ${candidate.kind} with ${candidate.remote} gets through`);
    this.#candidates.add(candidate);
    try {
      if (this.#isControlling) await this.#nominate(candidate);
      else await this.#awaitNomination(candidate);
    } catch (error) {
      debug(() => `lane: ${candidate.kind} with ${candidate.remote}: ${error}`);
      this.#candidates.delete(candidate);
      candidate.close();
    }
  }

  async #nominate(candidate: Candidate): Promise<void> {
    if (candidate.kind === "QUIC") await this.#headStart();
    if (this.#isClosed) return;
    this.#settle(candidate);
    const telling = candidate.nominate();
    this.#nominated.resolve(telling.then(() => candidate));
    await telling;
  }

  /** Over, too, when the choice has been made. */
  async #headStart(): Promise<void> {
    // On a machine with too much to do TLS takes longer, but all the rest does, too.
    const enough = AbortSignal.timeout(MOST_BY_THE_CLOCK * this.#headStartMs);
    const until = AbortSignal.any([this.#closed.signal, enough]);
    await delayWhileRunning(this.#headStartMs, until).catch(() => {}); // it is over
  }

  async #awaitNomination(candidate: Candidate): Promise<void> {
    await candidate.awaitNomination();
    if (this.#isClosed) return;
    this.#settle(candidate);
    this.#nominated.resolve(candidate);
  }

  #settle(candidate: Candidate): void {
    this.#candidates.delete(candidate);
    candidate.keep();
    this.close();
  }

  /** Closes all that was not taken. */
  close(): void {
    this.#isClosed = true;
    this.#closed.abort();
    for (const candidate of this.#candidates) candidate.close();
    this.#candidates.clear();
  }
}
