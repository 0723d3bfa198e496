import assert from "node:assert/strict";
import { type Duplex, StreamError } from "../streams/duplex.ts";
import { InboundSession } from "./inbound_session.ts";
import { ResumableSessions } from "./resumable_sessions.ts";
import { MemoryConnection } from "../../tests/memory_connection.ts";
import { memoryStream, until } from "../../tests/memory_carriers.ts";
import { SessionEnd } from "../../tests/session_pair.ts";

const ID = "07".repeat(16);
const LOST = new StreamError("lost", "nothing comes");

/** The acceptor's end of a stream whose end arrives when a test says so, as the promise says. */
function withDelivery({ readable, writable }: Duplex, delivered: Promise<void>): Duplex {
  const writer = writable.getWriter();
  return {
    readable,
    writable: new WritableStream({
      write: (chunk) => writer.write(chunk),
      close: async () => {
        await writer.close();
        await delivered;
      },
      abort: (reason) => writer.abort(reason),
    }),
  };
}

/** An acceptor's session and its opener. */
class Scene {
  readonly resumable = new ResumableSessions<InboundSession>();
  readonly delivered = Promise.withResolvers<void>();
  readonly isHomeLost = Promise.withResolvers<void>();
  readonly opener: SessionEnd;
  readonly inbound: InboundSession;
  readonly acceptor: ReturnType<typeof memoryStream>[0];

  constructor(resumeTimeoutMs = 60_000) {
    const [mine, peers] = memoryStream();
    this.acceptor = peers;
    this.delivered.promise.catch(() => {}); // the session may hear of it later
    this.opener = new SessionEnd(mine, { onHomeLost: () => this.isHomeLost.resolve() });
    const stream = withDelivery(peers, this.delivered.promise);
    const options = { bind: undefined, resumable: this.resumable, resumeTimeoutMs };
    this.inbound = new InboundSession(owner(), stream, ID, options);
    this.inbound.markAuthenticated();
  }

  get known(): InboundSession | undefined {
    return this.resumable.find(ID, this.inbound.connection.publicKey);
  }

  /** Goes on on another connection, whose end arrives at once. */
  async resume(): Promise<void> {
    await this.isHomeLost.promise;
    const [mine, peers] = memoryStream();
    this.opener.session.attachHome(mine, new Promise(() => {}));
    this.known!.resume(owner(), peers);
  }
}

function owner() {
  const connection = new MemoryConnection().asConnection;
  return { connection, markAuthenticated: () => {}, refused: () => {} };
}

/** What the acceptor has done when its last frames are lost with the connection. */
const lastActs: Record<string, (scene: Scene) => Promise<void>> = {
  "its acknowledgement of the end": async ({ opener, inbound, acceptor }) => {
    const writer = inbound.session.writable.getWriter();
    await Promise.all([writer.close(), opener.read()]);
    acceptor.out.silence();
    opener.writer.close().catch(() => {}); // looked at below
    for await (const _ of inbound.session.readable);
  },
  "its word that it reads no further": async ({ opener, inbound, acceptor }) => {
    const writer = inbound.session.writable.getWriter();
    await Promise.all([writer.close(), opener.read()]);
    acceptor.out.silence();
    await inbound.session.readable.cancel();
  },
};

for (const [what, act] of Object.entries(lastActs)) {
  for (const isNoticed of [true, false]) {
    const when = isNoticed ? "" : " before the acceptor has noticed the loss";
    Deno.test(`InboundSession: if ${what} is lost with the connection, the opener resumes and ends in order${when}`, async () => {
      const scene = new Scene(), { opener, inbound, delivered } = scene;
      await opener.write(10);
      await act(scene);
      inbound[Symbol.dispose]();
      await until(() => scene.acceptor.out.hasEnded); // in vain
      if (isNoticed) {
        delivered.reject(LOST);
        await until(() => inbound.isAwaited);
      }
      opener.closeConnection(LOST);
      await scene.resume();
      if (!isNoticed) delivered.reject(LOST);
      await inbound.forgotten;
      assert.equal(scene.known, undefined);
      const error = await opener.writeError;
      if (what.includes("end")) assert.equal(error, undefined);
      else assert(error instanceof StreamError && error.kind === "reset", `${error}`);
      await until(() => !opener.session.isInFlight || what.includes("no further"));
      await opener.session.detach();
    });
  }
}

Deno.test("InboundSession is forgotten at once if its end has arrived", async () => {
  const scene = new Scene(), { inbound, delivered } = scene;
  await lastActs["its acknowledgement of the end"]!(scene);
  inbound[Symbol.dispose]();
  await inbound.over;
  assert.equal(scene.known, inbound);
  delivered.resolve();
  await inbound.forgotten;
  assert.equal(scene.known, undefined);
  await scene.opener.session.detach();
});

Deno.test("InboundSession is forgotten after a while if its opener does not come back", async () => {
  const scene = new Scene(20), { inbound, delivered } = scene;
  await lastActs["its acknowledgement of the end"]!(scene);
  inbound[Symbol.dispose]();
  delivered.reject(LOST);
  await until(() => inbound.isAwaited);
  await until(() => scene.known === undefined);
  await scene.opener.session.detach();
});

Deno.test("InboundSession of a stranger does not wait for its opener", async () => {
  const [mine, peers] = memoryStream();
  const delivered = Promise.reject(LOST);
  delivered.catch(() => {}); // the session hears of it
  const options = { bind: undefined, resumable: new ResumableSessions<InboundSession>() };
  const inbound = new InboundSession(owner(), withDelivery(peers, delivered), ID, options);
  const opener = new SessionEnd(mine, {});
  const closing = inbound.session.writable.getWriter().close();
  await Promise.all([closing, opener.read(), opener.writer.close()]);
  for await (const _ of inbound.session.readable);
  inbound[Symbol.dispose]();
  await inbound.forgotten;
  assert.equal(inbound.isAwaited, false);
  await opener.session.detach();
});
