import assert from "node:assert/strict";
import { join } from "node:path";
import { parseSettings, type Settings } from "./settings.ts";
import { RelayTokenError, relayTokenPath, withRelayToken } from "./relay_token.ts";

const TOKEN = "relay-token-0123456789";
const RELAY = "https://relay.example/";

/** Calls a function with a repository that has a token, if there is to be one. */
async function inRepository(
  content: string | undefined,
  use: (gitDir: string, settings: Settings) => Promise<void>,
): Promise<void> {
  const gitDir = await Deno.makeTempDir();
  try {
    await Deno.mkdir(join(gitDir, "annex", "creds"), { recursive: true });
    if (content !== undefined) {
      await Deno.writeTextFile(relayTokenPath({ gitDir }), content, { mode: 0o600 });
    }
    await use(gitDir, parseSettings(`p2p-iroh.relay\n${RELAY}\0`));
  } finally {
    await Deno.remove(gitDir, { recursive: true });
  }
}

async function tokenFor(url: string, settings: Settings, gitDir?: string) {
  const { relay } = await withRelayToken(settings, gitDir === undefined ? undefined : { gitDir });
  return relay.kind === "custom" ? relay.token?.forRelay(url) : undefined;
}

Deno.test("withRelayToken() gives the token to TLS and to this host's addresses, and to no other relay", async () => {
  await inRepository(` ${TOKEN}\r\n`, async (gitDir, settings) => {
    for (
      const url of [RELAY, "http://127.0.0.1:3340/", "http://127.9.9.9/", "http://[::1]:3340/"]
    ) {
      assert.equal(await tokenFor(url, settings, gitDir), TOKEN, url);
    }
    for (
      const url of [
        "http://relay.example/",
        "http://localhost:3340/",
        "http://127.0.0.1.relay.example/",
        "http://128.0.0.1/",
        "http://10.0.0.1/",
        "http://[::ffff:10.0.0.1]/",
        "http://[::2]/",
      ]
    ) assert.equal(await tokenFor(url, settings, gitDir), undefined, url);
  });
});

Deno.test("withRelayToken() reads no token for iroh's relays, nor where there is no file", async () => {
  await inRepository("damaged by two\nlines", async (gitDir) => {
    for (const relay of ["n0", "none"]) {
      const settings = parseSettings(`p2p-iroh.relay\n${relay}\0`);
      assert.equal(await withRelayToken(settings, { gitDir }), settings);
    }
  });
  await inRepository(undefined, async (gitDir, settings) => {
    assert.equal(await withRelayToken(settings, { gitDir }), settings);
    assert.equal(await withRelayToken(settings, undefined), settings);
  });
});

Deno.test("withRelayToken() prefers the file of the setting, also outside of a repository", async () => {
  await inRepository("other", async (gitDir, settings) => {
    const path = join(gitDir, "named");
    const named = { ...settings, relayTokenFile: path };
    await assert.rejects(
      withRelayToken(named, { gitDir }),
      { message: `cannot read the relay token file ${path}, no such file or directory` },
    );
    await Deno.writeTextFile(path, TOKEN);
    assert.equal(await tokenFor(RELAY, named, gitDir), TOKEN);
    assert.equal(await tokenFor(RELAY, named), TOKEN);
  });
});

Deno.test("withRelayToken() says which file holds no token, and does not show what it holds", async () => {
  for (const content of ["", "two words", "two\nlines", "ümlaut", "x".repeat(1025), "a\0b"]) {
    await inRepository(content, async (gitDir, settings) => {
      await assert.rejects(withRelayToken(settings, { gitDir }), (error: unknown) => {
        assert(error instanceof RelayTokenError);
        assert.equal(
          error.message,
          `the relay token file ${relayTokenPath({ gitDir })} holds no token`,
        );
        return true;
      });
    });
  }
});

Deno.test("withRelayToken() puts the token where nothing prints it", async () => {
  await inRepository(TOKEN, async (gitDir, settings) => {
    const { relay } = await withRelayToken(settings, { gitDir });
    const printed = `${JSON.stringify(relay)} ${
      Deno.inspect(relay, { depth: 9, showHidden: true })
    }`;
    assert.match(printed, /iroh-relay-token/);
    assert.doesNotMatch(printed, new RegExp(TOKEN));
  });
});
