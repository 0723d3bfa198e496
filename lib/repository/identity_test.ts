import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { join } from "node:path";
import iroh from "@number0/iroh";
import { base32nopad } from "@scure/base";
import fc from "fast-check";
import {
  type Identity,
  IdentityError,
  identityPath,
  newIdentity,
  parseSecretKey,
  publicKeyOf,
  readIdentity,
  storeIdentity,
} from "./identity.ts";
import { ensureAddress } from "./address.ts";
import type { Repository } from "./repository.ts";
import { parseSettings } from "./settings.ts";
import { decodeTicket, encodeTicket } from "./ticket.ts";

const noRelay = parseSettings("p2p-iroh.relay\nnone\0");
const customRelay = parseSettings("p2p-iroh.relay\nhttps://one.example https://two.example\0");
const seeds = fc.uint8Array({ minLength: 32, maxLength: 32 });

async function withRepository(body: (repository: Repository) => Promise<void>): Promise<void> {
  const gitDir = await Deno.makeTempDir();
  try {
    await body({ gitDir });
  } finally {
    await Deno.remove(gitDir, { recursive: true });
  }
}

/** Writes the identity file. */
async function plant(repository: Repository, content: string | Uint8Array): Promise<void> {
  await Deno.mkdir(join(repository.gitDir, "annex", "creds"), { recursive: true });
  await Deno.writeFile(identityPath(repository), Buffer.from(content));
}

async function creds(repository: Repository): Promise<string[]> {
  const entries = await Array.fromAsync(Deno.readDir(join(repository.gitDir, "annex", "creds")));
  return entries.map(({ name }) => name).sort();
}

function bareAddress({ publicKey }: Pick<Identity, "publicKey">): string {
  return encodeTicket({ publicKey, relays: [] });
}

Deno.test("publicKeyOf() gives iroh's public key", () => {
  fc.assert(fc.property(seeds, (seed) => {
    assert.deepEqual(
      [...publicKeyOf(seed)],
      iroh.SecretKey.fromBytes([...seed]).public().toBytes(),
    );
  }));
});

Deno.test("parseSecretKey() reads a key in hex and in base32, as dumbpipe does", () => {
  fc.assert(fc.property(seeds, fc.constantFrom("", "\n", "\r\n", " \n"), (seed, end) => {
    const hex = Buffer.from(seed).toString("hex"), base32 = base32nopad.encode(seed);
    for (const text of [hex, hex.toUpperCase(), base32, base32.toLowerCase()]) {
      assert.deepEqual(parseSecretKey(Buffer.from(text + end)), seed);
    }
  }));
});

Deno.test("parseSecretKey() refuses everything else", () => {
  const hex = "0123456789abcdef".repeat(4);
  const damaged = [
    "",
    "\n",
    hex.slice(1),
    hex + "0",
    hex.replace("f", "g"),
    hex.replace("f", " "),
    `${hex}\n${hex}`,
    "a".repeat(51),
    "a".repeat(53),
    "a".repeat(51) + "1",
    "a".repeat(51) + "b", // bits beyond the last byte
    "\0".repeat(64),
    "\xff".repeat(64),
  ];
  for (const text of damaged) {
    assert.equal(parseSecretKey(Buffer.from(text, "latin1")), undefined, JSON.stringify(text));
  }
  fc.assert(fc.property(fc.uint8Array({ maxLength: 63 }), (bytes) => {
    const key = parseSecretKey(bytes);
    assert(key === undefined || key.length === 32);
  }));
});

Deno.test("readIdentity() names a damaged file and what to do, and does not change it", async () => {
  await withRepository(async (repository) => {
    assert.equal(readIdentity(repository), undefined);
    for (
      const [content, says] of [["", /it is empty/], ["abc", /64 hex digits/], [
        "x".repeat(9999),
        /64 hex/,
      ]] as const
    ) {
      await plant(repository, content);
      const attempts = [
        () => Promise.try(() => readIdentity(repository)),
        () => ensureAddress(repository, noRelay),
      ];
      for (const attempt of attempts) {
        await assert.rejects(attempt, (error: unknown) => {
          assert(error instanceof IdentityError);
          assert.match(error.message, /iroh-secret is damaged/);
          assert.match(error.message, says);
          assert.match(error.hint!, /backup/);
          return true;
        });
      }
      assert.equal(await Deno.readTextFile(identityPath(repository)), content);
      assert.deepEqual(await creds(repository), ["iroh-secret"]);
    }
  });
});

