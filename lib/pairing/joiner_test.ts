import assert from "node:assert/strict";
import { join } from "node:path";
import { outputIn } from "../repository/git_annex.ts";
import { newIdentity } from "../repository/identity.ts";
import { encodeTicket } from "../repository/ticket.ts";
import { remoteNames } from "./annex_remote.ts";
import { hashOfSecret } from "./invitation.ts";
import { Joiner } from "./joiner.ts";

const { signal } = new AbortController();
const SETTINGS = {
  relay: { kind: "none" },
  relayTokenFile: undefined,
  lookup: false,
  lan: false,
  lane: false,
  warm: false,
  bind: undefined,
  external: undefined,
  maxConnections: 1,
} as const;

Deno.test("Joiner.giveUp(): if the inviter is away, the remote is removed, and no other peer gets its token", async () => {
  const folder = await Deno.makeTempDir();
  try {
    await outputIn(folder, ["init", "--quiet"], signal);
    const repository = { gitDir: join(folder, ".git") }, place = { repository, folder };
    const { publicKey } = newIdentity(), secret = new Uint8Array(16);
    const url = (key: Uint8Array) =>
      `p2p-annex::iroh:${encodeTicket({ publicKey: key, relays: [] })}`;
    await outputIn(folder, ["remote", "add", "ann", url(publicKey)], signal);
    // An earlier run was killed when it had linked both.
    const own = join(repository.gitDir, "annex", "p2p-iroh"), peer = publicKey.toHex();
    const creds = join(repository.gitDir, "annex", "creds"), token = "a".repeat(128);
    for (const path of [own, creds]) await Deno.mkdir(path, { recursive: true });
    const key = `join-${peer.slice(0, 16)}-${hashOfSecret(secret).slice(0, 16)}`;
    await Deno.writeTextFile(join(own, key), newIdentity().secretKey.toHex());
    const kept = [{ line: `${url(newIdentity().publicKey)}:${token}`, peer }];
    await Deno.writeTextFile(join(own, "pairing-lines"), JSON.stringify(kept));
    await Deno.writeTextFile(join(creds, "p2pauth"), `${token}\n`);

    const invitation = { publicKey, secret, relay: undefined };
    const options = { place, invitation, isNew: false, name: undefined, settings: SETTINGS };
    const joiner = await Joiner.open(options);
    assert.equal(await joiner.giveUp("interrupted", { tellMs: 10 }), true);
    assert.deepEqual([...await remoteNames(place, signal)], []);
    const files = await Array.fromAsync(Deno.readDir(own), ({ name }) => name);
    assert.deepEqual(files, ["pairing-lines"]);
    assert.deepEqual(JSON.parse(await Deno.readTextFile(join(own, "pairing-lines"))), kept);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});
