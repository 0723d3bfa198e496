/** Processes do not run git if their listener knows the git config, and every change of it counts at once. */

import assert from "node:assert/strict";
import { join } from "node:path";
import { type Friend, makeFriends } from "./friends.ts";
import { scenario, type TestEnv } from "./testenv.ts";
import { exchange, locatorFileOf } from "./warm.ts";

/** Counts the runs of git on a friend's host. @returns A function that returns the number since its last call. */
async function countGit(friend: Friend): Promise<() => Promise<number>> {
  const { dir, env } = friend.host, log = join(dir, "git-runs");
  const which = new Deno.Command("sh", { args: ["-c", "command -v git"], env });
  const git = new TextDecoder().decode((await which.output()).stdout).trim();
  const script = `#!/bin/sh\necho "$@" >> '${log}'\nexec '${git}' "$@"\n`;
  await Deno.writeTextFile(join(dir, "bin", "git"), script, { mode: 0o755 });
  let before = 0;
  return async () => {
    const lines = (await Deno.readTextFile(log).catch(() => "")).split("\n").length - 1;
    const since = lines - before;
    before = lines;
    return since;
  };
}

/** Waits until the listener has published the git config, or that only git can tell it. */
async function published(env: TestEnv, friend: Friend, isKnown: boolean): Promise<string> {
  let entries: string | undefined;
  await env.until(`the config ${isKnown ? "" : "not "}to be published`, async () => {
    entries = JSON.parse((await locatorFileOf(friend)).text).config?.entries;
    return (entries !== undefined) === isKnown;
  });
  return entries ?? "";
}

scenario("warm: a process runs no git, and a changed setting counts at once", {
  limitMs: 90_000,
}, async (env) => {
  const [a, b] = await makeFriends(env);
  const address = await a.at(), on = { on: b.host, cwd: b.repository };
  const runs = await countGit(b);
  const git = (...args: string[]) => env.ok([join(b.host.dir, "bin", "git"), ...args], on);
  const restart = async () => {
    b.listener.kill("SIGTERM");
    await b.listener.ended;
    b.listener = await b.listen({ cwd: join(b.repository, "sub") }); // as git-annex may
    await published(env, b, true);
  };
  const isWarm = async () => (await exchange(b, address)).isWarm;
  /** Connects until the listener knows the config again. */
  const knownAgain = () =>
    env.until("the config to be known again", async () => {
      await isWarm();
      return JSON.parse((await locatorFileOf(b)).text).config !== undefined &&
        await runs() >= 0 && await isWarm() && await runs() === 0;
    });

  await Deno.mkdir(join(b.repository, "sub"));
  await restart(); // with the git that counts
  await knownAgain();
  const change = async (...set: string[]) => {
    await git("config", ...set);
    await runs();
    assert.equal(await isWarm(), false, set.join(" "));
    assert(await runs() > 0, set.join(" "));
  };
  const changeBack = async (...unset: string[]) => {
    await git("config", ...unset);
    assert.equal(await isWarm(), true, unset.join(" "));
    await knownAgain();
  };
  // In the repository, in the user's config, and in an included file that does not exist before.
  const external = ["p2p-iroh.external", "192.0.2.1"];
  await change(...external);
  await changeBack("--unset", external[0]!);
  await change("--global", "p2p-iroh.warm", "false");
  await changeBack("--global", "--unset", "p2p-iroh.warm");
  await git("config", "include.path", "included");
  await knownAgain();
  await change("--file", ".git/included", ...external);
  await changeBack("--file", ".git/included", "--unset", external[0]!);

  // The listener says what git says.
  await git("config", "p2p-iroh.max-connections", "7");
  await git("config", "--add", "p2p-iroh.max-connections", "8");
  await git("config", "--file", ".git/included", "p2p-iroh.lan", "no");
  await Deno.writeTextFile(join(b.repository, ".git/config"), "[p2p-iroh]\n\tlane\n", {
    append: true,
  });
  await git("config", "--file", ".git/config", "p2p-iroh.lane", "true");
  await knownAgain();
  const { config } = JSON.parse((await locatorFileOf(b)).text);
  assert.equal(
    config.entries,
    await git("config", "--null", "--get-regexp", "^p2p-iroh\\."),
  );

  // What depends on the work tree or the branch is left to git.
  await git("config", "includeIf.onbranch:elsewhere.path", "of-a-branch");
  assert.equal(await isWarm(), true);
  await published(env, b, false);
  await runs();
  assert.equal(await isWarm(), true);
  assert(await runs() > 0);
});
