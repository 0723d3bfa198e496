import assert from "node:assert/strict";
import { eventLoopTurns } from "../../tests/event_loop.ts";
import { pipe } from "../../tests/pipe.ts";
import type { Connection } from "../iroh/connection.ts";
import { type Duplex, StreamError } from "../streams/duplex.ts";
import { FrameWriter } from "./frames.ts";
import { newSessionId, readStreamHeader, StreamType } from "./mux.ts";
import { type OpenedSession, SessionOpener } from "./session_opener.ts";

const never = new AbortController().signal;

/** A peer, and the opener at this end. */
class Scene {
  readonly opener: SessionOpener;
  /** Streams that have been opened, at the peer. */
  readonly streams: Duplex[] = [];
  readonly opened: OpenedSession[] = [];
  readonly closed = Promise.withResolvers<StreamError>();

  constructor(isStranger = true, turnTimeoutMs?: number) {
    const connection = {
      closedError: this.closed.promise,
      open: () => {
        const [mine, peers] = pipe();
        this.streams.push(peers);
        return Promise.resolve(mine);
      },
    };
    this.opener = new SessionOpener(connection as unknown as Connection, isStranger, turnTimeoutMs);
  }

  /** Opens sessions; those that have to wait follow later. */
  async open(count: number, isResumed = false, signal = never): Promise<Promise<unknown>[]> {
    const opening = Array.from({ length: count }, async () => {
      const opened = await this.opener.open({ id: newSessionId(), isResumed }, signal);
      this.opened.push(opened);
    });
    for (const one of opening) one.catch(() => {}); // the test looks at it
    await eventLoopTurns(3);
    return opening;
  }

  /** Sends frames on a stream, which the opener reads. */
  async say(index: number, compose: (frames: FrameWriter) => void): Promise<void> {
    const frames = new FrameWriter(100);
    compose(frames);
    const writer = this.streams[index]!.writable.getWriter();
    const writing = writer.write(frames.take()!.slice());
    const reader = this.opened[index]!.stream.readable.getReader();
    await reader.read();
    await writing;
    reader.releaseLock();
    writer.releaseLock();
    await eventLoopTurns(3);
  }
}

Deno.test("SessionOpener opens four sessions, and others once data has come on one", async () => {
  const scene = new Scene();
  await scene.open(8);
  assert.equal(scene.streams.length, 4);
  await scene.say(2, (frames) => {
    frames.start(1);
    frames.ack(5, 300_000);
  });
  assert.equal(scene.streams.length, 4); // git-annex has said nothing yet
  await scene.say(2, (frames) => frames.data(0, Uint8Array.of(1)));
  assert.equal(scene.streams.length, 8);
  await scene.open(8);
  assert.equal(scene.streams.length, 16);
  for (const stream of scene.streams) {
    assert.equal((await readStreamHeader(stream)).type, StreamType.SESSION);
  }
});

Deno.test("SessionOpener opens another session when one of four has ended", async () => {
  const scene = new Scene();
  await scene.open(5);
  scene.opened[0]![Symbol.dispose]();
  await eventLoopTurns(3);
  assert.equal(scene.streams.length, 5);
});

Deno.test("SessionOpener does not hold back sessions with a peer that is no stranger, or that are resumed", async () => {
  const known = new Scene(false), other = new Scene();
  await known.open(8);
  assert.equal(known.streams.length, 8);
  await other.open(8, true);
  assert.equal(other.streams.length, 8);
});

Deno.test("SessionOpener lets the peer decide after a while", async () => {
  const scene = new Scene(true, 1);
  const opening = await scene.open(5);
  await Promise.all(opening);
  assert.equal(scene.streams.length, 5);
});

Deno.test("SessionOpener: a session that waits ends with its signal, or with the connection", async () => {
  const scene = new Scene(), controller = new AbortController();
  await scene.open(4);
  const [waiting] = await scene.open(1, false, controller.signal);
  controller.abort(new Error("given up"));
  await assert.rejects(waiting!, /given up/);
  const [other] = await scene.open(1);
  scene.closed.resolve(new StreamError("lost", "it is lost"));
  await other; // to open a stream on a connection that has ended fails
});

Deno.test("SessionOpener has room for sessions and their lanes on 96 streams, and again when they end", async () => {
  const scene = new Scene(false);
  await scene.open(94);
  assert(scene.opener.hasRoom);
  await scene.open(1);
  assert(!scene.opener.hasRoom);
  scene.opened[0]![Symbol.dispose]();
  assert(scene.opener.hasRoom);
  await scene.opened[1]!.openLane(never);
  assert(!scene.opener.hasRoom);
  scene.opened[1]![Symbol.dispose]();
  assert(scene.opener.hasRoom);
});
