/** git-annex on a local network without relay, DNS and a route to elsewhere. */

import { Annex, ANNEX_TOOLS, linkBoth, syncUntilSame } from "./annex.ts";
import { LAN, LAN_TOOLS } from "./lan.ts";
import { makeNetwork } from "./network.ts";
import { checksumOf, randomBytes } from "./pair.ts";
import { scenario } from "./testenv.ts";

const needs = LAN_TOOLS;

scenario("lan: git-annex syncs, and git fetches and pushes, with a bare address", {
  needs: [...needs, ...ANNEX_TOOLS],
  limitMs: 240_000,
}, async (env) => {
  const network = await makeNetwork(env, "lan");
  const [a, b] = await Promise.all([network.a, network.b].map(async (host) => {
    Object.assign(host.env, LAN);
    const annex = await Annex.make(env, host);
    await annex.enable();
    await annex.serve();
    return annex;
  })) as [Annex, Annex];
  await linkBoth(a, b);
  const files = new Map<string, string>();
  for (const [annex, name] of [[a, "from-a"], [b, "from-b"]] as const) {
    const content = randomBytes(2_000_000);
    await annex.write(name, content);
    files.set(name, await checksumOf(content));
    await annex.add();
    await syncUntilSame(env, a, b, files);
  }
  // Plain git, as for neighbours whose central server is down.
  await a.gitOk(["commit", "-q", "--allow-empty", "-m", "pulled"]);
  const ofA = await a.gitOk(["rev-parse", "main"]);
  await env.until("git fetch to bring it", async () => {
    await b.git(["fetch", "-q", "a"]);
    return (await b.git(["rev-parse", "a/main"])).stdout === ofA;
  });
  await b.gitOk(["merge", "-q", "--ff-only", "a/main"]);
  await b.gitOk(["commit", "-q", "--allow-empty", "-m", "pushed"]);
  const ofB = await b.gitOk(["rev-parse", "main"]);
  await env.until("git push to bring it", async () => {
    await b.git(["push", "-q", "a", "main:refs/heads/from-b"]);
    return (await a.git(["rev-parse", "--quiet", "--verify", "from-b"])).stdout === ofB;
  });
});
