/** What may become a lane: until it does, both ends say on it no more than a few bytes. */

import { Buffer } from "node:buffer";
import { timingSafeEqual } from "node:crypto";
import { abortable } from "../async/abort.ts";
import { LaneError, type Transport } from "./lane.ts";
import { SECRET_BYTES } from "./offer.ts";

const ACCEPTED = 1, NOMINATED = 2;

/** A connection on which one end waits for words of a known length. */
export class Candidate implements Transport {
  readonly kind: Transport["kind"];
  readonly remote: string;
  #transport: Transport;
  /** What {@linkcode readExactly} has left over. */
  #rest: Uint8Array<ArrayBuffer> | undefined;

  private constructor(transport: Transport) {
    this.kind = transport.kind;
    this.remote = transport.remote;
    this.#transport = transport;
  }

  /** The end that has dialed: shows the secret, and waits to be let in. @throws {LaneError}, or the signal's reason. */
  static async authenticate(
    transport: Transport,
    secret: Uint8Array,
    signal: AbortSignal,
  ): Promise<Candidate> {
    return await new Candidate(transport).#closeUnless(async (candidate) => {
      await abortable(candidate.write(secret), signal);
      const [answer] = await abortable(candidate.readExactly(1), signal);
      if (answer !== ACCEPTED) throw new LaneError("it was not let in");
    });
  }

  /** The end that was dialed: lets in who shows the secret. @throws {LaneError}, or the signal's reason. */
  static async verify(
    transport: Transport,
    secret: Uint8Array,
    signal: AbortSignal,
  ): Promise<Candidate> {
    return await new Candidate(transport).#closeUnless(async (candidate) => {
      const shown = await abortable(candidate.readExactly(SECRET_BYTES), signal);
      if (!timingSafeEqual(Buffer.from(shown), Buffer.from(secret))) {
        throw new LaneError(`${candidate.remote} does not know the secret`);
      }
      await abortable(candidate.write(Uint8Array.of(ACCEPTED)), signal);
    });
  }

  async #closeUnless(prepare: (candidate: Candidate) => Promise<void>): Promise<Candidate> {
    try {
      await prepare(this);
      return this;
    } catch (error) {
      this.close();
      throw error;
    }
  }

  /** Tells the other end that it is this one. */
  async nominate(): Promise<void> {
    await this.write(Uint8Array.of(NOMINATED));
  }

  /** Waits to be told so. @throws {LaneError} if something else comes, or nothing more. */
  async awaitNomination(): Promise<void> {
    const [message] = await this.readExactly(1);
    if (message !== NOMINATED) throw new LaneError("it says something else");
  }

  /** So many bytes and not one more. @throws {LaneError} if it ends before. */
  async readExactly(length: number): Promise<Uint8Array> {
    const bytes = new Uint8Array(length);
    for (let filled = 0; filled < length;) {
      const piece = await this.read();
      if (!piece) throw new LaneError("it ended early");
      const part = piece.subarray(0, length - filled);
      bytes.set(part, filled);
      filled += part.length;
      if (part.length < piece.length) this.#rest = piece.subarray(part.length);
    }
    return bytes;
  }

  async read(): Promise<Uint8Array<ArrayBuffer> | undefined> {
    const rest = this.#rest;
    this.#rest = undefined;
    return rest ?? await this.#transport.read();
  }

  async write(bytes: Uint8Array): Promise<void> {
    await this.#transport.write(bytes);
  }

  close(): void {
    this.#transport.close();
  }

  keep(): void {
    this.#transport.keep?.();
  }
}
