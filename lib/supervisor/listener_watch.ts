/** Watches the listener that a remotedaemon has started. */

import { debug } from "../console/stderr.ts";
import { requestStatus } from "../control/client.ts";
import { locateControlSocket } from "../control/locator.ts";
import type { Repository } from "../repository/repository.ts";
import { findServer, type Server } from "./server.ts";

/** Timeout for a listener to answer at its control socket. One of another version never does, but serves. */
const ANSWER_TIMEOUT_MS = 10_000;

/** State of a remotedaemon's listener. */
export type ListenerState =
  /** It has not been started yet. */
  | { readonly kind: "none" }
  /** It does not answer yet. */
  | { readonly kind: "starting"; readonly pid: number }
  /** Peers can connect to it. */
  | { readonly kind: "ready"; readonly pid: number }
  | { readonly kind: "ended"; readonly pid: number }
  /** Another remotedaemon's listener has taken over. */
  | { readonly kind: "replaced" };

/** Watches the listener of one remotedaemon. */
export class ListenerWatch {
  #repository: Repository;
  #group: number;
  #state: ListenerState = { kind: "none" };
  #foundAt = 0;

  /** @param group Process group of remotedaemon, and so of its listener. */
  constructor(repository: Repository, group: number) {
    this.#repository = repository;
    this.#group = group;
  }

  /** Returns the present state; the same object as long as nothing changes. @throws The signal's reason. */
  async look(signal: AbortSignal): Promise<ListenerState> {
    try {
      const server = await findServer(this.#repository);
      this.#state = await this.#next(server, signal);
    } catch (error) {
      signal.throwIfAborted();
      debug(() => `cannot tell who serves: ${error}`); // a disk may fail for a moment
    }
    return this.#state;
  }

  async #next(server: Server | undefined, signal: AbortSignal): Promise<ListenerState> {
    const state = this.#state, before = "pid" in state ? state.pid : undefined;
    if (!server) return before === undefined ? state : { kind: "ended", pid: before };
    const { pid, group } = server;
    if (group !== undefined && group !== this.#group) return { kind: "replaced" };
    if (pid !== before) this.#foundAt = performance.now(); // also if an address was added
    else if (state.kind === "ready") return state;
    return { kind: await this.#answers(pid, signal) ? "ready" : "starting", pid };
  }

  async #answers(pid: number, signal: AbortSignal): Promise<boolean> {
    if (performance.now() - this.#foundAt > ANSWER_TIMEOUT_MS) return true;
    const locator = locateControlSocket(this.#repository);
    if (!locator) return false;
    try {
      const status = await requestStatus(locator, signal) as { pid?: unknown };
      return status.pid === pid;
    } catch (error) {
      signal.throwIfAborted();
      debug(() => `the listener does not answer: ${error}`);
      return false;
    }
  }
}
