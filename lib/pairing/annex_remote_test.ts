import assert from "node:assert/strict";
import { join } from "node:path";
import { outputIn } from "../repository/git_annex.ts";
import type { AnnexPlace } from "./annex_place.ts";
import { remoteNames, unlinkRemote } from "./annex_remote.ts";

const { signal } = new AbortController();
const URL = "p2p-annex::iroh:endpointabc";

/** Makes a repository with a remote, whose config another git has locked. */
async function makeLocked(): Promise<AnnexPlace & { lock: string } & AsyncDisposable> {
  const folder = await Deno.makeTempDir();
  await outputIn(folder, ["init", "--quiet"], signal);
  await outputIn(folder, ["remote", "add", "bob", URL], signal);
  const lock = join(folder, ".git", "config.lock");
  await Deno.writeTextFile(lock, "");
  return {
    folder,
    repository: { gitDir: join(folder, ".git") },
    lock,
    [Symbol.asyncDispose]: () => Deno.remove(folder, { recursive: true }),
  };
}

Deno.test("unlinkRemote() removes the remote as soon as another git has unlocked the config", async () => {
  await using place = await makeLocked();
  const removed = unlinkRemote(place, "bob", URL, signal, { triesMs: 60_000 });
  setTimeout(() => Deno.remove(place.lock), 200); // git fails within 10 ms if it does not wait
  await removed;
  assert.deepEqual([...await remoteNames(place, signal)], []);
});

Deno.test("unlinkRemote() says why it cannot remove a remote, and leaves another one alone", async () => {
  await using place = await makeLocked();
  await assert.rejects(unlinkRemote(place, "bob", URL, signal, { triesMs: 0 }), {
    name: "CommandFailed",
    message: /^git remote remove .*could not lock config file/,
  });
  await unlinkRemote(place, "bob", `${URL}d`, signal, { triesMs: 0 });
  assert.deepEqual([...await remoteNames(place, signal)], ["bob"]);
});
