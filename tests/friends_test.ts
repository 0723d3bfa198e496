/**
 * A small network of friends, none of whom is always online. It is a local network, on which a dial of an
 * offline peer ends after 5 s; through a relay it takes 25 s. One `assist` makes up to six dials.
 */

import assert from "node:assert/strict";
import { Annex, ANNEX_TOOLS, linkBoth } from "./annex.ts";
import { makeNetworkOf, unplug } from "./network.ts";
import { checksumOf, randomBytes } from "./pair.ts";
import { type Host, scenario, type Started, type TestEnv } from "./testenv.ts";

scenario("friends: what A adds reaches C through B while A is offline, by assist alone", {
  waits: true,
  needs: [...ANNEX_TOOLS, "namespaces"],
  limitMs: 180_000,
}, async (env) => {
  const [friendA, friendB, friendC] = await makeFriends(env);
  const [a, b, c] = [friendA.annex, friendB.annex, friendC.annex];
  await a.write("letter", randomBytes(1000));
  await env.until("all three to have the same", async () => {
    for (const annex of [a, b, c]) await annex.assist();
    return await areSame(a, b, c);
  });

  await friendC.leave();
  const film = randomBytes(3_000_000), checksum = await checksumOf(film);
  await a.write("film", film);
  await a.assist(1);
  await env.until("B to keep what A has added", async () => {
    const isThere = await commitOf(b, "synced/main") === await commitOf(a, "main") &&
      await keeps(b, await keyOf(a, "film"));
    if (!isThere) await a.assist(0, "b"); // git-annex has hung; repeat without the offline remote
    return isThere;
  });

  await friendA.leave();
  await unplug(a.host);
  const added = await commitOf(a, "main"), lastOfA = await a.log();
  await friendC.come();
  assert.notEqual(await commitOf(c, "main"), added);
  assert.equal(await keeps(c, await keyOf(a, "film")), false);

  await c.assist(1);
  await env.until("C to have the film", async () => {
    const isThere = await c.checksum("film") === checksum;
    if (!isThere) await c.assist(0, "b"); // git-annex has hung; repeat without the offline remote
    return isThere;
  });
  assert.equal(await commitOf(c, "main"), added);
  await env.until("B and C to have the same", async () => {
    await b.assist(0, "c"); // without A, to save the dials
    return await areSame(b, c);
  });
  assert.equal(await b.checksum("film"), checksum);
  assert.deepEqual(await whereis(c, "film"), await uuidsOf(a, b, c));
  assert.equal(await c.ok(["fsck", "--quiet"]), "");
  assert.equal(await a.log(), lastOfA); // no peer has reached A since
});

/** A friend, whose repository has the repositories of the others as remotes. */
class Friend {
  #daemon: Started | undefined;

  constructor(readonly annex: Annex) {}

  /** Starts the friend's remotedaemon, and waits until peers can connect. */
  async come(): Promise<void> {
    this.#daemon = await this.annex.serve();
  }

  /** Ends the friend's remotedaemon, and waits until its listener has ended. */
  async leave(): Promise<void> {
    await this.#daemon!.end();
    await this.#daemon!.ended;
    const { env, host } = this.annex;
    await env.until(
      `${host.name} to be gone`,
      async () => /stopped\n$/.test(await this.annex.log()),
    );
  }
}

/** Makes three friends on one local network, each linked with both others, and all online. */
async function makeFriends(env: TestEnv): Promise<[Friend, Friend, Friend]> {
  const hosts = await makeNetworkOf(env, "lan", ["a", "b", "c"]);
  const make = async (host: Host) => {
    host.env.GIT_ANNEX_P2P_IROH_LAN = "true";
    const annex = await Annex.make(env, host);
    await annex.enable();
    const friend = new Friend(annex);
    await friend.come();
    return friend;
  };
  const [a, b, c] = await Promise.all([make(hosts.a), make(hosts.b), make(hosts.c)]);
  for (const [one, other] of [[a, b], [b, c], [a, c]] as const) {
    await linkBoth(one.annex, other.annex);
  }
  return [a, b, c];
}

/** Tells whether repositories have the same branches. */
async function areSame(...annexes: readonly Annex[]): Promise<boolean> {
  const [refs, ...others] = await Promise.all(annexes.map((annex) => annex.refs()));
  return refs !== undefined && others.every((other) => other === refs);
}

/** Returns the commit of a branch, or an empty text if there is no such branch. */
async function commitOf(annex: Annex, branch: string): Promise<string> {
  return (await annex.git(["rev-parse", "--quiet", "--verify", branch])).stdout.trim();
}

async function keyOf(annex: Annex, name: string): Promise<string> {
  return (await annex.ok(["lookupkey", name])).trim();
}

/** Tells whether the content of a key is here, with or without a file for it. */
async function keeps(annex: Annex, key: string): Promise<boolean> {
  return (await annex.run(["contentlocation", key])).code === 0;
}

/** Returns the ids of the repositories that have a file's content, as a repository knows. */
async function whereis(annex: Annex, name: string): Promise<string[]> {
  const { whereis } = JSON.parse(await annex.ok(["whereis", "--json", name]));
  return whereis.map(({ uuid }: { uuid: string }) => uuid).sort();
}

async function uuidsOf(...annexes: readonly Annex[]): Promise<string[]> {
  const uuids = annexes.map((annex) => annex.gitOk(["config", "annex.uuid"]));
  return (await Promise.all(uuids)).map((uuid) => uuid.trim()).sort();
}
