/** A connection that may become a lane: how it is authenticated, proven and nominated. */

import { Buffer } from "node:buffer";
import { timingSafeEqual } from "node:crypto";
import { abortable } from "../async/abort.ts";
import { LaneError, type Transport } from "./lane.ts";
import { SECRET_BYTES } from "./offer.ts";

const ACCEPTED = 1, NOMINATED = 2, PROVEN = 3;
/**
 * Bytes that each end sends to prove that packets of full size arrive. Some paths let small packets through
 * and swallow large ones. This is more than two segments of 9,000 bytes (jumbo frames).
 */
const PROOF_BYTES = 24 * 1024;

/** A connection that is not a lane yet. Each end sends messages of known length on it. */
export class Candidate implements Transport {
  readonly kind: Transport["kind"];
  readonly remote: string;
  readonly local: string | undefined;
  #transport: Transport;
  /** Bytes that {@linkcode readExactly} has read and not returned. */
  #rest: Uint8Array<ArrayBuffer> | undefined;

  private constructor(transport: Transport) {
    this.kind = transport.kind;
    this.remote = transport.remote;
    this.local = transport.local;
    this.#transport = transport;
  }

  /**
   * Shows the secret to the end that was dialed, and proves the connection in both directions.
   *
   * @param secret The secret of the other end.
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
      if (answer !== ACCEPTED) throw new LaneError("the other end does not accept the secret");
      await abortable(candidate.write(Uint8Array.of(PROVEN)), signal);
    });
  }

  /**
   * Checks the secret that the dialing end shows.
   *
   * @param secret The secret of this end.
   * @throws {LaneError}, or the signal's reason.
   */
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
   * Proves the connection in both directions, at the end that was dialed, after {@linkcode verify}.
   *
   * @throws {LaneError}, or the signal's reason.
   */
  async prove(signal: AbortSignal): Promise<this> {
    await this.#closeUnless(async () => {
      await abortable(this.readExactly(PROOF_BYTES), signal);
      const answer = new Uint8Array(1 + PROOF_BYTES);
      answer[0] = ACCEPTED;
      await abortable(this.write(answer), signal);
      const [message] = await abortable(this.readExactly(1), signal);
      if (message !== PROVEN) {
        throw new LaneError("the other end does not confirm that large packets arrive");
      }
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

  /** Tells the other end that this connection is chosen. */
  async nominate(): Promise<void> {
    await this.write(Uint8Array.of(NOMINATED));
  }

  /** Waits until the other end chooses this connection. @throws {LaneError} if it does not. */
  async awaitNomination(): Promise<void> {
    const [message] = await this.readExactly(1);
    if (message !== NOMINATED) throw new LaneError("the other end sends no valid nomination");
  }

  /** Reads exactly `length` bytes. @throws {LaneError} if the connection ends before. */
  async readExactly(length: number): Promise<Uint8Array> {
    const bytes = new Uint8Array(length);
    for (let filled = 0; filled < length;) {
      const piece = await this.read();
      if (!piece) throw new LaneError("the other end closed the connection early");
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
