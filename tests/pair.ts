/** Two hosts, a listener on one of them, and a fake git-annex behind it. */

import assert from "node:assert/strict";
import { join } from "node:path";
import iroh from "@number0/iroh";
import { newIdentity } from "../lib/repository/identity.ts";
import type { Connection } from "../lib/iroh/connection.ts";
import { Endpoint } from "../lib/iroh/endpoint.ts";
import { decodeTicket, encodeTicket } from "../lib/repository/ticket.ts";
import { MUX_ALPN } from "../lib/protocol/mux.ts";
import { makeLoopback, makeNetwork, type Network, type Relay, startRelay } from "./network.ts";
import type { Host, Started, StartOptions, TestEnv, Tool } from "./testenv.ts";

/** What git-annex sends first to a peer that it admits. */
export const AUTH_SUCCESS = "AUTH-SUCCESS 00000000-0000-0000-0000-000000000000\n";
export const AUTH_SUCCESS_BYTES = new TextEncoder().encode(AUTH_SUCCESS);

/** The route between the peers. */
export type Route = "direct" | "relay";
export const ROUTES: readonly Route[] = ["direct", "relay"];

/** Returns the tools that a pair needs whose peers reach each other by this route. */
export function toolsFor(route: Route): readonly Tool[] {
  return route === "relay" ? ["iroh-relay"] : [];
}

/** Adds the test's own loopback, where the test itself can dial, and a round trip of 50 ms. */
export type PairTopology = Route | "loopback" | "long cable";

const NETWORK_TOPOLOGIES = {
  direct: "lan",
  relay: "relay only",
  "long cable": "lan, long cable",
} as const;

/** Stands in for git-annex: listens on a unix socket, and handles each connection. */
export class FakeAnnex {
  readonly path: string;
  /** Number of connections that are open. */
  open = 0;
  /** Number of connections so far. */
  total = 0;
  /** Maximum number of connections that were open at once. */
  most = 0;
  #listener: Deno.UnixListener;

  constructor(env: TestEnv, path: string, handle: (connection: Deno.UnixConn) => Promise<void>) {
    this.path = path;
    this.#listener = Deno.listen({ transport: "unix", path });
    env.cleanup(() => Promise.resolve(this.close()));
    this.#run(handle);
  }

  async #run(handle: (connection: Deno.UnixConn) => Promise<void>): Promise<void> {
    for await (const connection of this.#listener) {
      this.total++;
      this.most = Math.max(this.most, ++this.open);
      handle(connection as Deno.UnixConn).catch(() => {}).finally(() => {
        this.open--;
        try {
          connection.close();
        } catch { /* the handler has closed it */ }
      });
    }
  }

  /** Stops listening, and removes the socket file. */
  close(): void {
    try {
      this.#listener.close();
    } catch { /* closed already */ }
  }
}

/** Admits every peer, and sends back what it sends. */
export async function echo(connection: Deno.UnixConn): Promise<void> {
  await writeAll(connection, AUTH_SUCCESS_BYTES);
  const buffer = new Uint8Array(64 * 1024);
  for (;;) {
    const length = await connection.read(buffer);
    if (length === null) return;
    await writeAll(connection, buffer.subarray(0, length));
  }
}

/** Admits every peer, and then sends nothing. */
export async function silence(connection: Deno.UnixConn): Promise<void> {
  await writeAll(connection, AUTH_SUCCESS_BYTES);
  while (await connection.read(new Uint8Array(64 * 1024)) !== null);
}

export async function writeAll(connection: Deno.Conn, bytes: Uint8Array): Promise<void> {
  for (let rest = bytes; rest.length > 0;) rest = rest.subarray(await connection.write(rest));
}

/** Reads to the end. @returns The number of bytes and their checksum. */
export async function readChecksum(
  connection: Pick<Deno.Conn, "read">,
): Promise<{ length: number; checksum: string }> {
  const { createHash } = await import("node:crypto");
  const hash = createHash("sha256"), buffer = new Uint8Array(256 * 1024);
  let length = 0;
  for (;;) {
    const read = await connection.read(buffer);
    if (read === null) return { length, checksum: hash.digest("hex") };
    hash.update(buffer.subarray(0, read));
    length += read;
  }
}

