import assert from "node:assert/strict";
import { join } from "node:path";
import { describeUp, runningUp, UpEntry } from "./entry.ts";
import { Failure } from "../console/failure.ts";

Deno.test({
  name: "UpEntry is found with its state while it is there, and one at a time",
  ignore: Deno.build.os === "windows",
  async fn() {
    const gitDir = await Deno.makeTempDir();
    try {
      const repository = { gitDir };
      assert.equal(await runningUp(repository), undefined);
      const entry = await UpEntry.claim(repository);
      assert.equal(await UpEntry.claim(repository), undefined);
      entry!.state = "serving";
      const { pid, state, where } = (await runningUp(repository))!;
      assert.deepEqual([pid, state], [Deno.pid, "serving"]);
      assert.equal(describeUp((await runningUp(repository))!), `git-annex-p2p-iroh up (${where})`);
      entry![Symbol.dispose]();
      assert.equal(await runningUp(repository), undefined);
      using _next = await UpEntry.claim(repository);
      assert.equal((await runningUp(repository))!.state, "starting");
      for (const damaged of ["", "{", "null", '{"pid":"x"}', '{"pid":1,"since":1}']) {
        await Deno.writeTextFile(join(gitDir, "annex/p2p-iroh/up"), damaged);
        assert.equal(await runningUp(repository), undefined, damaged);
      }
    } finally {
      await Deno.remove(gitDir, { recursive: true });
    }
  },
});

Deno.test("UpEntry says that a repository cannot be written to", async () => {
  const gitDir = await Deno.makeTempDir();
  try {
    await Deno.writeTextFile(join(gitDir, "annex"), "");
    await assert.rejects(UpEntry.claim({ gitDir }), Failure);
  } finally {
    await Deno.remove(gitDir, { recursive: true });
  }
});
