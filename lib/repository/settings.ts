/** The settings: git config, section `p2p-iroh`, and environment variables that override it. */

import { isIP } from "node:net";
import { Failure } from "../console/failure.ts";
import { parseSocketAddress } from "../platform/socket_address.ts";
import { printable } from "../console/stderr.ts";

/** Which relays help peers to find and reach each other. */
export type RelaySetting =
  | { readonly kind: "n0" }
  | { readonly kind: "none" }
  /** At least one URL, normalised. */
  | { readonly kind: "custom"; readonly urls: readonly string[] };

/** What a user can set. */
export interface Settings {
  readonly relay: RelaySetting;
  /** Publish to, and look up at, iroh's public DNS. */
  readonly lookup: boolean;
  /** Find, and be found by, peers on the local network. */
  readonly lan: boolean;
  /** Move large transfers to a direct connection beside iroh's. */
  readonly lane: boolean;
  /** Connect through the running listener of the repository. */
  readonly warm: boolean;
  /** Address and port of the UDP socket, as `1.2.3.4:5` or `[::1]:5`; undefined for any. */
  readonly bind: string | undefined;
  /** IP address, with a port or without, at which others see this host; undefined if it is to find out. */
  readonly external: string | undefined;
  /** How many incoming connections are served at once. */
  readonly maxConnections: number;
}

/** git-annex serves as many per address. */
const DEFAULT_MAX_CONNECTIONS = 100;
const MOST_CONNECTIONS = 10_000;
const MOST_RELAYS = 8;
const LONGEST_URL_CHARACTERS = 256;

/** A setting has a value it cannot have. */
export class SettingError extends Failure {
  override readonly name = "SettingError";

  /**
   * @param where The key or environment variable, as the user wrote it.
   * @param right What would be right.
   */
  constructor(where: string, value: string, right: string) {
    const shown = printable(value.replace(/\/\/[^/\s]*@/g, "//…@"), 100); // without passwords
    super(`the setting ${where} is "${shown}"`, { hint: `it must be ${right}` });
  }
}

/**
 * Reads the settings.
 *
 * @param config What `git config --null --get-regexp '^p2p-iroh\.'` prints: `key LF value NUL`, or
 * `key NUL` for a key without a value. The last value of a key counts, as for git itself.
 * @param environment Looks up an environment variable.
 * @throws {SettingError} which names the first wrong one.
 */
export function parseSettings(
  config: string,
  environment: (name: string) => string | undefined = () => undefined,
): Settings {
  const configured = new Map(
    config.split("\0").filter((entry) => entry).map((entry) => {
      const [key, ...value] = entry.split("\n");
      return [key!.toLowerCase(), value.join("\n")];
    }),
  );

  function read<T>(
    key: string,
    parse: (value: string) => T | undefined,
    right: string,
  ): T | undefined {
    const variable = `GIT_ANNEX_P2P_IROH_${key.toUpperCase().replaceAll("-", "_")}`;
    const overriding = environment(variable);
    const value = overriding ?? configured.get(`p2p-iroh.${key}`);
    if (value === undefined) return undefined;
    const parsed = parse(value.trim());
    if (parsed !== undefined) return parsed;
    throw new SettingError(overriding === undefined ? `p2p-iroh.${key}` : variable, value, right);
  }

  const relay =
    read("relay", parseRelay, "n0, none, or URLs of relays (https://…) with spaces between") ??
      { kind: "n0" };
  const lookup = read("lookup", parseLookup, "n0 or none");
  return {
    relay,
    lookup: lookup ?? relay.kind === "n0",
    lan: read("lan", parseBoolean, "true or false") ?? true,
    lane: read("lane", parseBoolean, "true or false") ?? true,
    warm: read("warm", parseBoolean, "true or false") ?? true,
    bind: read("bind", parseSocketAddress, "ADDRESS:PORT, for example 0.0.0.0:7777 or [::]:7777"),
    external: read("external", parseExternal, "ADDRESS or ADDRESS:PORT, as others see this host"),
    maxConnections: read("max-connections", parseCount, `a number from 1 to ${MOST_CONNECTIONS}`) ??
      DEFAULT_MAX_CONNECTIONS,
  };
}

function parseRelay(value: string): RelaySetting | undefined {
  if (value === "n0" || value === "none") return { kind: value };
  const urls = value.split(/\s+/).map(parseRelayUrl);
  if (urls.length > MOST_RELAYS || urls.includes(undefined)) return undefined;
  return { kind: "custom", urls: [...new Set(urls as string[])] };
}

function parseRelayUrl(text: string): string | undefined {
  const url = URL.parse(text);
  const fits = url && ["https:", "http:"].includes(url.protocol) && url.hostname &&
    url.href.length <= LONGEST_URL_CHARACTERS;
  // What else a URL can hold would be lost, or worse, printed: relays take no user and password.
  return fits && !url.username && !url.password && !url.search && !url.hash ? url.href : undefined;
}

function parseLookup(value: string): boolean | undefined {
  return value === "n0" ? true : value === "none" ? false : undefined;
}

function parseExternal(value: string): string | undefined {
  // A scope means something on this host alone.
  if (isIP(value)) return value.includes("%") ? undefined : value;
  return value.endsWith(":0") ? undefined : parseSocketAddress(value);
}

/** git's words for yes and no. */
function parseBoolean(value: string): boolean | undefined {
  if (/^(true|yes|on|1)$/i.test(value)) return true;
  return /^(false|no|off|0)$/i.test(value) ? false : undefined;
}

function parseCount(value: string): number | undefined {
  const count = /^\d{1,5}$/.test(value) ? Number(value) : 0;
  return count >= 1 && count <= MOST_CONNECTIONS ? count : undefined;
}
