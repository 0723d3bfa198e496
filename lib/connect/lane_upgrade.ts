/** Moves a session to a lane when that pays, and again after a lane was lost. */

import { LinkedSignal } from "../async/abort.ts";
import { debug } from "../console/stderr.ts";
import type { Lane } from "../lane/lane.ts";
import type { LaneAddresses } from "../lane/negotiation.ts";
import { Session } from "../protocol/session.ts";
import type { Duplex, StreamError } from "../streams/duplex.ts";
import { LaneDemand } from "./lane_demand.ts";

/** Pause before another try after one that failed; it doubles each time. */
const FAILED_PAUSE_MS = 30_000, MAX_PAUSE_MS = 10 * 60_000;
/**
 * Pause before another try after a lane was lost, which grows by that factor each time. It is short: what
 * was lost is not tried again, and what else there is may be a hundred times as fast as iroh's stream.
 */
const LOST_PAUSE_MS = 1_000, LOST_PAUSE_GROWTH = 4;

/** Timeout for another connection. The peer waits longer, but the user is told within half a minute. */
const REDIAL_TIMEOUT_MS = 10_000;
/** That timeout if there is a lane, which is not lost: the peer's process may stand still for a while. */
const REDIAL_WITH_LANE_TIMEOUT_MS = 20_000;

/** A stream on which to agree on a lane. Dispose of it once there is another, or with the session. */
export interface LaneSignaling extends Disposable {
  readonly stream: Duplex;
  readonly addresses: LaneAddresses;
}

/** What a session with lanes needs. */
export interface LaneUpgradeOptions {
  /** The stream of iroh's connection, after its header. */
  readonly stream: Duplex;
  /** Resolves when iroh's connection has ended. */
  readonly connectionClosed: Promise<StreamError>;
  /** Returns the peer's public key in hex, for what is remembered of it. */
  readonly peerKey: () => Promise<string>;
  /** Opens a stream on which to agree on a lane. */
  readonly openLane: () => Promise<LaneSignaling>;
  /** Called each time the session goes on by a lane. */
  readonly onLane: () => void;
  /** Opens a stream on another connection, for the session to go on there. */
  readonly resume: (
    signal: AbortSignal,
  ) => Promise<Pick<LaneUpgradeOptions, "stream" | "connectionClosed">>;
  readonly signal: AbortSignal;
}

/** A session that this process has opened, and its way to lanes. Dispose of it when it is over. */
export class LaneUpgrade implements Disposable {
  readonly session: Session;
  #options: LaneUpgradeOptions;
  #state: "waiting" | "making" | "using" = "waiting";
  #demand = new LaneDemand();
  /** When the next try is due. */
  #notBefore = 0;
  #failedPauseMs = FAILED_PAUSE_MS;
  #lostPauseMs = LOST_PAUSE_MS;
  #signaling: Disposable | undefined;

  constructor(options: LaneUpgradeOptions) {
    this.#options = options;
    this.session = new Session(options.stream, options.connectionClosed, {
      onProgress: () => this.#onProgress(),
      onLaneLost: (lane, reason) => this.#onLaneLost(lane, reason),
      onHomeLost: (error) => this.#resume(error),
    });
    this.session.markAuthenticated(); // this end has reached the peer
  }

  #onProgress(): void {
    if (this.#state !== "waiting") return;
    const now = performance.now();
    if (!this.#demand.count(this.session, now) || now < this.#notBefore) return;
    this.#state = "making";
    const making = this.#makeLane();
    this.session.restUntil(making);
  }

  /** Never rejects. */
  async #makeLane(): Promise<void> {
    try {
      const lane = await this.#offerLane();
      if (!lane) return this.#pause(Infinity); // the peer wants none
      this.#state = "using";
      this.session.attachLane(lane);
      this.#options.onLane();
    } catch (error) {
      debug(() => `no lane: ${error}`); // the session stays where it is
      this.#pause(this.#failedPauseMs);
      this.#failedPauseMs = Math.min(2 * this.#failedPauseMs, MAX_PAUSE_MS);
    }
  }

  async #offerLane(): Promise<Lane | undefined> {
    const { openLane, signal, peerKey } = this.#options;
    const [{ offerLane }, { LaneFailures }, signaling, key] = await Promise.all([
      import("../lane/negotiation.ts"),
      import("../lane/failures.ts"),
      openLane(),
      peerKey(),
    ]);
    this.#signaling?.[Symbol.dispose]();
    this.#signaling = signaling;
    const { stream, addresses } = signaling;
    const failures = LaneFailures.load(key);
    const isWorthTrying = (kind: Lane["kind"], host: string) => !failures.has(kind, host);
    return await offerLane(stream, { addresses, isWorthTrying, signal });
  }

  #onLaneLost(lane: Lane, reason: Error): void {
    debug(() => `lane: ${lane.kind} with ${lane.remote} is lost: ${reason.message}`);
    // The change of the address broke the lane. A lane on the new address may work.
    if (lane.hasMoved()) return this.#pause(0);
    this.#pause(this.#lostPauseMs);
    this.#lostPauseMs = Math.min(LOST_PAUSE_GROWTH * this.#lostPauseMs, MAX_PAUSE_MS);
    this.#remember(lane).catch((error) => {
      debug(() => `lane: not remembered: ${error}`); // it is found out again
    });
  }

  async #remember(lane: Lane): Promise<void> {
    const { LaneFailures } = await import("../lane/failures.ts");
    await LaneFailures.note(await this.#options.peerKey(), lane);
  }

  /** Never rejects. */
  async #resume(lost: StreamError): Promise<void> {
    // The peer keeps a session only if git-annex has let it in, and git-annex says so first.
    if (this.session.received === 0) return this.session.fail(lost);
    debug(() => `the connection is lost, and dialed again: ${lost.message}`);
    try {
      const timeoutMs = this.session.lane ? REDIAL_WITH_LANE_TIMEOUT_MS : REDIAL_TIMEOUT_MS;
      using limit = new LinkedSignal([this.#options.signal], { milliseconds: timeoutMs });
      const { stream, connectionClosed } = await this.#options.resume(limit.signal);
      this.session.attachHome(stream, connectionClosed);
    } catch (error) {
      debug(() => `not resumed: ${error}`);
      this.session.fail(lost);
    }
  }

  #pause(pauseMs: number): void {
    this.#state = "waiting";
    this.#notBefore = performance.now() + pauseMs;
    this.#demand.restart(this.session);
  }

  [Symbol.dispose](): void {
    this.session.detach();
    this.#signaling?.[Symbol.dispose]();
  }
}
