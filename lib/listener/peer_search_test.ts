import assert from "node:assert/strict";
import { join } from "node:path";
import { Unreachable } from "../dial/unreachable.ts";
import type { Repository } from "../repository/repository.ts";
import { encodeTicket, type Ticket } from "../repository/ticket.ts";
import { PeerSearch, type PeerSearchOptions } from "./peer_search.ts";
import { Presence } from "./presence.ts";

const MINUTE_MS = 60_000;

/** A search of which the test makes each look. */
class TestSearch implements Disposable {
  readonly presence: Presence;
  readonly clock = { now: 0 };
  /** Keys of peers that were tried, by their first byte. */
  readonly tried: number[] = [];
  readonly host = { hasChanged: () => false };
  #looking = Promise.withResolvers<void>();
  #gitDir = Deno.makeTempDirSync();
  #search: PeerSearch;

  constructor(count: number, options: Partial<PeerSearchOptions> = {}) {
    this.presence = new Presence({
      lastSeen: { of: () => undefined, note: () => {} },
      clock: () => this.clock.now,
      random: () => 0,
    });
    this.setRemotes(count);
    this.#search = new PeerSearch({
      repository: { gitDir: this.#gitDir },
      presence: this.presence,
      host: this.host,
      probe: (ticket) => {
        this.tried.push(ticket.publicKey[0]!);
        const error = new Unreachable("cannot reach the peer");
        this.presence.failed(ticket.publicKey.toHex(), "", error);
        return Promise.reject(error);
      },
      remotes: readRemotes,
      hasNetwork: () => true,
      isDumbpipeOnly: () => Promise.resolve(false),
      ...options,
      registrations: () => {
        this.#looking.resolve();
        return options.registrations?.() ?? new Map();
      },
    });
  }

  /** Gives the repository that many remotes, with the keys 1, 2, 3, … */
  setRemotes(count: number): void {
    Deno.writeTextFileSync(join(this.#gitDir, "config"), "x".repeat(count));
  }

  /** Looks once, and returns what was tried. */
  async look(): Promise<number[]> {
    this.#looking = Promise.withResolvers();
    const stop = new AbortController(), running = this.#search.run(stop.signal);
    await this.#looking.promise;
    await new Promise((next) => setTimeout(next, 0)); // the tries have begun
    stop.abort();
    await running;
    return this.tried.splice(0);
  }

  [Symbol.dispose](): void {
    Deno.removeSync(this.#gitDir, { recursive: true });
  }
}

async function readRemotes({ gitDir }: Repository) {
  const { length } = await Deno.readTextFile(join(gitDir, "config"));
  return Array.from({ length }, (_, i) => {
    const publicKey = new Uint8Array(32).fill(i + 1);
    return { name: `peer${i}`, publicKey, address: encodeTicket({ publicKey, relays: [] }) };
  });
}

function keyOf(byte: number): string {
  return new Uint8Array(32).fill(byte).toHex();
}

Deno.test("PeerSearch tries each remote at first, and again after pauses", async () => {
  using search = new TestSearch(2);
  assert.deepEqual(await search.look(), [1, 2]);
  assert.deepEqual(await search.look(), []);
  search.clock.now = MINUTE_MS;
  assert.deepEqual(await search.look(), [1, 2]);
  search.presence.connected(keyOf(1), false);
  search.clock.now += 2 * MINUTE_MS;
  assert.deepEqual(await search.look(), [2]);
});

Deno.test("PeerSearch tries a remote that is added, and none that is removed", async () => {
  using search = new TestSearch(1);
  await search.look();
  search.setRemotes(3);
  assert.deepEqual(await search.look(), [2, 3]);
  search.setRemotes(0);
  search.clock.now = MINUTE_MS;
  assert.deepEqual(await search.look(), []);
});

Deno.test("PeerSearch tries no peer without a network, and none that speaks only dumbpipe's protocol", async () => {
  let hasNetwork = false;
  using search = new TestSearch(2, {
    hasNetwork: () => hasNetwork,
    isDumbpipeOnly: (publicKey) => Promise.resolve(publicKey[0] === 1),
  });
  assert.deepEqual(await search.look(), []);
  hasNetwork = true;
  search.host.hasChanged = () => true;
  assert.deepEqual(await search.look(), [2]);
});

Deno.test("PeerSearch tries a peer on this host without a network", async () => {
  using search = new TestSearch(2, {
    hasNetwork: () => false,
    registrations: () => new Map([[keyOf(2), "5"]]),
  });
  assert.deepEqual(await search.look(), [2]);
});

Deno.test("PeerSearch tries all routes of a peer that two remotes name", async () => {
  const tried: Ticket[] = [], publicKey = new Uint8Array(32).fill(1);
  const remotes = ["a", "b"].map((name) => ({
    name,
    publicKey,
    address: encodeTicket({ publicKey, relays: [`https://${name}.example/`] }),
  }));
  using search = new TestSearch(2, {
    remotes: () => Promise.resolve(remotes),
    probe: (ticket) => Promise.resolve(void tried.push(ticket)),
  });
  await search.look();
  assert.deepEqual(tried.map(({ relays }) => relays), [[
    "https://a.example/",
    "https://b.example/",
  ]]);
});

Deno.test("PeerSearch tries all peers again when this host is on another network, or was asleep", async () => {
  using search = new TestSearch(2);
  await search.look();
  search.host.hasChanged = () => true;
  assert.deepEqual(await search.look(), [1, 2]);
});

Deno.test("PeerSearch tries a peer at once that registers itself on this host", async () => {
  let registrations = new Map([[keyOf(1), "5"]]);
  using search = new TestSearch(2, { registrations: () => registrations });
  await search.look();
  assert.deepEqual(await search.look(), []);
  registrations = new Map([[keyOf(1), "6"], [keyOf(2), "7"]]);
  assert.deepEqual(await search.look(), [1, 2]);
});

Deno.test("PeerSearch tries at most four peers at once", async () => {
  const begun: number[] = [], end = Promise.withResolvers<void>();
  using search = new TestSearch(6, {
    probe: ({ publicKey }) => (begun.push(publicKey[0]!), end.promise),
  });
  await search.look();
  assert.deepEqual(begun, [1, 2, 3, 4]);
  end.resolve();
  await search.look();
  assert.deepEqual(begun, [1, 2, 3, 4, 5, 6]);
});
