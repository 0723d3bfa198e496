import assert from "node:assert/strict";
import { Failure } from "../console/failure.ts";
import { ensureAddress } from "./address.ts";
import { parseSettings } from "./settings.ts";
import { decodeTicket, encodeTicket } from "./ticket.ts";
import { addressListPath, ensureEnabled } from "./enable.ts";

Deno.test("ensureEnabled() enables nothing where git-annex serves the repository's key, in any form", async () => {
  const gitDir = await Deno.makeTempDir();
  try {
    const repository = { gitDir };
    const address = await ensureAddress(repository, parseSettings("", () => undefined));
    const { publicKey } = decodeTicket(address);
    const other = encodeTicket({ publicKey, relays: ["https://relay.example/"] });
    const stranger = encodeTicket({ publicKey: publicKey.toReversed(), relays: [] });
    const list = (...addresses: string[]) =>
      Deno.writeTextFile(
        addressListPath(repository),
        addresses.map((address) => `p2p-annex::iroh:${address}\n`).join("") + "tor-annex::x:1\n",
      );
    const enabled = () => ensureEnabled(repository, gitDir, new AbortController().signal);
    await list("endpointdamaged", stranger, other, address);
    assert.equal(await enabled(), other);
    await list("endpointdamaged", stranger); // git annex cannot enable it here
    await assert.rejects(enabled(), Failure);
  } finally {
    await Deno.remove(gitDir, { recursive: true });
  }
});
