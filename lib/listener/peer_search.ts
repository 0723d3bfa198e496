/**
 * Finds out which peers of the repository's remotes are there, so that no dial has to wait for one that is away.
 *
 * A peer that is not connected is tried from time to time, and at once if there is a sign of it. A try is a dial
 * like any other, so the peer, its relay and the local network see one. If it succeeds, the peer learns that
 * this repository is there.
 */

import { join } from "node:path";
import { delay } from "../async/abort.ts";
import { debug } from "../console/stderr.ts";
import { hasNetwork } from "../dial/dial_limits.ts";
import { speaksDumbpipeOnly } from "../dial/alpn_cache.ts";
import { registrationsOnSameHost } from "../discovery/same_host.ts";
import { fileState } from "../platform/file_state.ts";
import { irohRemotes, type Remote } from "../repository/remotes.ts";
import type { Repository } from "../repository/repository.ts";
import { decodeTicket, type Ticket } from "../repository/ticket.ts";
import type { HostWatch } from "./host_watch.ts";
import type { Presence } from "./presence.ts";

/** Interval between looks for what has changed. A peer that is back should be found within seconds. */
const LOOK_INTERVAL_MS = 1_000;
/** Maximum tries at once: a try may take 8 s, and each searches the local network. */
const MAX_TRIES = 4;
/** Maximum relays, and maximum socket addresses, of a peer that several remotes name: those of a long address. */
const MAX_ROUTES = 32;

/** What a {@linkcode PeerSearch} needs; tests pass other functions. */
export interface PeerSearchOptions {
  readonly repository: Repository;
  readonly presence: Presence;
  readonly host: Pick<HostWatch, "hasChanged">;
  /** Tries whether a peer is there. The presence learns the outcome. */
  readonly probe: (ticket: Ticket) => Promise<void>;
  readonly remotes?: (repository: Repository) => Promise<readonly Remote[]>;
  readonly registrations?: typeof registrationsOnSameHost;
  readonly hasNetwork?: typeof hasNetwork;
  readonly isDumbpipeOnly?: (publicKey: Uint8Array) => Promise<boolean>;
  readonly lookIntervalMs?: number;
}

/** Tries the peers of the remotes. */
export class PeerSearch {
  readonly #options: Required<PeerSearchOptions>;
  /** By public key in hex. */
  #tickets = new Map<string, Ticket>();
  #configState = "";
  /** Registrations of peers on this host, by public key in hex. */
  #registrations: ReadonlyMap<string, string> | undefined;
  #tries = 0;

  constructor(options: PeerSearchOptions) {
    this.#options = {
      remotes: irohRemotes,
      registrations: registrationsOnSameHost,
      hasNetwork,
      isDumbpipeOnly: speaksDumbpipeOnly,
      lookIntervalMs: LOOK_INTERVAL_MS,
      ...options,
    };
  }

  /** Searches until the signal is aborted. Never rejects. */
  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      try {
        await this.#look(signal);
      } catch (error) {
        debug(() => `looking for peers: ${error}`); // the next look may succeed
      }
      await delay(this.#options.lookIntervalMs, signal).catch(() => {}); // the loop ends
    }
  }

  async #look(signal: AbortSignal): Promise<void> {
    const { presence, host } = this.#options;
    await this.#readRemotes();
    if (host.hasChanged()) presence.forget();
    this.#lookOnSameHost();
    for (const key of presence.due()) {
      if (this.#tries >= MAX_TRIES || signal.aborted) return;
      const ticket = this.#tickets.get(key);
      presence.postpone(key); // until the outcome is known
      if (ticket) this.#try(ticket);
    }
  }

  /** Reads the remotes if the git config has changed. */
  async #readRemotes(): Promise<void> {
    const { repository, presence, remotes } = this.#options;
    const state = fileState(join(repository.gitDir, "config"));
    if (state === this.#configState) return;
    this.#tickets = ticketsByKey(await remotes(repository));
    presence.setRemotes(this.#tickets.keys());
    this.#configState = state;
  }

  /** A peer that has registered itself since the last look is there. */
  #lookOnSameHost(): void {
    const before = this.#registrations;
    const now = this.#registrations = this.#options.registrations();
    for (const [key, id] of now) {
      if (before && before.get(key) !== id) this.#options.presence.hinted(key);
    }
  }

  /** Tries a peer, unless that would be in vain. Never rejects. */
  async #try(ticket: Ticket): Promise<void> {
    const { hasNetwork, isDumbpipeOnly } = this.#options;
    this.#tries++;
    try {
      const isOnHost = this.#registrations?.has(ticket.publicKey.toHex());
      if (!isOnHost && !hasNetwork(ticket) || await isDumbpipeOnly(ticket.publicKey)) return;
      await this.#options.probe(ticket);
    } catch (error) {
      debug(() => `a peer was tried: ${error}`); // the presence knows
    } finally {
      this.#tries--;
    }
  }
}

/** Returns the ticket of each peer by its public key in hex. If several remotes are one peer, it has all routes. */
function ticketsByKey(remotes: readonly Remote[]): Map<string, Ticket> {
  const tickets = new Map<string, Ticket>();
  for (const { address } of remotes) {
    const { publicKey, relays, direct } = decodeTicket(address);
    const key = publicKey.toHex(), other = tickets.get(key);
    tickets.set(key, {
      publicKey,
      relays: [...new Set([...other?.relays ?? [], ...relays])].slice(0, MAX_ROUTES),
      direct: [...new Set([...other?.direct ?? [], ...direct])].slice(0, MAX_ROUTES),
    });
  }
  return tickets;
}
