/** Which of the connections that get through is taken. One end chooses; the other is told. */

import { delayAwake } from "../async/abort.ts";
import { debug } from "../console/stderr.ts";
import type { Candidate } from "./candidate.ts";

/** So much longer than in time in which this process ran may a head start take. */
const MOST_BY_THE_CLOCK = 30;

/** Takes one of what is added. Close it when one has been taken, or none will be. */
export class Choice {
  #chooses: boolean;
  #headStartMs: number;
  #made = Promise.withResolvers<Candidate>();
  #candidates = new Set<Candidate>();
  #head = new AbortController();
  #over = false;

  /**
   * @param chooses Whether it is this end that chooses.
   * @param headStartMs How long QUIC waits for TLS.
   * @param until Aborted, nothing is taken any more; what was taken by then stays so.
   */
  constructor(chooses: boolean, headStartMs: number, until: AbortSignal) {
    this.#chooses = chooses;
    this.#headStartMs = headStartMs;
    this.#made.promise.catch(() => {}); // told to whoever awaits it
    const giveUp = () => {
      this.close();
      this.#made.reject(until.reason); // which says nothing to one that was taken
    };
    if (until.aborted) giveUp();
    else until.addEventListener("abort", giveUp, { once: true, signal: this.#head.signal });
  }

  /** What was taken. Rejects if that breaks while the other end is told, or nothing is taken. */
  get made(): Promise<Candidate> {
    return this.#made.promise;
  }

  /** What may be taken, when it gets through. */
  async add(coming: Promise<Candidate>): Promise<void> {
    let candidate: Candidate;
    try {
      candidate = await coming;
    } catch (error) {
      return debug(() => `lane: ${error instanceof Error ? error.message : error}`);
    }
    if (this.#over) return candidate.close();
    debug(() => `lane: ${candidate.kind} with ${candidate.remote} gets through`);
    this.#candidates.add(candidate);
    try {
      if (this.#chooses) await this.#choose(candidate);
      else await this.#waitToBeChosen(candidate);
    } catch (error) {
      debug(() => `lane: ${candidate.kind} with ${candidate.remote}: ${error}`);
      this.#candidates.delete(candidate);
      candidate.close();
    }
  }

  async #choose(candidate: Candidate): Promise<void> {
    if (candidate.kind === "QUIC") await this.#headStart();
    if (this.#over) return;
    this.#take(candidate);
    const told = candidate.choose();
    this.#made.resolve(told.then(() => candidate));
    await told;
  }

  /** Over, too, when the choice has been made. */
  async #headStart(): Promise<void> {
    // On a machine with too much to do TLS takes longer, but all the rest does, too.
    const enough = AbortSignal.timeout(MOST_BY_THE_CLOCK * this.#headStartMs);
    const until = AbortSignal.any([this.#head.signal, enough]);
    await delayAwake(this.#headStartMs, until).catch(() => {}); // it is over
  }

  async #waitToBeChosen(candidate: Candidate): Promise<void> {
    await candidate.chosen();
    if (this.#over) return;
    this.#take(candidate);
    this.#made.resolve(candidate);
  }

  #take(candidate: Candidate): void {
    this.#candidates.delete(candidate);
    candidate.keep();
    this.close();
  }

  /** Closes all that was not taken. */
  close(): void {
    this.#over = true;
    this.#head.abort();
    for (const candidate of this.#candidates) candidate.close();
    this.#candidates.clear();
  }
}
