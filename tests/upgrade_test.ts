/** What the user reads if the program was upgraded while its listener runs. */

import assert from "node:assert/strict";
import { dirname, join } from "node:path";
import { RUN_FLAGS } from "../tasks/run_flags.ts";
import { makeFriends } from "./friends.ts";
import { answered, DIALING, THROUGH, unlessSlow } from "./warm.ts";
import { scenario, type TestEnv } from "./testenv.ts";

const root = dirname(import.meta.dirname!);
const VERSION = "9.9.9";

/** Copies the source, and gives the copy another version. @returns The command that starts it. */
async function upgrade(env: TestEnv): Promise<string[]> {
  const copy = join(env.dir, "upgraded");
  await Deno.mkdir(copy);
  const sources = ["main.ts", "lib", "deno.lock"].map((name) => join(root, name));
  await env.ok(["cp", "-R", ...sources, copy]);
  const config = JSON.parse(await Deno.readTextFile(join(root, "deno.json")));
  await Deno.writeTextFile(
    join(copy, "deno.json"),
    JSON.stringify({ ...config, version: VERSION }),
  );
  const options = ["--config", join(copy, "deno.json"), "--frozen", "--cached-only", "--no-check"];
  return [Deno.execPath(), "run", "--quiet", ...options, ...RUN_FLAGS, join(copy, "main.ts")];
}

scenario("upgrade: doctor, status and, once, the log say to restart up or remotedaemon", {
  limitMs: 90_000,
}, async (env) => {
  const [a, b] = await makeFriends(env);
  const address = await a.at(), program = await upgrade(env);
  const on = { on: b.host, cwd: b.repository };
  for (let i = 0; i < 2; i++) {
    const run = await env.run([...program, address], {
      ...on,
      stdin: "word",
      env: { GIT_ANNEX_P2P_IROH_LOG: "debug" },
    });
    assert.deepEqual([run.code, run.stdout], [0, answered("word")], run.stderr);
    assert.match(run.stderr, DIALING);
  }
  const noted = (await b.log()).match(/this listener is of version .*/g)!;
  assert.equal(noted.length, 1);
  assert.match(
    noted[0],
    /^this listener is of version \S+, and the program of version 9\.9\.9; restart/,
  );

  const status = await env.ok([...program, "status"], on);
  assert.match(
    status,
    /process \d+, of version \S+; this is version 9\.9\.9, restart up or git annex/,
  );
  const json = JSON.parse(await env.ok([...program, "status", "--json"], on));
  assert.deepEqual([json.version, json.listener.since], [VERSION, null]);
  assert.match(json.listener.version, /^\d+\.\d+\.\d+/);
  const doctor = await env.run([...program, "doctor"], on);
  assert.match(doctor.stdout, /^warning .*the listener is of version .*; restart up or git annex/m);

  b.listener.kill("SIGTERM");
  await b.listener.ended;
  const listener = await env.start([...program, b.address, b.fakeAnnex.path], on);
  await listener.says(/serving/);
  const connect = () =>
    env.run([...program, address], {
      ...on,
      stdin: "word",
      env: { GIT_ANNEX_P2P_IROH_LOG: "debug" },
    });
  assert.match((await unlessSlow(connect)).stderr, THROUGH);
  assert.doesNotMatch((await env.run([...program, "doctor"], on)).stdout, /of version/);
});
