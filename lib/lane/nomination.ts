/** Chooses one of the connections that get through: the end that controls does, and tells the other end. */

import { debug } from "../console/stderr.ts";
import { splitSocketAddress } from "../platform/socket_address.ts";
import type { Candidate } from "./candidate.ts";
import type { Lane } from "./lane.ts";

/** Returns true if a lane of that kind with that IP address is worth a try. */
export type IsWorthTrying = (kind: Lane["kind"], remoteHost: string) => boolean;

/** Takes one of the candidates that are added. Close it once one was taken, or none will be. */
export class Nomination {
  #isControlling: boolean;
  #isWorthTrying: IsWorthTrying;
  #nominated = Promise.withResolvers<Candidate>();
  #candidates = new Set<Candidate>();
  #closed = new AbortController();

  /**
   * @param isControlling True at the end that chooses.
   * @param until When it aborts, no further candidate is taken. One that was taken before stays taken.
   * @param isWorthTrying Tells which candidates may be chosen.
   */
  constructor(
    isControlling: boolean,
    until: AbortSignal,
    isWorthTrying: IsWorthTrying = () => true,
  ) {
    this.#isWorthTrying = isWorthTrying;
    this.#isControlling = isControlling;
    this.#nominated.promise.catch(() => {}); // the caller that awaits it gets the error
    const giveUp = () => {
      this.close();
      this.#nominated.reject(until.reason); // has no effect if a candidate was taken
    };
    if (until.aborted) giveUp();
    else until.addEventListener("abort", giveUp, { once: true, signal: this.#closed.signal });
  }

  /** Resolves to the candidate taken. Rejects if none is, or if it breaks while the other end is told. */
  get nominated(): Promise<Candidate> {
    return this.#nominated.promise;
  }

  /** Aborted once no further candidate is taken. */
  get closed(): AbortSignal {
    return this.#closed.signal;
  }

  /** Adds a candidate, which may be taken once it has got through. */
  async add(connecting: Promise<Candidate>): Promise<void> {
    let candidate: Candidate;
    try {
      candidate = await connecting;
    } catch (error) {
      return debug(() => `lane: ${error instanceof Error ? error.message : error}`);
    }
    const { host } = splitSocketAddress(candidate.remote);
    const isUnwanted = this.#isControlling && !this.#isWorthTrying(candidate.kind, host);
    if (this.closed.aborted || isUnwanted) return candidate.close();
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
    this.#settle(candidate);
    const telling = candidate.nominate();
    this.#nominated.resolve(telling.then(() => candidate));
    await telling;
  }

  async #awaitNomination(candidate: Candidate): Promise<void> {
    await candidate.awaitNomination();
    if (this.closed.aborted) return;
    this.#settle(candidate);
    this.#nominated.resolve(candidate);
  }

  #settle(candidate: Candidate): void {
    this.#candidates.delete(candidate);
    candidate.keep();
    this.close();
  }

  /** Takes no further candidate, and closes those that were not taken. */
  close(): void {
    this.#closed.abort();
    for (const candidate of this.#candidates) candidate.close();
    this.#candidates.clear();
  }
}