/** Reads the rest of a process's stdout. @returns The number of bytes and their checksum. */
export async function drain(started: Started): Promise<{ length: number; checksum: string }> {
  const reader = started.stdoutReader.getReader();
  let rest = new Uint8Array();
  return await readChecksum({
    async read(buffer) {
      if (rest.length === 0) {
        const { value, done } = await reader.read();
        if (done) return null;
        rest = Uint8Array.from(value);
      }
      const length = Math.min(rest.length, buffer.length);
      buffer.set(rest.subarray(0, length));
      rest = rest.subarray(length);
      return length;
    },
  });
}

export async function checksumOf(bytes: Uint8Array): Promise<string> {
  const { createHash } = await import("node:crypto");
  return createHash("sha256").update(bytes).digest("hex");
}

/** More bytes than those after which a process asks for a lane. */
const BEFORE_LANE_BYTES = 1_000_000;

/**
 * Writes data to the stdin of a process, and ends it. Most of it is written once the session goes on by a lane, since a
 * slow machine takes longer to make one than iroh to move any amount.
 *
 * @param dialer A process with stdin open, and a debug log.
 * @returns The line that tells the lane.
 */
export async function sendByLane(
  dialer: Started,
  data: Uint8Array,
  kind: "TLS" | "QUIC",
): Promise<string> {
  await dialer.write(data.subarray(0, BEFORE_LANE_BYTES));
  const said = await dialer.says(/no lane: .*|lane: \S+ with \S+\n/);
  assert.match(said, new RegExp(`^lane: ${kind} with `), dialer.stderr);
  await dialer.write(data.subarray(BEFORE_LANE_BYTES));
  await dialer.end();
  return said;
}

/** Returns random bytes, which cannot be compressed. */
export function randomBytes(length: number): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(length);
  for (let i = 0; i < length; i += 65536) crypto.getRandomValues(bytes.subarray(i, i + 65536));
  return bytes;
}

/** A repository with a listener on host `a`, and processes that connect to it from host `b`. */
export interface Pair {
  readonly network: Network;
  readonly repository: string;
  readonly fakeAnnex: FakeAnnex;
  /** The output of `address`. */
  readonly address: string;
  /** The address that `b` dials. */
  readonly dialed: string;
  readonly relay: Relay | undefined;
  listener: Started;
  /** Starts the program on `b`, connecting to `a`. */
  connect(options?: StartOptions): Promise<Started>;
  /** Starts a listener, as git-annex does. */
  listen(options?: StartOptions): Promise<Started>;
  /** Returns the listener's log. */
  log(): Promise<string>;
}

/** Waits until the log of a listener, which writes it a moment later, has a text. */
export async function logged(
  env: TestEnv,
  { log }: { log(): Promise<string> },
  pattern: RegExp,
): Promise<RegExpExecArray> {
  let found: RegExpExecArray | null = null;
  await env.until(`the log to say ${pattern}`, async () => {
    return (found = pattern.exec(await log())) !== null;
  });
  return found!;
}

/** Makes a pair. */
export async function makePair(
  env: TestEnv,
  topology: PairTopology,
  handle: (connection: Deno.UnixConn) => Promise<void>,
  settings: Record<string, string> = {},
): Promise<Pair> {
  const network = topology === "loopback"
    ? await makeLoopback(env)
    : await makeNetwork(env, NETWORK_TOPOLOGIES[topology]);
  const { a, b } = network;
  const relay = topology === "relay" ? await startRelay(env, network.relay) : undefined;
  const setting = { ...relay ? { GIT_ANNEX_P2P_IROH_RELAY: relay.url } : {}, ...settings };
  const repository = await makeRepository(env, a, "repository");
  const fakeAnnex = new FakeAnnex(env, join(a.dir, "socket"), handle);
  const address =
    (await env.ok(["git-annex-p2p-iroh", "address"], { on: a, cwd: repository, env: setting }))
      .trim();

  const pair = {
    network,
    repository,
    fakeAnnex,
    address,
    relay,
    listen(options: StartOptions = {}) {
      return env.start(["git-annex-p2p-iroh", address, fakeAnnex.path], {
        on: a,
        cwd: repository,
        ...options,
        env: { ...setting, ...options.env },
      });
    },
    async log() {
      return await Deno.readTextFile(join(repository, ".git/annex/p2p-iroh/log"));
    },
  };
  const listener = await pair.listen();
  await listener.says(/serving endpoint/);
  if (relay) await listener.says(/reachable through relay/);
  const dialed = relay ? address : await withDirectAddress(a, address);
  return {
    ...pair,
    listener,
    dialed,
    connect: (options = {}) =>
      env.start(["git-annex-p2p-iroh", dialed], {
        on: b,
        ...options,
        env: { ...setting, ...options.env },
      }),
  };
}

