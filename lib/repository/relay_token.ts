/**
 * Reads the token that a relay may demand. It is in a file, and never in git config, whose values other programs
 * print, nor in the environment, which child processes inherit.
 */

import { join } from "node:path";
import { Failure, systemReason } from "../console/failure.ts";
import { readAtMost } from "../platform/regular_file.ts";
import { credsDir } from "./identity.ts";
import type { Repository } from "./repository.ts";
import type { RelayToken, Settings } from "./settings.ts";

/** Maximum length of the file: a token, and white space around it. */
const MAX_FILE_BYTES = 2048;
/** Matches a token, which iroh sends in an HTTP header. */
const TOKEN = /^[\x21-\x7e]{1,1024}$/;
/** Matches the addresses of this host in a URL. A name, such as localhost, may lead elsewhere. */
const LOOPBACK = /^(127(\.\d+){3}|\[::1\])$/;

/** The token cannot be read. */
export class RelayTokenError extends Failure {
  override readonly name = "RelayTokenError";
}

/** Returns the path of a repository's token, if the setting names no other one. */
export function relayTokenPath(repository: Repository): string {
  return join(credsDir(repository), "iroh-relay-token");
}

/**
 * Adds the token to the setting `relay` if that names relays and there is a token.
 *
 * @param repository Undefined outside of a repository.
 * @throws {RelayTokenError} if the file cannot be read, or holds no token.
 */
export async function withRelayToken(
  settings: Settings,
  repository: Repository | undefined,
): Promise<Settings> {
  const { relay, relayTokenFile } = settings;
  const path = relayTokenFile ?? (repository && relayTokenPath(repository));
  if (relay.kind !== "custom" || path === undefined) return settings;
  let bytes: Uint8Array;
  try {
    bytes = await readAtMost(path, MAX_FILE_BYTES);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound && relayTokenFile === undefined) return settings;
    throw new RelayTokenError(`cannot read the relay token file ${path}, ${systemReason(error)}`, {
      hint: relayTokenFile === undefined
        ? "correct its owner and mode (0600)"
        : "correct the file, or the setting p2p-iroh.relay-token-file",
      cause: error,
    });
  }
  const text = new TextDecoder("latin1").decode(bytes).trim();
  if (!TOKEN.test(text)) {
    throw new RelayTokenError(`the relay token file ${path} holds no token`, {
      hint: "write the token into it, one line of at most 1024 letters, digits and signs",
    });
  }
  return { ...settings, relay: { ...relay, token: new TokenFromFile(path, text) } };
}

/** A token. It stays in a private field, so that nothing that prints or stores settings has it. */
class TokenFromFile implements RelayToken {
  readonly path: string;
  readonly #text: string;

  constructor(path: string, text: string) {
    this.path = path;
    this.#text = text;
  }

  forRelay(url: string): string | undefined {
    const { protocol, hostname } = new URL(url);
    return protocol === "https:" || LOOPBACK.test(hostname) ? this.#text : undefined;
  }
}
