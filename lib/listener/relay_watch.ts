/** Knows through which relay peers can reach the listener, and reports each change. */

import { delay } from "../async/abort.ts";

/** Interval between looks at the relay: short for the first 60, since users wait for the relay at the start. */
const INTERVAL_MS = 500, LATER_INTERVAL_MS = 5_000, FIRST_LOOKS = 60;
/** Looks for which a relay may answer without accepting this repository: 10 s, for a handshake and retries. */
const ACCEPT_LOOKS = 20;

/** What is needed of an endpoint. */
export interface RelayedEndpoint {
  /** Returns the relay that answers. */
  knownAddresses(): { readonly relay: string | undefined };
  /** Waits until a relay has accepted the endpoint. */
  online(signal: AbortSignal): Promise<void>;
}

/** Watches the relay of a listener until the signal is aborted. */
export class RelayWatch {
  readonly #endpoint: RelayedEndpoint;
  readonly #stop: AbortSignal;
  /** iroh tells only whether any relay has ever accepted the endpoint. */
  #isAccepted = false;

  constructor(endpoint: RelayedEndpoint, stop: AbortSignal) {
    this.#endpoint = endpoint;
    this.#stop = stop;
    endpoint.online(stop).then(() => this.#isAccepted = true, () => {}); // rejects if the listener stops
  }

  /** URL of the relay through which peers reach the listener; undefined if there is none at present. */
  get relay(): string | undefined {
    return this.#isAccepted ? this.#endpoint.knownAddresses().relay : undefined;
  }

  /** Reports each change. @param intervalMs For tests. */
  async reportTo(report: (message: string) => void, intervalMs = INTERVAL_MS): Promise<void> {
    let refusedLooks = 0, known: string | undefined;
    for (let looks = 0; !this.#stop.aborted; looks++) {
      const { relay } = this;
      const answering = this.#isAccepted ? undefined : this.#endpoint.knownAddresses().relay;
      if (relay !== known) {
        report(relay ? `reachable through relay ${relay}` : "no relay at present");
      } else if (answering && ++refusedLooks === ACCEPT_LOOKS) {
        report(`relay ${answering} does not accept this repository; run git-annex-p2p-iroh doctor`);
      }
      known = relay;
      await delay(looks < FIRST_LOOKS ? intervalMs : LATER_INTERVAL_MS, this.#stop).catch(() => {}); // the loop ends
    }
  }
}
