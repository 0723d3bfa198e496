/** This program and dumbpipe, which many peers run in its place, reach each other. */

import assert from "node:assert/strict";
import { join } from "node:path";
import { decodeTicket, encodeTicket, samePublicKey } from "../lib/repository/ticket.ts";
import { makeNetwork } from "./network.ts";
import {
  AUTH_SUCCESS,
  AUTH_SUCCESS_BYTES,
  checksumOf,
  dumbpipeListener,
  echo,
  FakeAnnex,
  logged,
  makePair,
  randomBytes,
  readChecksum,
  ROUTES,
  writeAll,
} from "./pair.ts";
import { scenario, type Tool } from "./testenv.ts";
import { python } from "./tools.ts";

/** Size in each direction, which dumbpipe and this program transfer in a few seconds. */
const PAYLOAD_BYTES = 12_000_000;

/** Admits a peer; then both ends send at once. */
function exchange(back: Uint8Array): {
  handle: (connection: Deno.UnixConn) => Promise<void>;
  arrived: Promise<{ length: number; checksum: string }>;
} {
  const arrived = Promise.withResolvers<{ length: number; checksum: string }>();
  return {
    arrived: arrived.promise,
    async handle(connection) {
      await writeAll(connection, AUTH_SUCCESS_BYTES);
      const reading = readChecksum(connection);
      await writeAll(connection, back);
      await connection.closeWrite();
      arrived.resolve(await reading);
    },
  };
}

for (const route of ROUTES) {
  const needs: Tool[] = [
    "dumbpipe",
    "namespaces",
    ...route === "relay" ? ["iroh-relay"] as const : [],
  ];

  scenario(`${route}: dumbpipe connects to this program, and both send at once`, {
    needs,
    limitMs: 120_000,
  }, async (env) => {
    const there = randomBytes(PAYLOAD_BYTES), back = randomBytes(PAYLOAD_BYTES);
    const { handle, arrived } = exchange(back);
    const pair = await makePair(env, route, handle);
    const dumbpipe = await env.start(["dumbpipe", "connect", pair.dialed], {
      on: pair.network.b,
      stdin: "open",
    });
    await dumbpipe.says(/AUTH-SUCCESS/); // from a peer that is not let in yet, the listener takes little
    await dumbpipe.write(there);
    await dumbpipe.end();
    const run = await dumbpipe.ended;
    assert.equal(run.code, 0);
    assert.equal(
      await checksumOf(run.stdoutBytes.subarray(AUTH_SUCCESS_BYTES.length)),
      await checksumOf(back),
    );
    assert.deepEqual(await arrived, { length: there.length, checksum: await checksumOf(there) });
    await logged(env, pair, /was served after/);
  });

  scenario(`${route}: dumbpipe forwards a TCP port and many connections to this program`, {
    needs,
  }, async (env) => {
    const pair = await makePair(env, route, echo);
    const { b } = pair.network;
    const forward = await env.start(
      ["dumbpipe", "connect-tcp", "--addr", "127.0.0.1:4711", pair.dialed],
      { on: b },
    );
    const answers = (await env.ok(python("ask_over_tcp.py", "4711", "5"), { on: b })).trim();
    const expected = Array.from({ length: 5 }, (_, i) => `${AUTH_SUCCESS}question ${i}`);
    assert.equal(answers, expected.join("|"));
    assert.equal(forward.code, undefined);
  });
}

// Not through a relay: a listener of dumbpipe 0.40 uses only n0's public relays, which no test can reach.
scenario("direct: this program connects to dumbpipe, and both send at once", {
  needs: ["dumbpipe", "namespaces"],
  limitMs: 120_000,
}, async (env) => {
  const there = randomBytes(PAYLOAD_BYTES), back = randomBytes(PAYLOAD_BYTES);
  const { handle, arrived } = exchange(back);
  const { a, b } = await makeNetwork(env, "lan");
  const fakeAnnex = new FakeAnnex(env, join(a.dir, "socket"), handle);
  const { ticket } = await dumbpipeListener(env, a, fakeAnnex.path);
  const run = await env.iroh([ticket], { on: b, stdin: there });
  assert.deepEqual([run.code, run.stderr], [0, ""]);
  assert.equal(
    await checksumOf(run.stdoutBytes.subarray(AUTH_SUCCESS_BYTES.length)),
    await checksumOf(back),
  );
  assert.deepEqual(await arrived, { length: there.length, checksum: await checksumOf(there) });
});

scenario("direct: ten processes connect to one dumbpipe at once", {
  needs: ["dumbpipe", "namespaces"],
}, async (env) => {
  const { a, b } = await makeNetwork(env, "lan");
  const fakeAnnex = new FakeAnnex(env, join(a.dir, "socket"), echo);
  const { ticket } = await dumbpipeListener(env, a, fakeAnnex.path);
  const payloads = Array.from({ length: 10 }, () => randomBytes(100_000));
  const runs = await Promise.all(payloads.map((stdin) => env.iroh([ticket], { on: b, stdin })));
  for (const [i, { code, stdoutBytes }] of runs.entries()) {
    assert.equal(code, 0);
    assert.deepEqual(stdoutBytes.subarray(AUTH_SUCCESS_BYTES.length), payloads[i]!);
  }
});

scenario("direct: connect ends if no process is behind dumbpipe, and says that dumbpipe is gone", {
  waits: true,
  needs: ["dumbpipe", "namespaces"],
  limitMs: 90_000,
}, async (env) => {
  const { a, b } = await makeNetwork(env, "lan");
  const { ticket, started } = await dumbpipeListener(env, a, join(a.dir, "nobody"));
  // dumbpipe closes with code 0 and no reason, as after a session, so the dialer cannot tell.
  const refused = await env.iroh([ticket], { on: b, stdin: "open" });
  assert.deepEqual([refused.code, refused.stdout, refused.stderr], [0, "", ""]);

  started.kill("SIGKILL");
  await started.ended;
  const gone = await env.iroh([ticket], { on: b, stdin: "" });
  assert.match(gone.stderr, /^git-annex-p2p-iroh: cannot reach the peer; tried .*\n$/);
  assert.equal(gone.code, 1);
});

scenario("dumbpipe's ticket names the same peer as this program's address", {
  needs: ["dumbpipe", "namespaces"],
}, async (env) => {
  const { a } = await makeNetwork(env, "lan");
  const { ticket } = await dumbpipeListener(env, a, join(a.dir, "socket"));
  const decoded = decodeTicket(ticket);
  const bare = encodeTicket({ publicKey: decoded.publicKey, relays: [] });
  assert(samePublicKey(decodeTicket(bare), decoded));
  assert(decoded.direct.includes(`${a.ip}:47000`), String(decoded.direct));
});

scenario("dumbpipe with a round trip of 50 ms never reports a lost connection", {
  needs: ["dumbpipe", "namespaces"],
  limitMs: 90_000,
}, async (env) => {
  const a = await makePair(env, "long cable", async (connection) => {
    await writeAll(connection, AUTH_SUCCESS_BYTES);
    await connection.read(new Uint8Array(100));
  });
  // One in seven did when the listener closed as soon as it had all data.
  for (let i = 0; i < 40; i++) {
    const options = { on: a.network.b, stdin: "open" } as const;
    const dumbpipe = await env.start(["dumbpipe", "connect", a.dialed], options);
    await dumbpipe.write("x");
    await dumbpipe.says(/AUTH-SUCCESS/); // and the end of the stream
    await dumbpipe.end();
    const run = await dumbpipe.ended;
    assert.deepEqual([run.code, run.stdout], [0, AUTH_SUCCESS], run.stderr);
  }
});
