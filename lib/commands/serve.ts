/** `git-annex-p2p-iroh ADDRESS SOCKETFILE`: serves a repository until it is no longer wanted. */

import { join } from "node:path";
import { delay } from "../async/abort.ts";
import { giveBackLargeBlocks } from "../platform/malloc.ts";
import { StreamError } from "../streams/duplex.ts";
import { Failure, systemReason } from "../console/failure.ts";
import { LocalRegistration } from "../discovery/same_host.ts";
import { ENDPOINT_CLOSE_TIMEOUT_MS } from "../iroh/connection.ts";
import { homeRelay, keepHomeRelay } from "../iroh/home_relay.ts";
import { listenerStatus } from "../listener/snapshot.ts";
import { ControlServer } from "../listener/control_server.ts";
import { LastSeenFile } from "../listener/last_seen.ts";
import { ConnectionPool } from "../listener/connection_pool.ts";
import { HostWatch } from "../listener/host_watch.ts";
import { PeerSearch } from "../listener/peer_search.ts";
import { Presence } from "../listener/presence.ts";
import { PairingServer } from "../listener/pairing_server.ts";
import { TrafficMeter } from "../listener/traffic.ts";
import { AnnexSteps } from "../pairing/annex_steps.ts";
import { InvitationBook } from "../pairing/invitation_book.ts";
import { InvitationStore } from "../pairing/invitation_store.ts";
import { type Identity, readIdentity } from "../repository/identity.ts";
import type { Endpoint } from "../iroh/endpoint.ts";
import { BindError } from "../iroh/errors.ts";
import { Lifecycle } from "../listener/lifecycle.ts";
import { loadIroh } from "../iroh/load.ts";
import { Listener } from "../listener/listener.ts";
import { RelayWatch } from "../listener/relay_watch.ts";
import { LogFile } from "../console/log_file.ts";
import { listenerFolder } from "../repository/listener_folder.ts";
import { withRelayToken } from "../repository/relay_token.ts";
import { findRepository, readSettings, type Repository } from "../repository/repository.ts";
import type { RelaySetting, Settings } from "../repository/settings.ts";
import { Signals } from "../console/signals.ts";
import { debug, describeFailure, reasonWithHint, say } from "../console/stderr.ts";
import { decodeTicket, samePublicKey } from "../repository/ticket.ts";
import { MUX_ALPN } from "../protocol/mux.ts";
import { DUMBPIPE_ALPN } from "../protocol/dumbpipe.ts";

/** Timeout for transfers in progress when the listener stops. */
const DRAIN_TIMEOUT_MS = 10_000;
/** Timeout for the port that `bind` names: an earlier listener may hold it until it has drained. */
const BIND_TIMEOUT_MS = DRAIN_TIMEOUT_MS + 5_000;
/** Interval between two attempts to bind that port. */
const BIND_INTERVAL_MS = 250;
/** Timeout for the end after a signal: the drain, the close of the endpoint, and what comes between. */
const END_TIMEOUT_MS = DRAIN_TIMEOUT_MS + ENDPOINT_CLOSE_TIMEOUT_MS + 2_000;
const NOT_ON_HOST = "peers on this host must find it by another route";

/** The repository cannot be served. */
export class ServeError extends Failure {
  override readonly name = "ServeError";
}

type Report = (message: string) => void;

/**
 * Serves the repository until a signal stops this process, or until it is no longer wanted.
 *
 * @param address The address that git-annex has stored for this repository.
 * @param socketPath The unix socket on which git-annex listens, absolute or relative to the current directory.
 */
export async function serve(address: string, socketPath: string): Promise<number> {
  if (Deno.build.os === "windows") {
    throw new ServeError("serving needs unix sockets, which Windows lacks", {
      hint: "connect to peers from here, or run git-annex in WSL",
    });
  }
  const parent = Deno.ppid; // it changes when the parent ends
  giveBackLargeBlocks();
  const repository = await findRepository();
  await using log = await openLog(repository);
  const report = reportTo(log);
  try {
    await serveRepository(repository, address, { socketPath, parent }, report);
    return 0;
  } catch (error) {
    log.write(describeFailure(error).line); // main.ts writes it to stderr
    throw error;
  }
}