Deno.test("readIdentity() fails if the file is a folder", async () => {
  await withRepository(async (repository) => {
    await Deno.mkdir(identityPath(repository), { recursive: true });
    assert.throws(() => readIdentity(repository), { message: /cannot read the identity file/ });
  });
});

Deno.test("readIdentity() does not wait for a FIFO", {
  ignore: Deno.build.os === "windows",
}, async () => {
  await withRepository(async (repository) => {
    await plant(repository, "");
    await Deno.remove(identityPath(repository));
    await new Deno.Command("mkfifo", { args: [identityPath(repository)] }).output();
    assert.throws(() => readIdentity(repository), (error: IdentityError) => {
      assert.match(error.message, /cannot read .*iroh-secret, it is not a regular file$/);
      assert.equal(error.hint, "move it away");
      return true;
    });
  });
});

Deno.test("storeIdentity() writes one line of hex with mode 0600, and never replaces a file", async () => {
  await withRepository(async (repository) => {
    await Deno.mkdir(join(repository.gitDir, "annex", "creds"), { recursive: true });
    const first = newIdentity();
    assert.equal(await storeIdentity(repository, first), true);
    assert.equal(await storeIdentity(repository, newIdentity()), false);
    assert.deepEqual(readIdentity(repository), first);
    const text = await Deno.readTextFile(identityPath(repository));
    assert.match(text, /^[0-9a-f]{64}\n$/);
    assert.equal((await Deno.stat(identityPath(repository))).mode! & 0o777, 0o600);
    assert.deepEqual(await creds(repository), ["iroh-secret"]);
  });
});

Deno.test("storeIdentity(): of many calls at once, one stores its identity", async () => {
  await withRepository(async (repository) => {
    await Deno.mkdir(join(repository.gitDir, "annex", "creds"), { recursive: true });
    const stored = await Promise.all(
      Array.from({ length: 20 }, () => storeIdentity(repository, newIdentity())),
    );
    assert.equal(stored.filter((won) => won).length, 1);
    assert.deepEqual(await creds(repository), ["iroh-secret"]);
  });
});

Deno.test("ensureAddress(): many first runs at once return one address, with the stored key", async () => {
  for (const settings of [noRelay, customRelay]) {
    await withRepository(async (repository) => {
      const addresses = await Promise.all(
        Array.from({ length: 20 }, () => ensureAddress(repository, settings)),
      );
      assert.equal(new Set(addresses).size, 1);
      const { publicKey, relays } = decodeTicket(addresses[0]!);
      assert.deepEqual(publicKey, readIdentity(repository)!.publicKey);
      assert.deepEqual(relays, settings === customRelay ? ["https://one.example/"] : []);
      assert.deepEqual(await creds(repository), ["iroh-address", "iroh-secret"]);
    });
  }
});

Deno.test("ensureAddress() returns the same address after the settings change", async () => {
  await withRepository(async (repository) => {
    const address = await ensureAddress(repository, customRelay);
    assert.equal(await ensureAddress(repository, noRelay), address);
    assert.equal(
      await ensureAddress(repository, parseSettings("p2p-iroh.relay\nhttps://x.example\0")),
      address,
    );
  });
});

Deno.test("ensureAddress() returns the key alone for the shell script's identity, also with custom relays", async () => {
  for (const key of ["01".repeat(32) + "\n", base32nopad.encode(new Uint8Array(32).fill(1))]) {
    await withRepository(async (repository) => {
      await plant(repository, key);
      const address = bareAddress({ publicKey: publicKeyOf(new Uint8Array(32).fill(1)) });
      assert.equal(await ensureAddress(repository, customRelay), address);
      assert.equal(await Deno.readTextFile(identityPath(repository)), key);
    });
  }
});

Deno.test("ensureAddress() makes a new address after the identity was replaced", async () => {
  await withRepository(async (repository) => {
    await ensureAddress(repository, customRelay);
    const other = newIdentity();
    await plant(repository, Buffer.from(other.secretKey).toString("hex"));
    assert.equal(await ensureAddress(repository, customRelay), bareAddress(other));
  });
});

Deno.test("ensureAddress() reports a damaged address file, and does not change it", async () => {
  await withRepository(async (repository) => {
    await ensureAddress(repository, noRelay);
    const path = join(repository.gitDir, "annex", "creds", "iroh-address");
    for (const content of ["", "endpoint", "x".repeat(20_000)]) {
      await Deno.writeTextFile(path, content);
      await assert.rejects(ensureAddress(repository, noRelay), {
        message: /address file .* is damaged/,
      });
      assert.equal(await Deno.readTextFile(path), content);
    }
  });
});
