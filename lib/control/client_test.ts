import assert from "node:assert/strict";
import { join } from "node:path";
import { Failure } from "../console/failure.ts";
import { Channel, MessageKind } from "./channel.ts";
import {
  OTHER_TIMEOUTS,
  PEER_TIMEOUTS,
  requestSession,
  requestStatus,
  SESSION_TIMEOUTS,
} from "./client.ts";
import { WITHDRAW_TIMEOUTS } from "./invitations.ts";
import type { ControlSocket } from "./locator.ts";

const SESSION = { id: "00".repeat(16), isResumed: false };
const never = new AbortController().signal;
const timeouts = { acceptedMs: 5_000, answerMs: 5_000 };
const options = { ignore: Deno.build.os === "windows" };

/** Runs `body` while `serve` handles the first connection to a control socket. */
async function withServer(
  serve: (channel: Channel) => Promise<void>,
  body: (locator: ControlSocket) => Promise<void>,
): Promise<void> {
  const folder = await Deno.makeTempDir();
  const locator = { socketPath: join(folder, "socket"), cookie: "secret" };
  try {
    using listener = Deno.listen({ transport: "unix", path: locator.socketPath });
    const serving = listener.accept().then(async (connection) => {
      using channel = new Channel(connection);
      assert.equal((await channel.receive())?.kind, MessageKind.REQUEST);
      await serve(channel);
      await channel.receive().catch(() => {}); // until the process closes the channel
    });
    await body(locator);
    await serving;
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

/** Asks for a session, and waits until it is open. */
async function openSession(locator: ControlSocket, limits = timeouts): Promise<void> {
  using session = await requestSession(locator, "endpointa", SESSION, never, limits);
  await session.open;
}

Deno.test("the timeouts are those of docs/control-socket.md", async () => {
  const page = await Deno.readTextFile(new URL("../../docs/control-socket.md", import.meta.url));
  const rows = [...page.matchAll(/^\| .*\(process\) +((?:\| (?:\d+ s|none) +)+)\|$/gm)]
    .map(([, cells]) =>
      [...cells!.matchAll(/(\d+) s|none/g)].map(([, seconds]) => seconds && Number(seconds) * 1000)
    );
  const columns = [SESSION_TIMEOUTS, WITHDRAW_TIMEOUTS, PEER_TIMEOUTS, OTHER_TIMEOUTS];
  assert.deepEqual(rows, [
    columns.map(({ acceptedMs }) => acceptedMs),
    columns.map(({ answerMs }) => answerMs),
  ]);
});

Deno.test("a listener that does not accept in time is not waited for", options, async () => {
  const limits = { ...timeouts, acceptedMs: 30 };
  await withServer(async () => {}, async (locator) => {
    await assert.rejects(openSession(locator, limits), {
      name: "ControlUnavailable",
      message: "no answer within 30 ms",
    });
  });
});

Deno.test("a session that is accepted and not opened in time fails", options, async () => {
  const serve = (channel: Channel) => channel.send(MessageKind.ACCEPTED);
  const limits = { ...timeouts, answerMs: 30 };
  await withServer(serve, async (locator) => {
    await assert.rejects(openSession(locator, limits), (error) => {
      assert(error instanceof Failure);
      assert.match(error.message, /^this repository's listener has stopped answering$/);
      return true;
    });
  });
});

Deno.test(
  "a status that is accepted and not answered in time is unavailable",
  options,
  async () => {
    const serve = (channel: Channel) => channel.send(MessageKind.ACCEPTED);
    await withServer(serve, async (locator) => {
      await assert.rejects(requestStatus(locator, never, { ...timeouts, answerMs: 30 }), {
        name: "ControlUnavailable",
      });
    });
  },
);

Deno.test(
  "FAILED with a message fails with it, without one the process must dial",
  options,
  async () => {
    for (const message of ["the peer is away", undefined]) {
      const serve = async (channel: Channel) => {
        await channel.send(MessageKind.ACCEPTED);
        await channel.sendJson(MessageKind.FAILED, { message, hint: "try later", exitStatus: 3 });
      };
      await withServer(serve, async (locator) => {
        const expected = message
          ? { name: "Failure", message, hint: "try later", exitStatus: 3 }
          : { name: "ControlUnavailable" };
        await assert.rejects(openSession(locator), expected);
      });
    }
  },
);

Deno.test("a socket on which no process listens is unavailable", async () => {
  const locator = { socketPath: "/nonexistent/socket", cookie: "secret" };
  await assert.rejects(requestStatus(locator, never), { name: "ControlUnavailable" });
});