/** Returns the address of a peer that does not exist. */
export function unknownAddress(): string {
  return encodeTicket({ publicKey: newIdentity().publicKey, relays: [] });
}

/** Makes a git repository. */
export async function makeRepository(env: TestEnv, on: Host, name: string): Promise<string> {
  const path = join(on.dir, name);
  await env.ok(["git", "init", "-q", path], { on });
  return path;
}

/** Adds the listener's IP address and port to its address. */
export async function withDirectAddress(host: Host, address: string): Promise<string> {
  return addressAt(address, `${host.ip}:${await listenerPort(host, address)}`);
}

/** Returns the socket addresses of a listener, from its local registration. */
export async function listenerAddresses(host: Host, address: string): Promise<string[]> {
  const name = `${decodeTicket(address).publicKey.toHex()}.json`;
  const path = join(host.env.XDG_RUNTIME_DIR!, "git-annex-p2p-iroh", name);
  return JSON.parse(await Deno.readTextFile(path)).direct;
}

/** Returns the UDP port of a listener. */
export async function listenerPort(host: Host, address: string): Promise<number> {
  const [first] = await listenerAddresses(host, address);
  return Number(/^127\.0\.0\.1:(\d+)$/.exec(first!)![1]);
}

/** Makes both ends of a connection on the mux protocol, in the test itself. Dispose of it at the end. */
export async function makeConnection(
  env: TestEnv,
): Promise<{ dialer: Connection; acceptor: Connection } & AsyncDisposable> {
  const options = { relay: { kind: "none" }, lookup: false, bind: "127.0.0.1:0" } as const;
  await using endpoints = new AsyncDisposableStack();
  const listening = endpoints.use(await Endpoint.bind({ ...options, alpns: [MUX_ALPN] }));
  const dialing = endpoints.use(await Endpoint.bind(options));
  const peer = { publicKey: listening.publicKey, direct: listening.boundSockets() };
  const [dialer, acceptor] = await Promise.all([
    dialing.connect(peer, MUX_ALPN, env.signal),
    listening.incoming().next().then(({ value }) => value!.accept(env.signal)),
  ]);
  const kept = endpoints.move();
  return { dialer, acceptor, [Symbol.asyncDispose]: () => kept.disposeAsync() };
}

/** Adds socket addresses to an address. */
export function addressAt(address: string, ...socketAddresses: string[]): string {
  const { publicKey, relays } = decodeTicket(address);
  const id = iroh.EndpointId.fromBytes([...publicKey]);
  const at = new iroh.EndpointAddr(id, relays[0], socketAddresses);
  return iroh.EndpointTicket.fromAddr(at).toString();
}

/** The UDP port of {@linkcode dumbpipeListener}. */
export const DUMBPIPE_PORT = 47000;

/** Starts dumbpipe in place of a listener, as the shell script does. @returns It, and its ticket. */
export async function dumbpipeListener(
  env: TestEnv,
  on: Host,
  socketPath: string,
): Promise<{ started: Started; ticket: string }> {
  // So that dumbpipe prints only the IPv4 address that other hosts can reach.
  const secret = newIdentity().secretKey.toHex();
  const command = ["dumbpipe", "listen-unix", "--socket-path", socketPath];
  const started = await env.start([...command, "--ipv4-addr", `${on.ip}:${DUMBPIPE_PORT}`], {
    on,
    env: { IROH_SECRET: secret },
  });
  return { started, ticket: await started.says(/endpoint[a-z2-7]{50,}/) };
}
