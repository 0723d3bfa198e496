/** Notices the first bytes of git-annex that come on the home stream of a session. */

import type { Duplex } from "../streams/duplex.ts";
import { FrameError, FrameReader } from "./frames.ts";

const ignore = () => {};

/** Returns a stream with the same bytes. @param onData Called once, when the first data has come. */
export function withFirstData(stream: Duplex, onData: () => void): Duplex {
  const reader = stream.readable.getReader();
  let frames: FrameReader | undefined = new FrameReader({
    start: ignore,
    data() {
      if (frames) onData();
      frames = undefined;
    },
    end: ignore,
    ack: ignore,
    stop: ignore,
    probe: ignore,
    echo: ignore,
  });
  return {
    readable: new ReadableStream({
      async pull(controller) {
        const { value } = await reader.read();
        if (!value) return controller.close();
        try {
          frames?.push(value);
        } catch (error) {
          if (!(error instanceof FrameError)) throw error;
          frames = undefined; // the session finds the same
        }
        controller.enqueue(value);
      },
      cancel: (reason) => reader.cancel(reason),
    }, { highWaterMark: 0 }),
    writable: stream.writable,
  };
}
