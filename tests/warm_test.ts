/** Connections that a listener keeps, and the processes of its repository that go through it. */

import { newSessionId } from "../lib/protocol/mux.ts";
import assert from "node:assert/strict";
import { IdleTimeout } from "../lib/protocol/connection_use.ts";
import type { InboundSession } from "../lib/protocol/inbound_session.ts";
import { MuxConnection } from "../lib/protocol/peer_connection.ts";
import { Session } from "../lib/protocol/session.ts";
import { makeFriend, makeFriends } from "./friends.ts";
import {
  AUTH_SUCCESS,
  checksumOf,
  dumbpipeListener,
  echo,
  listenerAddresses,
  logged,
  makeConnection,
  randomBytes,
  sendByLane,
} from "./pair.ts";
import { scenario, type Started } from "./testenv.ts";
import { answered, connectThrough, exchange } from "./warm.ts";

scenario(
  "warm: processes go through the listener of their repository on one connection",
  {},
  async (env) => {
    const [a, b] = await makeFriends(env);
    const address = await a.at();
    for (let i = 0; i < 3; i++) {
      const { isWarm, stderr } = await exchange(b, address);
      assert.equal(isWarm, true);
      assert.doesNotMatch(stderr, /dialing/);
    }
    // The peer's log shows the repository's key. Sessions in the other direction use the same connection.
    await logged(env, a, new RegExp(`(${b.key} .* connected[^]*){3}`));
    assert.equal((await exchange(a, await b.at())).isWarm, true);
    const [, seen] = await logged(env, b, new RegExp(`${a.key} \\(direct (.*?)\\) connected`));
    assert((await listenerAddresses(a.host, a.address)).includes(seen!), seen);
  },
);

scenario("warm: a process that goes through the listener makes its own lane for 20 MB each way", {
  limitMs: 90_000,
  takesTurns: true,
}, async (env) => {
  const [a, b] = await makeFriends(env);
  const data = randomBytes(20_000_000);
  const dialer = await connectThrough(b, await a.at());
  await sendByLane(dialer, data, "TLS");
  const run = await dialer.ended;
  assert.equal(run.code, 0, run.stderr);
  assert.equal(
    await checksumOf(run.stdoutBytes.subarray(AUTH_SUCCESS.length)),
    await checksumOf(data),
  );
});

scenario(
  "warm: a process that goes through the listener does not load the addon",
  { needs: ["proc"] },
  async (env) => {
    const [a, b] = await makeFriends(env);
    const mapsOf = async (process: Started) => {
      await process.says(/AUTH-SUCCESS/);
      return await Deno.readTextFile(`/proc/${process.pid}/maps`);
    };
    const proxied = await connectThrough(b, await a.at());
    assert.doesNotMatch(await mapsOf(proxied), /\.node/);
    const cold = await b.connect(await a.at(), {
      stdin: "open",
      env: { GIT_ANNEX_P2P_IROH_WARM: "false" },
    });
    assert.match(await mapsOf(cold), /\.node/);
    for (const process of [proxied, cold]) {
      await process.end();
      assert.equal((await process.ended).code, 0);
    }
  },
);

scenario("warm: the listener leaves a peer that runs dumbpipe to the process", {
  needs: ["dumbpipe"],
}, async (env) => {
  const [a, b] = await makeFriends(env);
  const { ticket } = await dumbpipeListener(env, a.host, a.fakeAnnex.path);
  for (let i = 0; i < 2; i++) {
    const run = await (await b.connect(ticket, { stdin: "word" })).ended;
    assert.deepEqual([run.code, run.stdout], [0, answered("word")], run.stderr);
    assert.match(run.stderr, /not through the running listener/);
  }
});

scenario(
  "warm: four repositories, two of them of one user, reach each other through their listeners",
  {
    limitMs: 90_000,
  },
  async (env) => {
    const [a, b] = await makeFriends(env);
    const c = await makeFriend(env, await env.host("c"));
    const second = await makeFriend(env, b.host, echo, "second"); // of the same user as b
    const all = [a, b, c, second];
    for (const from of all) {
      for (const to of all.filter((to) => to !== from)) {
        assert.equal((await exchange(from, await to.at())).isWarm, true);
        await logged(env, to, new RegExp(`${from.key} .* connected`));
      }
    }
  },
);

scenario("warm: a connection carries sessions of both ends at once, and ends when it is idle", {
  limitMs: 60_000,
}, async (env) => {
  await using both = await makeConnection(env);
  const { dialer, acceptor } = both;
  const serve = async (peer: InboundSession) => {
    peer.markAuthenticated();
    await peer.session.readable.pipeTo(peer.session.writable);
  };
  const idleTimeoutMs = 500;
  const ends = [dialer, acceptor].map((connection) => {
    const isDialed = connection === dialer;
    const mux = new MuxConnection(connection, { isDialed, bind: undefined, serve, idleTimeoutMs });
    return { mux, over: mux.serve(env.signal).catch((error) => error) };
  });
  for (let round = 0; round < 3; round++) {
    await Promise.all(ends.flatMap(({ mux }) =>
      Array.from({ length: 45 }, async (_, i) => {
        using opened = await mux.open(env.signal, { id: newSessionId(), isResumed: false });
        const session = new Session(opened.stream, mux.connection.closedError);
        const writer = session.writable.getWriter(), text = `${round} ${i}`;
        const sending = writer.write(new TextEncoder().encode(text)).then(() => writer.close());
        assert.equal(await new Response(session.readable).text(), text);
        await sending;
        await session.detach(); // which ends the stream: there are more sessions than streams
        assert.equal(mux.idleSince, undefined);
      })
    ));
  }
  const idle = performance.now();
  const [first] = await Promise.all(ends.map(({ over }) => over));
  assert(first instanceof IdleTimeout);
  assert.deepEqual(first.closeReason, [0n, ""]);
  assert(performance.now() - idle > idleTimeoutMs / 2);
});
