/** What may become a lane: until it does, both ends say on it no more than a few bytes. */

import { Buffer } from "node:buffer";
import { timingSafeEqual } from "node:crypto";
import { abortable } from "../async/abort.ts";
import { LaneError, type Transport } from "./lane.ts";
import { SECRET_BYTES } from "./offer.ts";

const ACCEPTED = 1, NOMINATED = 2, PROVEN = 3;
/**
 * Length of what each end sends to see that packets of full size get through: on a path that swallows
 * them, a connection is made, and then carries nothing. More than two segments of 9,000 bytes.
 */
const PROOF_BYTES = 24 * 1024;

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

  /**
   * Dialer: shows the secret, and waits until it is let in and large packets have come through both ways.
   *
   * @throws {LaneError}, or the signal's reason.
   */
  static async authenticate(
    transport: Transport,
    secret: Uint8Array,
    signal: AbortSignal,
  ): Promise<Candidate> {
    return await new Candidate(transport).#closeUnless(async (candidate) => {
      const shown = new Uint8Array(secret.length + PROOF_BYTES);
      shown.set(secret);
      await abortable(candidate.write(shown), signal);
      const [answer] = await abortable(candidate.readExactly(1 + PROOF_BYTES), signal);
      if (answer !== ACCEPTED) throw new LaneError("it was not let in");
      await abortable(candidate.write(Uint8Array.of(PROVEN)), signal);
    });
  }

  /** Acceptor: lets a dialer in that shows the secret. @throws {LaneError}, or the signal's reason. */
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
    });
  }

  /**
   * Acceptor, after {@linkcode verify}: waits until large packets have come through both ways.
   *
   * @throws {LaneError}, or the signal's reason.
   */
  async prove(signal: AbortSignal): Promise<this> {
    await this.#closeUnless(async () => {
      await abortable(this.readExactly(PROOF_BYTES), signal);
      const answer = new Uint8Array(1 + PROOF_BYTES);
      answer[0] = ACCEPTED;
      await abortable(this.write(answer), signal);
      const [word] = await abortable(this.readExactly(1), signal);
      if (word !== PROVEN) throw new LaneError("it does not say that large packets have come");
    });
    return this;
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
