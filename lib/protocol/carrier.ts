/** What carries the frames of a session: a stream of iroh's connection, or a lane. */

import { abortable } from "../async/abort.ts";
import { Notifier } from "../async/notifier.ts";
import { type FrameHandler, FrameReader, FrameWriter, PROBE_BYTES } from "./frames.ts";

/** A reliable two-way byte stream. */
export interface Carrier {
  /** Returns the next bytes, at least one, valid until the next call; undefined at the end. */
  read(): Promise<Uint8Array<ArrayBuffer> | undefined>;
  /** Writes all bytes. The caller may change them after that. */
  write(bytes: Uint8Array): Promise<void>;
  /** Ends both directions at once. Pending reads and writes fail or end. May be called again. */
  close(reason?: Error): void;
}

/** A carrier in use by a session: reads and writes its frames, and notes what has come. */
export class AttachedCarrier<Kind extends Carrier = Carrier> {
  readonly carrier: Kind;
  /** Newest generation that the peer has begun on it; 0 before the first. */
  generation = 0;
  /** Number of pieces that have come. */
  piecesReceived = 0;
  /** Whether something was sent after the last piece came, other than the answer to a probe. */
  isUnanswered = false;
  #frames: FrameReader;
  #sending: Promise<void> = Promise.resolve();
  #dropped = new AbortController();
  #heard = new Notifier();
  /** The peer's newest probe that is not answered yet. Older ones need no answer. */
  #toEcho: number | undefined;
  /** The id of the last probe that was sent, and the newest id that the peer has answered. */
  #probed = 0;
  #echoed = 0;

  constructor(carrier: Kind, handler: (from: AttachedCarrier) => FrameHandler) {
    this.carrier = carrier;
    this.#frames = new FrameReader(handler(this));
  }

  /** Aborted when the session no longer uses the carrier. */
  get dropped(): AbortSignal {
    return this.#dropped.signal;
  }

  /** Reads until the carrier ends. @throws What the carrier or a handler throws. */
  async readAll(): Promise<void> {
    for (let piece; !this.dropped.aborted && (piece = await this.carrier.read());) {
      if (this.dropped.aborted) return;
      this.piecesReceived++;
      this.isUnanswered = false;
      this.#frames.push(piece);
      this.#heard.notify();
    }
  }

  /** Writes pieces one after another, once earlier writes have ended. @throws What the carrier throws. */
  async send(...pieces: readonly Uint8Array[]): Promise<void> {
    this.isUnanswered = true;
    const sent = this.#sending.then(async () => {
      for (const piece of pieces) await abortable(this.carrier.write(piece), this.dropped);
      this.isUnanswered = true; // a piece that came meanwhile is no answer
    });
    this.#sending = sent.catch(() => {}); // the caller gets the error
    await sent;
  }

  /** Resolves when the next bytes have come. */
  heard(): Promise<void> {
    return this.#heard.next();
  }

  /** Probes the other end. Resolves when it has answered. @throws What the carrier throws. */
  async probe(): Promise<void> {
    const id = ++this.#probed;
    const frames = new FrameWriter(PROBE_BYTES);
    frames.probe(id);
    await this.send(frames.take()!);
    while (this.#echoed < id) await abortable(this.heard(), this.dropped);
  }

  /** Notes that the other end has answered a probe. */
  onEcho(id: number): void {
    this.#echoed = Math.max(this.#echoed, id);
  }

  /** Answers a probe. If several wait for an answer, only the newest gets one. Never rejects. */
  async echo(id: number): Promise<void> {
    const isOneUnderWay = this.#toEcho !== undefined;
    this.#toEcho = id;
    if (isOneUnderWay) return;
    const sent = this.#sending.then(async () => {
      const frames = new FrameWriter(PROBE_BYTES);
      frames.echo(this.#toEcho!);
      this.#toEcho = undefined;
      await abortable(this.carrier.write(frames.take()!), this.dropped);
    });
    this.#sending = sent.catch(() => {}); // the next write fails, too
    await this.#sending;
  }

  /** Closes the carrier, and gives up pending writes. */
  drop(reason: Error): void {
    if (this.dropped.aborted) return;
    this.#dropped.abort(reason);
    this.carrier.close(reason);
  }
}
