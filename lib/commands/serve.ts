/** `git-annex-p2p-iroh ADDRESS SOCKETFILE`: serve, until no longer wanted. */

import { join } from "node:path";
import { abortable, delay } from "../async/abort.ts";
import { giveBackLargeBlocks } from "../platform/malloc.ts";
import { StreamError } from "../streams/duplex.ts";
import { Failure, systemReason } from "../console/failure.ts";
import { LocalRegistration } from "../discovery/same_host.ts";
import { homeRelay, keepHomeRelay } from "../iroh/home_relay.ts";
import { addressesOf, listenerStatus } from "../listener/snapshot.ts";
import { ControlServer, type ControlServerOptions } from "../listener/control_server.ts";
import { LastSeenFile } from "../listener/last_seen.ts";
import { ConnectionPool } from "../listener/connection_pool.ts";
import { TrafficMeter } from "../listener/traffic.ts";
import { type Identity, readIdentity } from "../repository/identity.ts";
import type { Endpoint } from "../iroh/endpoint.ts";
import { Lifecycle, listenerFolder } from "../listener/lifecycle.ts";
import { loadIroh } from "../iroh/load.ts";
import { Listener } from "../listener/listener.ts";
import { LogFile } from "../console/log_file.ts";
import { findRepository, readSettings, type Repository } from "../repository/repository.ts";
import type { RelaySetting, Settings } from "../repository/settings.ts";
import { Signals } from "../console/signals.ts";
import { debug, describeFailure, say } from "../console/stderr.ts";
import { decodeTicket, samePublicKey } from "../repository/ticket.ts";
import { MUX_ALPN } from "../protocol/mux.ts";
import { DUMBPIPE_ALPN } from "../protocol/dumbpipe.ts";

/** For what is in progress when the listener stops. */
const DRAIN_LIMIT_MS = 10_000;
/** An earlier listener may hold the port that `bind` names until it has drained. */
const BIND_LIMIT_MS = DRAIN_LIMIT_MS + 5_000;
const BIND_RETRY_MS = 250;
/** At first often: what waits for the listener waits for its relay, too. */
const RELAY_LOOK_MS = 500, RELAY_LOOK_LATER_MS = 5_000, RELAY_LOOKS = 60;
/** Closing takes about a second where a connection was just closed. */
const CLOSE_LIMIT_MS = 3_000;

/** This repository cannot be served. */
export class ServeError extends Failure {
  override readonly name = "ServeError";
}

type Report = (message: string) => void;

/**
 * Hands each connection to the socket, until told to stop or no longer wanted.
 *
 * @param address The address git-annex has stored for this repository.
 * @param socketPath The unix socket it listens on, absolute or relative to the current directory.
 */
export async function serve(address: string, socketPath: string): Promise<number> {
  if (Deno.build.os === "windows") {
    throw new ServeError("serving needs unix sockets, which Windows lacks", {
      hint: "connect to peers from here, or run git-annex in WSL",
    });
  }
  const parent = Deno.ppid; // before it can have changed
  giveBackLargeBlocks();
  const repository = await findRepository();
  const log = await openLog(repository);
  const report = (message: string) => {
    say(message);
    log.write(message);
  };
  try {
    await serveRepository(repository, address, { socketPath, parent }, report);
    return 0;
  } catch (error) {
    log.write(describeFailure(error).line); // main.ts tells stderr, which git-annex throws away
    throw error;
  }
}

async function serveRepository(
  repository: Repository,
  address: string,
  { socketPath, parent }: { socketPath: string; parent: number },
  report: Report,
): Promise<void> {
  const settings = await readSettings();
  const identity = await identityOf(repository, address);
  await Deno.lstat(socketPath).catch((error) => {
    throw new ServeError(`git-annex's socket ${socketPath}: ${systemReason(error)}`, {
      hint: "git annex remotedaemon makes the socket and starts this program",
    });
  });
  using signals = new Signals();
  await using lifecycle = await Lifecycle.begin({ repository, socketPath, parent });
  const closed = new AbortController();
  const stop = AbortSignal.any([signals.signal, lifecycle.unwanted, closed.signal]);
  const choice = homeRelay(settings.relay, decodeTicket(address).relays);
  const relay: RelaySetting = choice ? { kind: "custom", urls: [choice.home] } : settings.relay;
  const endpoint = await bindEndpoint({ ...settings, relay }, identity, stop).catch((error) => {
    if (!stop.aborted) throw error;
  });
  if (!endpoint) return report(`stopping, ${systemReason(stop.reason)}`);
  const stopped = new AbortController();
  using meter = new TrafficMeter();
  await using lastSeen = await LastSeenFile.open(repository);
  const pool: ConnectionPool = new ConnectionPool({
    endpoint,
    settings,
    serve: (connection) => listener.serveDialed(connection),
    signal: stopped.signal,
  });
  const listener = new Listener({
    endpoint,
    socketPath,
    maxConnections: settings.maxConnections,
    bind: settings.bind,
    report,
    socketRefused: () => lifecycle.socketRefused(),
    connected: (mux) => pool.add(mux),
    disconnected: (mux) => {
      pool.remove(mux);
      // The key of whoever dials without a listener of its own is never seen again.
      if (mux.isDialed) lastSeen.note(mux.connection.publicKey.toHex());
    },
    meter,
  });
  listener.run().catch((error) => closed.abort(error)).finally(() =>
    closed.abort(new Error("the endpoint is closed"))
  );
  const watchingRelay = reportRelay(endpoint, report, stop);
  const keepingRelay = choice && keepHomeRelay(endpoint, choice, stop);
  const sources = { endpoint, since: new Date(), pool, meter, lastSeen };
  {
    // Not to be found any more as soon as nobody new is let in.
    await using _control = await openControlServer({
      repository,
      settings,
      pool,
      meter,
      status: () => listenerStatus(sources),
      signal: stopped.signal,
    }, report);
    await using _registration = await publishRegistration(identity, endpoint, report);
    await using _responder = settings.lan ? await announce(identity, endpoint) : undefined;
    report(`serving ${address}`);
    await untilAborted(stop);
    report(`stopping, ${systemReason(stop.reason)}`);
  }
  await watchingRelay;
  await keepingRelay;
  await listener.drain(DRAIN_LIMIT_MS);
  stopped.abort(new StreamError("lost", "this repository's listener stops"));
  await closeEndpoint(endpoint);
  report("stopped");
}

