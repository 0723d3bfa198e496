import assert from "node:assert/strict";
import { join } from "node:path";
import { UnixSocket } from "../platform/unix_socket.ts";
import { connectToAnnex } from "./annex_socket.ts";
import { Busy, NoService } from "./close_reasons.ts";

const onUnix = { ignore: Deno.build.os === "windows" };
const LIMITS = { queueTimeoutMs: 20, retryIntervalMs: 1 };
const never = new AbortController().signal;

/** Calls `body` with the path of a socket on which a server listens, if `isServed`. */
async function withSocket(
  isServed: boolean,
  body: (path: string) => Promise<void>,
): Promise<void> {
  const folder = await Deno.makeTempDir();
  const path = join(folder, "socket");
  const listener = isServed ? Deno.listen({ transport: "unix", path }) : undefined;
  try {
    await body(path);
  } finally {
    listener?.close();
    await Deno.remove(folder, { recursive: true });
  }
}

/** As Deno says it. */
const TOO_MANY_FILES = Object.assign(new Error("Too many open files"), { code: "EMFILE" });

/** Returns a function that connects like the system, but first says `times` that the queue is full. */
function fullQueue(
  times: number,
  error: Error = new Deno.errors.WouldBlock(),
): { connect: typeof UnixSocket.connect; attempts: () => number } {
  let attempts = 0;
  return {
    connect: (path, see) => {
      if (attempts++ < times) return Promise.reject(error);
      return UnixSocket.connect(path, see);
    },
    attempts: () => attempts,
  };
}

Deno.test("connectToAnnex() waits while git-annex's queue is full", onUnix, async () => {
  await withSocket(true, async (socketPath) => {
    const { connect, attempts } = fullQueue(3);
    const limits = { ...LIMITS, queueTimeoutMs: 60_000 };
    const options = { socketPath, socketRefused: assert.fail, limits, connect };
    (await connectToAnnex(options, () => {}, never))[Symbol.dispose]();
    assert.equal(attempts(), 4);
  });
});

Deno.test("connectToAnnex() waits while this process has too many open files", onUnix, async () => {
  await withSocket(true, async (socketPath) => {
    const { connect, attempts } = fullQueue(3, TOO_MANY_FILES);
    const limits = { ...LIMITS, queueTimeoutMs: 60_000 };
    const options = { socketPath, socketRefused: assert.fail, limits, connect };
    (await connectToAnnex(options, () => {}, never))[Symbol.dispose]();
    assert.equal(attempts(), 4);
  });
});

Deno.test(
  "connectToAnnex() is busy if this process still has too many open files",
  onUnix,
  async () => {
    const { connect } = fullQueue(Infinity, TOO_MANY_FILES);
    const options = { socketPath: "unused", socketRefused: assert.fail, limits: LIMITS, connect };
    await assert.rejects(connectToAnnex(options, () => {}, never), Busy);
  },
);

Deno.test("connectToAnnex() gives up when the queue stays full", onUnix, async () => {
  const { connect } = fullQueue(Infinity);
  const options = { socketPath: "unused", socketRefused: assert.fail, limits: LIMITS, connect };
  await assert.rejects(connectToAnnex(options, () => {}, never), Busy);
});

Deno.test("connectToAnnex() stops waiting when its signal is aborted", onUnix, async () => {
  const { connect } = fullQueue(Infinity);
  const limits = { queueTimeoutMs: 60_000, retryIntervalMs: 60_000 };
  const options = { socketPath: "unused", socketRefused: assert.fail, limits, connect };
  const controller = new AbortController();
  const connecting = connectToAnnex(options, () => {}, controller.signal);
  controller.abort(new Error("given up"));
  await assert.rejects(connecting, /given up/);
});

Deno.test("connectToAnnex() tells that no process listens on the socket", onUnix, async () => {
  await withSocket(false, async (socketPath) => {
    let refused = 0;
    const options = { socketPath, socketRefused: () => void refused++ };
    const expected = { name: "NoService", message: /^git-annex's socket does not answer, no such/ };
    await assert.rejects(connectToAnnex(options, () => {}, never), expected);
    assert.equal(refused, 1);
  });
});

Deno.test("connectToAnnex() does not count another error as a refusal", onUnix, async () => {
  const connect = () => Promise.reject(new Deno.errors.PermissionDenied("denied"));
  const options = { socketPath: "unused", socketRefused: assert.fail, connect };
  await assert.rejects(connectToAnnex(options, () => {}, never), NoService);
});
