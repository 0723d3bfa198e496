/**
 * Watches git-annex admit a peer. git-annex answers the peer's `AUTH` with `AUTH-SUCCESS UUID` or
 * `AUTH-FAILURE`. Before that it serves nothing.
 * https://git-annex.branchable.com/design/p2p_protocol/
 */

const SUCCESS = new TextEncoder().encode("AUTH-SUCCESS ");
const LINE_FEED = 0x0a;

/** Looks for `AUTH-SUCCESS` in what git-annex sends. */
export class AuthWatch {
  #onSuccess: () => void;
  /** Bytes of `AUTH-SUCCESS ` that the present line has matched; -1 if it is another line. */
  #matched = 0;
  #done = false;

  /** @param onSuccess Called once, when the line has been seen. */
  constructor(onSuccess: () => void) {
    this.#onSuccess = onSuccess;
  }

  /** Looks at the next bytes from git-annex. */
  see(chunk: Uint8Array): void {
    for (let i = 0; i < chunk.length && !this.#done; i++) {
      const byte = chunk[i]!;
      if (byte === LINE_FEED) this.#matched = 0;
      else if (this.#matched >= 0) {
        this.#matched = byte === SUCCESS[this.#matched] ? this.#matched + 1 : -1;
      }
      if (this.#matched !== SUCCESS.length) continue;
      this.#done = true;
      this.#onSuccess();
    }
  }
}
