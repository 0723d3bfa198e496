/** Where settings come from, and what the program says about wrong ones. */

import assert from "node:assert/strict";
import { join } from "node:path";
import { decodeTicket } from "../lib/repository/ticket.ts";
import { freePort, makeLoopback } from "./network.ts";
import {
  addressAt,
  AUTH_SUCCESS,
  echo,
  FakeAnnex,
  makePair,
  makeRepository,
  unknownAddress,
} from "./pair.ts";
import { assertOneLine, type Host, type Run, scenario, type TestEnv } from "./testenv.ts";

const unknown = unknownAddress();

scenario(
  "settings: the program reports a wrong setting, with its key and what would be right",
  {},
  async (env) => {
    const on = await env.host("a");
    const cwd = await makeRepository(env, on, "repository");
    const settings: [key: string, value: string, says: RegExp][] = [
      [
        "relay",
        "sometimes",
        /the setting p2p-iroh.relay is "sometimes"; it must be n0, none, or URLs/,
      ],
      ["lookup", "maybe", /the setting p2p-iroh.lookup is "maybe"; it must be n0 or none/],
      ["bind", "everywhere", /the setting p2p-iroh.bind is "everywhere"; it must be ADDRESS:PORT/],
      [
        "max-connections",
        "many",
        /the setting p2p-iroh.max-connections is "many"; it must be a number/,
      ],
    ];
    const env_ = { GIT_ANNEX_P2P_IROH_LOOKUP: "none", GIT_ANNEX_P2P_IROH_RELAY: "none" };
    for (const [key, value, says] of settings) {
      await env.ok(["git", "config", `p2p-iroh.${key}`, value], { on, cwd });
      // The environment of tests overrides these two settings, so it must not have them here.
      const script =
        `unset GIT_ANNEX_P2P_IROH_RELAY GIT_ANNEX_P2P_IROH_LOOKUP; exec git-annex-p2p-iroh`;
      for (const args of ["address", unknown]) {
        const run = await env.run(["sh", "-c", `${script} ${args}`], { on, cwd, stdin: "" });
        assert.equal(run.code, 1);
        assertOneLine(run.stderr);
        assert.match(run.stderr, says);
      }
      await env.ok(["git", "config", "--unset", `p2p-iroh.${key}`], { on, cwd });
    }
    const run = await env.iroh(["address"], {
      on,
      cwd,
      env: { ...env_, GIT_ANNEX_P2P_IROH_BIND: "x" },
    });
    assert.match(run.stderr, /the setting GIT_ANNEX_P2P_IROH_BIND is "x"/);
  },
);

/** Sets a setting in each place in turn, each of which overrides the one before. */
async function inEachPlace(
  env: TestEnv,
  { on, cwd }: { on: Host; cwd: string },
  key: string,
  values: readonly [user: string, repository: string, environment: string],
  look: (value: string, start: (args: string[]) => Promise<Run>) => Promise<void>,
): Promise<void> {
  const variable = `GIT_ANNEX_P2P_IROH_${key.toUpperCase()}`;
  // The environment of tests may have the variable.
  const environments = [["-u", variable], ["-u", variable], [`${variable}=${values[2]}`]];
  for (const [i, value] of values.entries()) {
    const scope = ["--global", "--local"][i];
    if (scope) await env.ok(["git", "config", scope, `p2p-iroh.${key}`, value], { on, cwd });
    await look(value, (args) => {
      const command = ["env", ...environments[i]!, "git-annex-p2p-iroh", ...args];
      return env.run(command, { on, cwd, stdin: "" });
    });
  }
}

scenario(
  "settings: the repository's override the user's, and the environment overrides both",
  {},
  async (env) => {
    const pair = await makePair(env, "loopback", echo), on = pair.network.b;
    const cwd = await makeRepository(env, on, "repository");
    await inEachPlace(
      env,
      { on, cwd },
      "relay",
      ["https://user.example/", "https://repository.example/", "https://environment.example/"],
      async (value, start) => {
        const { code, stdout } = await start(["address"]);
        assert.equal(code, 0);
        assert.deepEqual(decodeTicket(stdout.trim()).relays, [value]);
        // An address keeps its relay, so the next value needs a new address.
        await Deno.remove(join(cwd, ".git/annex/creds"), { recursive: true });
      },
    );
    await inEachPlace(
      env,
      { on, cwd },
      "bind",
      ["192.0.2.1:7", "192.0.2.2:7", "192.0.2.3:7"], // this host has none of these
      async (value, start) => {
        const { stderr } = await start([pair.dialed]);
        assertOneLine(stderr);
        assert.match(stderr, new RegExp(`cannot open a UDP socket on ${value.replace(/7$/, "0")}`));
      },
    );
  },
);

scenario("settings: the listener listens at the address in git config", {}, async (env) => {
  const { a, b } = await makeLoopback(env), port = freePort();
  const cwd = await makeRepository(env, a, "repository");
  const fakeAnnex = new FakeAnnex(env, join(a.dir, "socket"), echo);
  await env.ok(["git", "config", "p2p-iroh.bind", `127.0.0.1:${port}`], { on: a, cwd });
  const address = (await env.ok(["git-annex-p2p-iroh", "address"], { on: a, cwd })).trim();
  const listener = await env.start(["git-annex-p2p-iroh", address, fakeAnnex.path], { on: a, cwd });
  await listener.says(/serving endpoint/);
  const at = addressAt(address, `127.0.0.1:${port}`);
  const run = await env.iroh([at], { on: b, stdin: "hello\n" });
  assert.deepEqual([run.code, run.stdout, run.stderr], [0, `${AUTH_SUCCESS}hello\n`, ""]);
});
