/** Connections that a listener keeps, and the processes of its repository that go through it. */

import assert from "node:assert/strict";
import { join } from "node:path";
import { openSession } from "../lib/hub/client.ts";
import { findHub, type HubEntry } from "../lib/hub/entry.ts";
import { parseSettings } from "../lib/settings.ts";
import { decodeTicket } from "../lib/ticket.ts";
import { Session } from "../lib/wire/session.ts";
import { type Friend, makeFriends } from "./friends.ts";
import { AUTH_SUCCESS, checksumOf, randomBytes } from "./pair.ts";
import { promise, type Started } from "./testenv.ts";

const THROUGH = /through the running listener/;
const answered = (text: string) => AUTH_SUCCESS + text;

promise(
  "warm: processes go through the listener of their repository, on one connection",
  {},
  async (env) => {
    const [a, b] = await makeFriends(env);
    const address = await a.at();
    for (let i = 0; i < 3; i++) {
      const run = await (await b.connect(address, { stdin: `${i}` })).ended;
      assert.deepEqual([run.code, run.stdout], [0, answered(`${i}`)], run.stderr);
      assert.match(run.stderr, THROUGH);
      assert.doesNotMatch(run.stderr, /dialing/);
    }
    // The peer sees who it is, and the other way round takes the same connection.
    assert.equal((await a.log()).match(new RegExp(`${b.key} .* connected`, "g"))!.length, 3);
    const back = await (await a.connect(await b.at(), { stdin: "back" })).ended;
    assert.deepEqual([back.code, back.stdout], [0, answered("back")], back.stderr);
    assert.match(back.stderr, THROUGH);
    const [there] = /\(direct .*?\)/.exec(await a.log())!;
    const [here] = new RegExp(`${a.key} (\\(direct .*?\\)) connected`).exec(await b.log())!.slice(
      1,
    );
    assert.match(there, /direct 127/);
    assert.equal(here, `(direct ${(await a.at(), await portOf(a))})`);
  },
);

/** Where a friend's endpoint is seen from. */
async function portOf(friend: Friend): Promise<string> {
  return decodeTicket(await friend.at()).direct[0]!;
}

promise("warm: 20 MB each way at once through the listener, by a lane of the process's own", {
  limitMs: 90_000,
}, async (env) => {
  const [a, b] = await makeFriends(env);
  const data = randomBytes(20_000_000);
  const run = await (await b.connect(await a.at(), { stdin: data })).ended;
  assert.equal(run.code, 0, run.stderr);
  assert.match(run.stderr, THROUGH);
  assert.match(run.stderr, /lane: TLS with/);
  assert.equal(
    await checksumOf(run.stdoutBytes.subarray(AUTH_SUCCESS.length)),
    await checksumOf(data),
  );
});

promise(
  "warm: the addon is not loaded by a process that goes through the listener",
  {},
  async (env) => {
    const [a, b] = await makeFriends(env);
    const mapsOf = async (process: Started) => {
      await process.says(/AUTH-SUCCESS/);
      return await Deno.readTextFile(`/proc/${process.pid}/maps`);
    };
    const warm = await b.connect(await a.at(), { stdin: "open" });
    assert.doesNotMatch(await mapsOf(warm), /\.node/);
    const cold = await b.connect(await a.at(), {
      stdin: "open",
      env: { GIT_ANNEX_P2P_IROH_WARM: "false" },
    });
    assert.match(await mapsOf(cold), /\.node/);
    for (const process of [warm, cold]) {
      await process.end();
      assert.equal((await process.ended).code, 0);
    }
  },
);

promise("warm: 100 connects at once through one listener", { limitMs: 90_000 }, async (env) => {
  const [a, b] = await makeFriends(env);
  const address = await a.at(), hub = await hubOf(b);
  const sessions = await Promise.all(Array.from({ length: 100 }, async (_, i) => {
    const warm = await openSession(hub, address, env.signal);
    const session = new Session(warm.stream, warm.over);
    await session.writable.getWriter().write(new TextEncoder().encode(`number ${i}`));
    return { warm, session };
  }));
  await env.until("all to be there at once", () => a.service.open === 100);
  await Promise.all(sessions.map(async ({ warm, session }, i) => {
    const reader = session.readable.getReader(), right = answered(`number ${i}`);
    let said = "";
    while (said.length < right.length) {
      said += new TextDecoder().decode((await reader.read()).value);
    }
    assert.equal(said, right);
    warm[Symbol.dispose]();
  }));
  await env.until("all to be gone", () => a.service.open === 0);
  assert.equal(a.service.total, 100);
});

promise("warm: 30 processes at once all get through", { limitMs: 90_000 }, async (env) => {
  const [a, b] = await makeFriends(env);
  const address = await a.at();
  await Promise.all(Array.from({ length: 30 }, async (_, i) => {
    const run = await (await b.connect(address, { stdin: `${i}` })).ended;
    assert.deepEqual([run.code, run.stdout], [0, answered(`${i}`)], run.stderr);
  }));
});

/** The hub of a friend, to be asked by the test itself. */
async function hubOf({ host, repository }: Friend): Promise<HubEntry> {
  const folder = join(host.env.XDG_RUNTIME_DIR!, "git-annex-p2p-iroh");
  const settings = parseSettings("", (name) => host.env[name]);
  const hub = await findHub({ gitDir: join(repository, ".git") }, settings, [folder]);
  assert(hub);
  return hub;
}