async function openControlServer(
  options: ControlServerOptions,
  report: Report,
): Promise<AsyncDisposable> {
  try {
    return await ControlServer.open(options);
  } catch (error) {
    // Which costs processes of this repository time, and nothing else.
    report(`no connections are kept: ${reasonFor(error)}`);
    return { async [Symbol.asyncDispose]() {} };
  }
}

/** The log that people look at, since git-annex throws stderr away. */
async function openLog(repository: Repository): Promise<LogFile> {
  const folder = listenerFolder(repository);
  await Deno.mkdir(folder, { recursive: true, mode: 0o700 }).catch((error) => {
    debug(() => `no log in ${folder}: ${error}`); // a repository one may only read can be served
  });
  return new LogFile(join(folder, "log"));
}

async function identityOf(repository: Repository, address: string): Promise<Identity> {
  const ticket = decodeTicket(address);
  const identity = await readIdentity(repository);
  if (!identity) {
    throw new ServeError("this repository has no identity", {
      hint: "run git annex p2p --enable iroh",
    });
  }
  if (!samePublicKey(ticket, identity)) {
    // A second listener with the repository's key would only take peers from the right one.
    throw new ServeError("the address is not of this repository's present identity", {
      hint: "an earlier identity was removed, and git-annex still has its address",
    });
  }
  return identity;
}

/** Binds the endpoint; where `bind` names a port, waits for an earlier listener to leave it. */
async function bindEndpoint(
  settings: Settings,
  identity: Identity,
  stop: AbortSignal,
): Promise<Endpoint> {
  const { BindError, Endpoint } = await loadIroh();
  const deadline = performance.now() + BIND_LIMIT_MS;
  for (;;) {
    try {
      return await Endpoint.bind({
        secretKey: identity.secretKey,
        alpns: settings.lane ? [DUMBPIPE_ALPN, MUX_ALPN] : [DUMBPIPE_ALPN],
        relay: settings.relay,
        lookup: settings.lookup,
        bind: settings.bind,
        external: settings.external,
      });
    } catch (error) {
      const wait = error instanceof BindError && settings.bind && performance.now() < deadline;
      if (!wait) throw error;
      debug(() => `${error}; trying again`);
      await delay(BIND_RETRY_MS, stop);
    }
  }
}

/** Says on the local network where this repository is. */
async function announce(identity: Identity, endpoint: Endpoint): Promise<AsyncDisposable> {
  const { MdnsResponder } = await import("../discovery/mdns.ts");
  return new MdnsResponder(identity.publicKey, endpoint.boundSockets());
}

async function publishRegistration(
  identity: Identity,
  endpoint: Endpoint,
  report: Report,
): Promise<AsyncDisposable> {
  try {
    return await LocalRegistration.publish(identity.publicKey, endpoint.boundSockets());
  } catch (error) {
    report(`peers on this host have to find it in another way: ${reasonFor(error)}`);
    return { async [Symbol.asyncDispose]() {} };
  }
}

/** Reports each time the relay by which this repository can be reached changes. */
async function reportRelay(endpoint: Endpoint, report: Report, stop: AbortSignal): Promise<void> {
  let known: string | undefined;
  for (let looks = 0; !stop.aborted; looks++) {
    const { relay } = addressesOf(endpoint);
    if (relay !== known) report(relay ? `reachable through relay ${relay}` : "no relay at present");
    known = relay;
    await delay(looks < RELAY_LOOKS ? RELAY_LOOK_MS : RELAY_LOOK_LATER_MS, stop).catch(() => {}); // stopped: the loop ends
  }
}

async function closeEndpoint(endpoint: Endpoint): Promise<void> {
  try {
    await abortable(endpoint[Symbol.asyncDispose](), AbortSignal.timeout(CLOSE_LIMIT_MS));
  } catch (error) {
    debug(() => `closing the endpoint: ${error}`); // the end of the process closes it
  }
}

function reasonFor(error: unknown): string {
  return error instanceof Failure ? describeFailure(error).line : systemReason(error);
}

function untilAborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) =>
    signal.addEventListener("abort", () => resolve(), { once: true })
  );
}