async function serveRepository(
  repository: Repository,
  address: string,
  { socketPath, parent }: { socketPath: string; parent: number },
  report: Report,
): Promise<void> {
  const settings = await withRelayToken(await readSettings(), repository);
  const identity = identityOf(repository, address);
  await Deno.lstat(socketPath).catch((error) => {
    throw new ServeError(`git-annex's socket ${socketPath}: ${systemReason(error)}`, {
      hint: socketPath.includes("\ufffd")
        ? "the name of a folder is not UTF-8, so run git annex remotedaemon in the top folder"
        : "git annex remotedaemon makes the socket and starts this program",
    });
  });
  using signals = new Signals(END_TIMEOUT_MS);
  await using lifecycle = await Lifecycle.begin({ repository, socketPath, parent });
  const closed = new AbortController();
  const stop = AbortSignal.any([signals.signal, lifecycle.unwanted, closed.signal]);
  const choice = homeRelay(settings.relay, decodeTicket(address).relays);
  const relay: RelaySetting = choice && settings.relay.kind === "custom"
    ? { ...settings.relay, urls: [choice.home] }
    : settings.relay;
  const endpoint = await bindEndpoint({ ...settings, relay }, identity, stop).catch((error) => {
    if (!stop.aborted) throw error;
  });
  if (!endpoint) return report(`stopping, ${systemReason(stop.reason)}`);
  const stopped = new AbortController();
  using meter = new TrafficMeter();
  await using lastSeen = new LastSeenFile(repository);
  const relayWatch = new RelayWatch(endpoint, stop);
  const host = new HostWatch({ relay: () => relayWatch.relay });
  const presence: Presence = new Presence({
    lastSeen,
    onAway: async () => await host.isOnline(stop) || presence.withdraw(),
  });
  await using invitations = await InvitationBook.open({
    store: new InvitationStore(repository),
    // git-annex starts this process in the repository. The path of the folder may not be text.
    steps: new AnnexSteps({ repository, folder: "." }, address),
    report,
  });
  const pool: ConnectionPool = new ConnectionPool({
    endpoint,
    settings,
    presence,
    serve: (connection) => listener.serveDialed(connection),
    signal: stopped.signal,
  });
  const listener = new Listener({
    endpoint,
    socketPath,
    maxConnections: settings.maxConnections,
    bind: settings.bind,
    report,
    pairing: new PairingServer(invitations),
    socketRefused: () => lifecycle.socketRefused(),
    connected: (mux) => pool.add(mux),
    disconnected: (mux, outcome) => pool.remove(mux, outcome),
    meter,
  });
  listener.run().catch((error) => closed.abort(error)).finally(() =>
    closed.abort(new Error("the endpoint is closed"))
  );
  const watchingRelay = relayWatch.reportTo(report);
  const keepingRelay = choice && keepHomeRelay(endpoint, choice, stop);
  const sources = { endpoint, relayWatch, since: new Date(), pool, meter, presence };
  {
    // The listener is no longer found as soon as it refuses connections.
    await using _control = await ControlServer.open({
      repository,
      settings,
      pool,
      presence,
      meter,
      invitations,
      status: () => listenerStatus(sources),
      report,
      signal: stopped.signal,
    });
    await using _registration = await LocalRegistration.publish(
      identity.publicKey,
      endpoint.boundSockets(),
      { failed: (error) => report(`${NOT_ON_HOST}: ${reasonWithHint(error)}`) },
    );
    await using _responder = settings.lan
      ? await announce(identity, endpoint, (key) => presence.hinted(key))
      : undefined;
    // Otherwise no process goes through this listener.
    const searching = settings.warm && settings.lane &&
      new PeerSearch({ repository, presence, host, probe: (ticket) => pool.probe(ticket) })
        .run(stop);
    report(`serving ${address}`);
    await untilAborted(stop);
    await searching;
    await invitations[Symbol.asyncDispose](); // while the processes that wait for joiners can be told
  }
  await watchingRelay;
  await keepingRelay;
  report(`stopping, ${systemReason(stop.reason)}`); // from here on it refuses connections
  await listener.drain(DRAIN_TIMEOUT_MS);
  stopped.abort(new StreamError("lost", "this repository's listener stops"));
  await closeEndpoint(endpoint);
  report("stopped");
}

/**
 * Returns a function that writes a line to the log and to stderr. The log comes first: a reader of stderr
 * may look into the log at once.
 */
export function reportTo(log: Pick<LogFile, "write">, tell: Report = say): Report {
  return (message) => void log.write(message).then(() => tell(message));
}

/** Opens the log. Users read it, since git-annex sends stderr to /dev/null. */
async function openLog(repository: Repository): Promise<LogFile> {
  const folder = listenerFolder(repository);
  await Deno.mkdir(folder, { recursive: true, mode: 0o700 }).catch((error) => {
    say(`no log is kept, cannot make ${folder}: ${systemReason(error)}`); // serving goes on
  });
  return new LogFile(join(folder, "log"));
}

function identityOf(repository: Repository, address: string): Identity {
  const ticket = decodeTicket(address);
  const identity = readIdentity(repository);
  if (!identity) {
    throw new ServeError("this repository has no identity", {
      hint: "run git annex p2p --enable iroh",
    });
  }
  if (!samePublicKey(ticket, identity)) {
    // A second endpoint with the repository's key would take peers away from the right listener.
    throw new ServeError("the address is not of this repository's present identity", {
      hint: "an earlier identity was removed, and git-annex still has its address",
    });
  }
  return identity;
}

/** Binds the endpoint. If `bind` names a port, waits until an earlier listener has closed it. */
async function bindEndpoint(
  settings: Settings,
  identity: Identity,
  stop: AbortSignal,
): Promise<Endpoint> {
  const { Endpoint } = await loadIroh();
  const deadline = performance.now() + BIND_TIMEOUT_MS;
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
      await delay(BIND_INTERVAL_MS, stop);
    }
  }
}

/** Makes this repository findable on the local network. @param heard Called when a peer announces itself. */
async function announce(
  identity: Identity,
  endpoint: Endpoint,
  heard: (key: string) => void,
): Promise<AsyncDisposable> {
  const { MdnsResponder } = await import("../discovery/mdns.ts");
  return new MdnsResponder(identity.publicKey, endpoint.boundSockets(), { heard });
}

async function closeEndpoint(endpoint: Endpoint): Promise<void> {
  try {
    await endpoint[Symbol.asyncDispose]();
  } catch (error) {
    debug(() => `closing the endpoint: ${error}`); // it ends with the process
  }
}

function untilAborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) =>
    signal.addEventListener("abort", () => resolve(), { once: true })
  );
}
