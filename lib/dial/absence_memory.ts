/**
 * Remembers for a minute that a peer did not answer, for processes that dial without a listener. The memory is one
 * file per peer, `KEY.away`, in the user's runtime folder.
 */

import { join } from "node:path";
import { debug } from "../console/stderr.ts";
import { printable } from "../console/printable.ts";
import { ignoreNotFound } from "../platform/atomic_file.ts";
import { sendingHosts } from "../platform/network_interfaces.ts";
import { ensureRuntimeFolder, runtimeFolders } from "../platform/runtime_folder.ts";
import { readRuntimeJson, writeRuntimeJson } from "../platform/runtime_json.ts";
import type { Settings } from "../repository/settings.ts";
import type { Ticket } from "../repository/ticket.ts";
import {
  AWAY_ALONE_LIMITS,
  DIAL_LIMITS,
  type DialLimits,
  FAILS_AT_ONCE_MS,
} from "./dial_limits.ts";
import { Away, Unreachable } from "./unreachable.ts";

/** Time for which a dial that had its whole time is remembered. A short one does not prolong it. */
const REMEMBERED_MS = 60_000;
/** Maximum length of a message that is remembered: it may list 20 routes. */
const MAX_MESSAGE_CHARACTERS = 2_000;
/** Maximum length of a file that is read: a message may take three bytes for each character. */
const MAX_FILE_BYTES = 8 * 1024;

/** The content of a file. Times are in milliseconds since 1970. */
interface Entry {
  /** When a dial failed last, when one that had its whole time, and when the first one did. */
  readonly at: number;
  readonly dialedAt: number;
  readonly since: number;
  readonly lastSeen: number | null;
  /** Stands for the routes and the network on which the peer was dialed. */
  readonly routes: string;
  readonly message: string;
  readonly hint: string | null;
}

/** What of the settings the routes depend on. */
type RouteSettings = Pick<Settings, "relay" | "lookup" | "lan">;

/** What is remembered of one peer. */
export class AbsenceMemory {
  readonly #ticket: Ticket;
  readonly #settings: RouteSettings;
  readonly #folders: readonly string[] | undefined;
  readonly #entry: Entry | undefined;

  private constructor(
    ticket: Ticket,
    settings: RouteSettings,
    folders: readonly string[] | undefined,
    entry: Entry | undefined,
  ) {
    this.#ticket = ticket;
    this.#settings = settings;
    this.#folders = folders;
    this.#entry = entry;
  }

  /** Reads what is remembered. Another network or other routes are another case. @param folders For tests. */
  static async load(
    ticket: Ticket,
    settings: RouteSettings,
    folders?: readonly string[],
  ): Promise<AbsenceMemory> {
    const entries = (folders ?? runtimeFolders())
      .map((folder) => readRuntimeJson(join(folder, fileName(ticket)), MAX_FILE_BYTES))
      .filter(isEntry);
    const routes = entries.length > 0 ? await digest(ticket, settings) : undefined;
    const entry = entries.find((entry) => entry.routes === routes);
    return new AbsenceMemory(ticket, settings, folders, entry);
  }

  /** Forgets what is remembered of a peer. Never rejects. */
  static async forget(
    ticket: Ticket,
    folders: readonly string[] = runtimeFolders(),
  ): Promise<void> {
    for (const folder of folders) {
      const path = join(folder, fileName(ticket));
      await Deno.remove(path).catch(ignoreNotFound).catch((error) =>
        debug(() => `${path}: ${error}`)
      );
    }
  }

  /** True if the peer is believed away. */
  get isAway(): boolean {
    return this.#entry !== undefined;
  }

  /** How long a dial may take. */
  get limits(): DialLimits {
    return this.isAway ? AWAY_ALONE_LIMITS : DIAL_LIMITS;
  }

  /** The error with which a dial fails at once; undefined if the peer is to be dialed. */
  get failure(): Away | undefined {
    const entry = this.#entry;
    if (!entry || Date.now() - entry.at >= FAILS_AT_ONCE_MS) return undefined;
    const { since, lastSeen, message, hint } = entry;
    const error = new Unreachable(printable(message, MAX_MESSAGE_CHARACTERS), {
      ...hint === null ? {} : { hint: printable(hint, MAX_MESSAGE_CHARACTERS) },
    });
    return Away.from(error, {
      since: new Date(since),
      lastSeen: lastSeen === null ? undefined : new Date(lastSeen),
    });
  }

  /** Remembers that a dial has failed although this host was online. Never rejects. @returns The error to throw. */
  async failed(error: Unreachable, lastSeen: Date | undefined): Promise<Away> {
    const at = Date.now();
    const entry: Entry = {
      at,
      dialedAt: this.#entry?.dialedAt ?? at,
      since: this.#entry?.since ?? at,
      lastSeen: lastSeen?.getTime() ?? null,
      routes: await digest(this.#ticket, this.#settings),
      message: error.message.slice(0, MAX_MESSAGE_CHARACTERS),
      hint: error.hint ?? null,
    };
    try {
      const folder = this.#folders?.[0] ?? await ensureRuntimeFolder();
      await writeRuntimeJson(join(folder, fileName(this.#ticket)), entry);
    } catch (error) {
      debug(() => `cannot remember that the peer is away: ${error}`); // the next dial finds it out again
    }
    return Away.from(error, { since: new Date(entry.since), lastSeen });
  }
}

function isEntry(value: unknown): value is Entry {
  if (value === null || typeof value !== "object") return false;
  const { at, dialedAt, since, lastSeen, routes, message, hint } = value as Record<
    string,
    unknown
  >;
  return isTime(at) && isTime(dialedAt) && Date.now() - dialedAt < REMEMBERED_MS && isTime(since) &&
    (lastSeen === null || isTime(lastSeen)) && typeof routes === "string" &&
    typeof message === "string" && (hint === null || typeof hint === "string");
}

/** Tells whether a value is a time that is not in the future: the clock may have been set back. */
function isTime(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0 && (value as number) <= Date.now();
}

/** Returns text that differs if the peer would be dialed on other routes, or from another network. */
async function digest(
  { relays, direct }: Ticket,
  { relay, lookup, lan }: RouteSettings,
): Promise<string> {
  const urls = relay.kind === "custom" ? relay.urls : [];
  const text = JSON.stringify([relays, direct, relay.kind, urls, lookup, lan, sendingHosts()]);
  const bytes = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text));
  return new Uint8Array(bytes).toHex();
}

function fileName({ publicKey }: Ticket): string {
  return `${publicKey.toHex()}.away`;
}
