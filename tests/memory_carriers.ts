/** Carriers of a session in memory: iroh's streams, and lanes that go wrong. */

import { setImmediate } from "node:timers/promises";
import { Notifier } from "../lib/async/notifier.ts";
import { type Duplex, StreamError } from "../lib/streams/duplex.ts";
import type { Lane } from "../lib/lane/lane.ts";
import { type FrameHandler, FrameReader, FrameWriter } from "../lib/protocol/frames.ts";

/** Gives up so many turns of the event loop, without the millisecond that a timer takes at least. */
export async function turns(count: number): Promise<void> {
  for (let i = 0; i < count; i++) await setImmediate();
}

/** Waits for a condition. @throws If it does not come about within 5 s. */
export async function until(condition: () => boolean, what = String(condition)): Promise<void> {
  const limit = performance.now() + 5_000;
  while (!condition()) {
    if (performance.now() > limit) throw new Error(`in vain: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
}

/** How one direction carries bytes. */
export interface DirectionOptions {
  /** Maximum length of a piece that arrives. */
  readonly pieceBytes?: number;
  /** Turns of the event loop that each piece takes. */
  readonly wait?: number;
  /** What goes wrong once `after` bytes have gone. "silent": what follows vanishes, without an error. */
  readonly fault?: "closed" | "silent" | "none";
  readonly after?: number;
}

/** Maximum number of bytes under way, after which a write waits. */
const CAPACITY_BYTES = 64 * 1024;

/** One direction of a carrier. */
class Direction {
  /** Number of calls of {@linkcode write}, and bytes that they were given. */
  writes = 0;
  bytes = 0;
  /** While true, nothing arrives. */
  isHeld = false;
  /** Whether the sender has ended it in order. */
  hasEnded = false;
  #options: Required<DirectionOptions>;
  #pieces: Uint8Array<ArrayBuffer>[] = [];
  #underWay = 0;
  #state: "open" | "silent" | "ended" = "open";
  #readError: unknown;
  #writeError: unknown;
  #changed = new Notifier();

  constructor({
    pieceBytes = 64 * 1024,
    wait = 0,
    fault = "none",
    after = Infinity,
  }: DirectionOptions) {
    this.#options = { pieceBytes, wait, fault, after: fault === "none" ? Infinity : after };
  }

  async write(bytes: Uint8Array): Promise<void> {
    this.writes++;
    const copy = bytes.slice(), { pieceBytes, after, fault } = this.#options;
    for (let at = 0; at < copy.length;) {
      await this.#until(() => this.#underWay < CAPACITY_BYTES || this.#writeError !== undefined);
      if (this.#writeError !== undefined) throw this.#writeError;
      const piece = copy.subarray(at, at + Math.min(pieceBytes, Math.max(1, after - this.bytes)));
      at += piece.length;
      this.bytes += piece.length;
      this.#underWay += piece.length;
      if (this.#state === "open") this.#pieces.push(piece);
      if (this.bytes >= after && this.#state === "open") {
        if (fault === "closed") this.fail(new Error("it is cut"), new Error("it is cut"));
        else this.#state = "silent";
      }
      this.#changed.notify();
    }
  }

  async read(): Promise<Uint8Array<ArrayBuffer> | undefined> {
    await this.#until(() =>
      this.#readError !== undefined ||
      !this.isHeld && (this.#pieces.length > 0 || this.#state === "ended")
    );
    await turns(this.#options.wait);
    if (this.#readError !== undefined) throw this.#readError;
    const piece = this.#pieces.shift();
    this.#underWay -= piece?.length ?? 0;
    this.#changed.notify();
    return piece;
  }

  /** What was written arrives, and then the end, unless it is silent. */
  end(): void {
    this.hasEnded = true;
    if (this.#state === "open") this.#state = "ended";
    this.#changed.notify();
  }

  /** What is under way is lost. */
  fail(readError: unknown, writeError?: unknown): void {
    this.#readError ??= readError;
    this.#writeError ??= writeError;
    this.#changed.notify();
  }

  /** What is written from now on vanishes. */
  silence(): void {
    this.#state = "silent";
  }

  release(): void {
    this.isHeld = false;
    this.#changed.notify();
  }

  async #until(condition: () => boolean): Promise<void> {
    while (!condition()) await this.#changed.next();
  }
}

/** One end of a carrier in memory. */
export interface MemoryEnd {
  /** What this end sends, and what it receives. */
  readonly out: Direction;
  readonly in: Direction;
}

/** Returns both ends of a stream as iroh's are: what is reset or stopped fails with the reason. */
export function memoryStream(
  forth: DirectionOptions = {},
  back: DirectionOptions = forth,
): [Duplex & MemoryEnd, Duplex & MemoryEnd] {
  const there = new Direction(forth), here = new Direction(back);
  return [streamEnd(there, here), streamEnd(here, there)];
}

function streamEnd(out: Direction, into: Direction): Duplex & MemoryEnd {
  return {
    out,
    in: into,
    readable: new ReadableStream({
      async pull(controller) {
        const piece = await into.read();
        if (piece) controller.enqueue(piece);
        else controller.close();
      },
      cancel: (reason) => into.fail(new Error("it is cancelled"), asOfPeer(reason)),
    }, { highWaterMark: 0 }),
    writable: new WritableStream({
      write: (bytes) => out.write(bytes),
      close: () => out.end(),
      abort: (reason) => out.fail(asOfPeer(reason), new Error("it is aborted")),
    }),
  };
}

/** Returns the error of a stream that the peer has given up, as lib/iroh/errors.ts does. */
function asOfPeer(reason: unknown): StreamError {
  const code = reason instanceof StreamError ? reason.code ?? 0n : 0n;
  return code === 0n
    ? new StreamError("reset", "the peer gave up the stream")
    : new StreamError("refused", `code ${code}`, { code });
}

/** One end of a lane in memory. A test may set whether its host has moved. */
export type MemoryLane = Lane & MemoryEnd & { isClosed: boolean };

/** Returns both ends of a lane. If one is closed, what is under way is lost. */
export function memoryLane(
  forth: DirectionOptions = {},
  back: DirectionOptions = forth,
): [MemoryLane, MemoryLane] {
  const there = new Direction(forth), here = new Direction(back);
  return [laneEnd(there, here), laneEnd(here, there)];
}

function laneEnd(out: Direction, into: Direction): MemoryLane {
  return {
    kind: "TLS",
    remote: "192.0.2.1:1",
    out,
    in: into,
    isClosed: false,
    read: () => into.read(),
    write: (bytes) => out.write(bytes),
    close() {
      this.isClosed = true;
      const error = new Error("it is closed");
      for (const direction of [out, into]) direction.fail(error, error);
    },
    hasMoved: () => false,
  };
}

/** A frame as {@linkcode RawPeer} has received it. */
export type ToldFrame = readonly [type: keyof FrameHandler, ...values: number[]];

/** What is on the other end of a carrier if it is no session: a test that speaks in frames. */
export class RawPeer {
  /** Frames that have come. Of data, the parts of a frame come one by one: offset and length. */
  readonly frames: ToldFrame[] = [];
  /** Number of probes that have come. */
  probes = 0;
  /** Called with each probe. */
  onProbe: ((id: number) => Promise<void>) | undefined;
  /** How the carrier ended, once it has: undefined for an orderly end. */
  end: { readonly error?: unknown } | undefined;
  #write: (bytes: Uint8Array) => Promise<void>;

  constructor(
    read: () => Promise<Uint8Array<ArrayBuffer> | undefined>,
    write: (bytes: Uint8Array) => Promise<void>,
  ) {
    this.#write = write;
    this.#run(read).then(() => this.end = {}, (error) => this.end = { error });
  }

  static onLane(lane: Lane): RawPeer {
    return new RawPeer(() => lane.read(), (bytes) => lane.write(bytes));
  }

  async #run(read: () => Promise<Uint8Array<ArrayBuffer> | undefined>): Promise<void> {
    const tell = (type: keyof FrameHandler) => (...values: number[]) =>
      void this.frames.push([type, ...values]);
    const reader = new FrameReader({
      start: tell("start"),
      data: (offset, { length }) => void this.frames.push(["data", offset, length]),
      end: tell("end"),
      ack: tell("ack"),
      stop: tell("stop"),
      probe: (id) => {
        this.frames.push(["probe", id]);
        this.probes++;
        this.onProbe?.(id).catch(() => {}); // the carrier is closed
      },
      echo: tell("echo"),
    });
    for (let piece; (piece = await read());) reader.push(piece);
  }

  /** Sends frames, in one write. */
  async send(compose: (frames: FrameWriter) => void): Promise<void> {
    const frames = new FrameWriter(1 << 21);
    compose(frames);
    await this.#write(frames.take()!);
  }

  /** Sends any bytes. */
  async sendBytes(...bytes: number[]): Promise<void> {
    await this.#write(Uint8Array.from(bytes));
  }

  /** Waits for a frame, and forgets it with those before it. */
  async expect(type: keyof FrameHandler): Promise<ToldFrame> {
    await until(() => this.frames.some(([told]) => told === type), `a frame ${type}`);
    const at = this.frames.findIndex(([told]) => told === type);
    return this.frames.splice(0, at + 1).at(-1)!;
  }
}

/** The other end of a session's home as a {@linkcode RawPeer}. */
export class RawHome extends RawPeer {
  readonly stream: Duplex;
  #reader: ReadableStreamDefaultReader<Uint8Array<ArrayBuffer>>;
  #writer: WritableStreamDefaultWriter<Uint8Array>;

  constructor(stream: Duplex) {
    const reader = stream.readable.getReader(), writer = stream.writable.getWriter();
    writer.closed.catch(() => {}); // writes fail with the same
    super(async () => (await reader.read()).value, (bytes) => writer.write(bytes));
    this.stream = stream;
    this.#reader = reader;
    this.#writer = writer;
  }

  /** Ends the stream. */
  async finish(): Promise<void> {
    await this.#writer.close();
  }

  /** Resets the stream, and stops its other direction. */
  async reset(code: bigint): Promise<void> {
    const reason = new StreamError("refused", "given up", { code });
    await Promise.allSettled([this.#writer.abort(reason), this.#reader.cancel(reason)]);
  }

  /** Stops the other direction alone. */
  async stop(): Promise<void> {
    await this.#reader.cancel();
  }
}
