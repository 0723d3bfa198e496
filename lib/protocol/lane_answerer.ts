/** Answers the offers of lanes for a session that the peer has opened. */

import { abortable, LinkedSignal } from "../async/abort.ts";
import { debug } from "../console/stderr.ts";
import type { Connection } from "../iroh/connection.ts";
import type { Lane } from "../lane/lane.ts";
import { type Duplex, StreamError } from "../streams/duplex.ts";
import type { Session } from "./session.ts";

/** Timeout for git-annex to let a peer in that offers a lane. Its answer may be on its way. */
const AUTH_TIMEOUT_MS = 5_000;

/** Makes the lanes of one session, one after another. */
export class LaneAnswerer {
  #session: Pick<Session, "restUntil" | "attachLane">;
  #bind: string | undefined;
  /** Gives up the lane that is being made. */
  #giveUpMaking = new AbortController();
  #authenticated = Promise.withResolvers<void>();
  #authTimeoutMs: number;

  /**
   * @param bind The setting `bind`.
   * @param authTimeoutMs Timeout for git-annex to let the peer in.
   */
  constructor(
    session: Pick<Session, "restUntil" | "attachLane">,
    bind: string | undefined,
    authTimeoutMs = AUTH_TIMEOUT_MS,
  ) {
    this.#session = session;
    this.#bind = bind;
    this.#authTimeoutMs = authTimeoutMs;
  }

  /** Notes that git-annex has let the peer in. */
  markAuthenticated(): void {
    this.#authenticated.resolve();
  }

  /**
   * Answers an offer, and uses the lane if there is one. A lane that is still being made is given up: the peer has
   * lost it already, or it would not begin anew. Never rejects.
   *
   * @param stream The signaling stream, after its header.
   * @returns False if the peer has sent no valid offer.
   */
  async answer(stream: Duplex, connection: Connection, signal: AbortSignal): Promise<boolean> {
    this.#giveUpMaking.abort(new StreamError("closed", "the peer begins anew"));
    const giveUp = this.#giveUpMaking = new AbortController();
    using until = new LinkedSignal([signal, giveUp.signal]);
    try {
      const making = this.#make(stream, connection, until.signal);
      this.#session.restUntil(making.then(() => {}, () => {})); // the error is handled below
      const lane = await making;
      if (giveUp.signal.aborted) lane?.close();
      else if (lane) this.#session.attachLane(lane);
      return true;
    } catch (error) {
      debug(() => `no lane: ${error}`); // the session stays where it is
      return !(error instanceof Error && error.name === "InvalidOffer");
    }
  }

  async #make(
    stream: Duplex,
    connection: Connection,
    signal: AbortSignal,
  ): Promise<Lane | undefined> {
    // A stranger could make this host dial any address. git-annex's answer may be on its way.
    using limit = new LinkedSignal([signal], { milliseconds: this.#authTimeoutMs });
    const isWanted = await abortable(this.#authenticated.promise, limit.signal)
      .then(() => true, () => false);
    const [{ answerLane }, { laneAddresses }] = await Promise.all([
      import("../lane/negotiation.ts"),
      import("../lane/local_addresses.ts"),
    ]);
    const addresses = laneAddresses(connection, this.#bind);
    return await answerLane(stream, isWanted, { addresses, signal });
  }
}
