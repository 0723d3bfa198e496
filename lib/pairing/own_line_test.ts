import assert from "node:assert/strict";
import { join } from "node:path";
import { named } from "../../tests/testenv.ts";
import { newIdentity } from "../repository/identity.ts";
import { outputIn } from "../repository/git_annex.ts";
import { encodeTicket } from "../repository/ticket.ts";
import type { AnnexPlace } from "./annex_place.ts";
import { forgetLine, lineFor, releaseLine } from "./own_line.ts";

const { signal } = new AbortController();

/** Makes a repository that is served at these addresses. */
async function makePlace(...urls: readonly string[]): Promise<AnnexPlace & AsyncDisposable> {
  const folder = await Deno.makeTempDir();
  const git = (...args: string[]) => outputIn(folder, args, signal);
  await git("init", "--quiet");
  for (const key of ["name", "email"]) await git("config", `user.${key}`, "ann@example.com");
  await git("annex", "init", "--quiet");
  const creds = join(folder, ".git", "annex", "creds");
  await Deno.mkdir(creds, { recursive: true });
  await Deno.writeTextFile(join(creds, "p2paddrs"), urls.map((url) => `${url}\n`).join(""));
  return {
    folder,
    repository: { gitDir: join(folder, ".git") },
    async [Symbol.asyncDispose]() {
      await Deno.remove(folder, { recursive: true });
    },
  };
}

function newAddress(): string {
  return encodeTicket({ publicKey: newIdentity().publicKey, relays: [] });
}

Deno.test({
  ...named(
    "lineFor() gives each peer a token of its own, and one that was given up to the next",
    "git-annex",
  ),
  fn: async () => {
    const address = newAddress(), other = newAddress();
    await using place = await makePlace(
      "tor-annex::abcdefghijklmnop.onion:1234",
      `p2p-annex::iroh:${other}`,
      `p2p-annex::iroh:${address}`,
    );
    const list = join(place.folder, ".git", "annex", "creds", "p2pauth");
    const tokens = async () => (await Deno.readTextFile(list)).trim().split("\n").length;
    const line = async (peer: string) => (await lineFor(place, address, peer, signal)).line;

    const bob = await line("bob");
    assert.match(bob, new RegExp(`^p2p-annex::iroh:${address}:[0-9a-f]{128}$`));
    assert.equal(await tokens(), 3); // git-annex makes one for each address
    assert.equal(await line("bob"), bob);
    const carol = await line("carol");
    assert.notEqual(carol, bob);
    await releaseLine(place, "bob");
    assert.equal(await line("dave"), bob);
    await forgetLine(place, "dave"); // it is linked
    assert.equal(await line("carol"), carol);
    assert.equal(await tokens(), 6);

    // A join that was killed long ago may have linked its peer, which keeps its token.
    const file = join(place.folder, ".git/annex/p2p-iroh/pairing-lines");
    const old = JSON.parse(await Deno.readTextFile(file)).map((one: object) => ({
      ...one,
      since: 0,
    }));
    await Deno.writeTextFile(file, JSON.stringify(old));
    assert.notEqual(await line("erin"), carol);
    assert.equal(await line("carol"), carol);

    const { mode } = await Deno.stat(file);
    assert.equal(mode! & 0o777, 0o600);
    // The user has removed the token, so that it lets no peer in.
    await Deno.writeTextFile(list, "");
    assert.notEqual(await line("carol"), carol);
    await Deno.writeTextFile(file, "{damaged");
    await line("carol");
  },
});
