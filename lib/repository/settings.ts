/** Parses the settings: git config, section `p2p-iroh`, and the environment variables that override it. */

import { isIP } from "../platform/ip_address.ts";
import { isAbsolute, join } from "node:path";
import { Failure } from "../console/failure.ts";
import { parseSocketAddress } from "../platform/socket_address.ts";
import { printable } from "../console/printable.ts";

/** What the name of an environment variable that is a setting begins with. */
export const VARIABLE_PREFIX = "GIT_ANNEX_P2P_IROH_";

/** The relays through which peers find and reach each other. */
export type RelaySetting =
  | { readonly kind: "n0" }
  | { readonly kind: "none" }
  /** At least one URL, normalised. relay_token.ts adds the token. */
  | { readonly kind: "custom"; readonly urls: readonly string[]; readonly token?: RelayToken };

/** What the relays of the setting `relay` may demand. */
export interface RelayToken {
  /** The file that it comes from. */
  readonly path: string;
  /**
   * Returns the token for a relay of the setting; undefined if it must not be sent there, since others on the
   * way could read it.
   */
  forRelay(url: string): string | undefined;
}

/** What a user can set. */
export interface Settings {
  readonly relay: RelaySetting;
  /** Path of the file with the token for these relays; undefined for that of the repository, if it has one. */
  readonly relayTokenFile: string | undefined;
  /** True to publish to iroh's public DNS, and to look up peers there. */
  readonly lookup: boolean;
  /** True to find peers on the local network, and to be found there. */
  readonly lan: boolean;
  /** True to move large transfers to a lane. */
  readonly lane: boolean;
  /** True to connect through the running listener of the repository. */
  readonly warm: boolean;
  /** Address and port of the UDP socket, as `1.2.3.4:5` or `[::1]:5`; undefined for any. */
  readonly bind: string | undefined;
  /** IP address, with or without a port, at which peers see this host; undefined if iroh is to find it out. */
  readonly external: string | undefined;
  /** Maximum incoming connections that are served at once. */
  readonly maxConnections: number;
}

/** Default of `max-connections`: as many as git-annex serves per address. */
const DEFAULT_MAX_CONNECTIONS = 100;
/** Maximum of `max-connections`: each session takes a file descriptor. */
const CONNECTIONS_LIMIT = 10_000;
/** Maximum relays: each of them is tried in every dial. */
const MAX_RELAYS = 8;
/** Maximum length of a relay's URL. The address contains it, and people copy the address. */
const MAX_URL_CHARACTERS = 256;

/** A setting has an invalid value. */
export class SettingError extends Failure {
  override readonly name = "SettingError";

  /**
   * @param where The key or environment variable, as the user wrote it.
   * @param allowed The values that are allowed.
   */
  constructor(where: string, value: string, allowed: string) {
    const shown = printable(value.replace(/\/\/[^/\s]*@/g, "//…@"), 100); // without passwords
    super(`the setting ${where} is "${shown}"`, { hint: `it must be ${allowed}` });
  }
}

/**
 * Parses the settings.
 *
 * @param config The output of `git config --null --get-regexp '^p2p-iroh\.'`: `key LF value NUL`, or `key NUL` for
 * a key without a value. As for git itself, the last value of a key counts.
 * @param environment Returns the value of an environment variable.
 * @throws {SettingError} for the first setting that is not valid.
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
    allowed: string,
  ): T | undefined {
    const variable = `${VARIABLE_PREFIX}${key.toUpperCase().replaceAll("-", "_")}`;
    const overriding = environment(variable);
    const value = overriding ?? configured.get(`p2p-iroh.${key}`);
    if (value === undefined) return undefined;
    const parsed = parse(value.trim());
    if (parsed !== undefined) return parsed;
    throw new SettingError(overriding === undefined ? `p2p-iroh.${key}` : variable, value, allowed);
  }

  const relay =
    read("relay", parseRelay, "n0, none, or URLs of relays (https://…) with spaces between") ??
      { kind: "n0" };
  const relayTokenFile = read(
    "relay-token-file",
    (value) => parsePath(value, environment("HOME")),
    "the absolute path of a file, or ~/PATH",
  );
  const lookup = read("lookup", parseLookup, "n0 or none");
  return {
    relay,
    relayTokenFile,
    lookup: lookup ?? relay.kind === "n0",
    lan: read("lan", parseBoolean, "true or false") ?? true,
    lane: read("lane", parseBoolean, "true or false") ?? true,
    warm: read("warm", parseBoolean, "true or false") ?? true,
    bind: read("bind", parseSocketAddress, "ADDRESS:PORT, for example 0.0.0.0:7777 or [::]:7777"),
    external: read("external", parseExternal, "ADDRESS or ADDRESS:PORT, as others see this host"),
    maxConnections:
      read("max-connections", parseCount, `a number from 1 to ${CONNECTIONS_LIMIT}`) ??
        DEFAULT_MAX_CONNECTIONS,
  };
}

function parseRelay(value: string): RelaySetting | undefined {
  if (value === "n0" || value === "none") return { kind: value };
  const urls = value.split(/\s+/).map(parseRelayUrl);
  if (urls.length > MAX_RELAYS || urls.includes(undefined)) return undefined;
  return { kind: "custom", urls: [...new Set(urls as string[])] };
}

/** Parses the URL of a relay. @returns It in its normal form; undefined if it is none. */
export function parseRelayUrl(text: string): string | undefined {
  const url = URL.parse(text);
  const fits = url && ["https:", "http:"].includes(url.protocol) && url.hostname &&
    url.href.length <= MAX_URL_CHARACTERS;
  // iroh would ignore other parts of the URL, and this program would print a password in it.
  return fits && !url.username && !url.password && !url.search && !url.hash ? url.href : undefined;
}

/** Parses an absolute path, or one in the home folder as git writes it. */
function parsePath(value: string, home: string | undefined): string | undefined {
  const path = home !== undefined && value.startsWith("~/") ? join(home, value.slice(2)) : value;
  return isAbsolute(path) ? path : undefined;
}

function parseLookup(value: string): boolean | undefined {
  return value === "n0" ? true : value === "none" ? false : undefined;
}

function parseExternal(value: string): string | undefined {
  // A scope has a meaning on this host alone.
  if (isIP(value)) return value.includes("%") ? undefined : value;
  return value.endsWith(":0") ? undefined : parseSocketAddress(value);
}

/** Parses git's words for true and false. */
function parseBoolean(value: string): boolean | undefined {
  if (/^(true|yes|on|1)$/i.test(value)) return true;
  return /^(false|no|off|0)$/i.test(value) ? false : undefined;
}

function parseCount(value: string): number | undefined {
  const count = /^\d{1,5}$/.test(value) ? Number(value) : 0;
  return count >= 1 && count <= CONNECTIONS_LIMIT ? count : undefined;
}
