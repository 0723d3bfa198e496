import assert from "node:assert/strict";
import { join } from "node:path";
import { encodeTicket } from "../repository/ticket.ts";
import { newIdentity } from "../repository/identity.ts";
import { checkCosts } from "./costs.ts";

/** Makes a repository with these remotes and this git config, and returns what the check finds. */
async function findingsWith(
  remotes: readonly string[],
  config: Record<string, string> = {},
): Promise<string[]> {
  const folder = await Deno.makeTempDir(), gitDir = join(folder, ".git");
  const git = async (...args: string[]) => {
    const command = new Deno.Command("git", { args: ["-C", folder, ...args] });
    const { success, stderr } = await command.output();
    assert(success, `git ${args.join(" ")}: ${new TextDecoder().decode(stderr)}`);
  };
  try {
    await git("init", "--quiet");
    for (const name of remotes) {
      const address = encodeTicket({ publicKey: newIdentity().publicKey, relays: [] });
      await git("config", `remote.${name}.url`, `p2p-annex::iroh:${address}`);
    }
    await git("config", "remote.cloud.url", "https://example.org/annex");
    for (const [key, value] of Object.entries(config)) await git("config", key, value);
    return (await checkCosts({ gitDir })).map(({ what, todo }) => `${what}; ${todo}`);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

Deno.test("checkCosts: a remote of ours without a cost costs 1000, and one of others is not looked at", async () => {
  assert.deepEqual(await findingsWith([]), []);
  assert.deepEqual(await findingsWith(["Bob.at.home"]), [
    "Bob.at.home costs git-annex 1000, its default for p2p, so that it prefers a cloud remote, which costs " +
    "200, to a friend in the same room; run git config remote.Bob.at.home.annex-cost 150",
  ]);
});

Deno.test("checkCosts: names a few of many remotes", async () => {
  const [finding] = await findingsWith(["a", "b", "c", "d", "e", "f", "g"]);
  assert.match(finding!, /^a, b, c, d, e and 2 more cost git-annex 1000/);
  assert.match(finding!, /; run git config remote.a.annex-cost 150, and the same for the others$/);
});

Deno.test("checkCosts: nothing is said of a cost that the user has chosen", async () => {
  for (
    const [key, value] of [
      ["remote.bob.annex-cost", "150"],
      ["remote.bob.annex-cost", "1000"],
      ["remote.bob.annex-cost", "1.5e2"],
      ["remote.bob.annex-cost-command", "echo 33"],
      ["remote.bob.annex-ignore", "true"],
      ["annex.cost", "150"],
    ]
  ) assert.deepEqual(await findingsWith(["bob"], { [key!]: value! }), [], `${key} ${value}`);
});

Deno.test("checkCosts: git-annex ignores a cost that is no number", async () => {
  const config = { "remote.bob.annex-cost": "cheap", "annex.cost": "150" };
  assert.equal((await findingsWith(["bob"], config)).length, 1);
});
