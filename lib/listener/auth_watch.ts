/**
 * Watching git-annex let a peer in. Its server answers the peer's `AUTH` with `AUTH-SUCCESS UUID` or
 * `AUTH-FAILURE`, and says nothing of use before that.
 * https://git-annex.branchable.com/design/p2p_protocol/
 */

const SUCCESS = new TextEncoder().encode("AUTH-SUCCESS ");
const LINE_FEED = 0x0a;

/** Looks at what git-annex sends, without changing it, for the line that lets a peer in. */
export class AuthWatch {
  #onSuccess: () => void;
  /** How much of `AUTH-SUCCESS ` the present line has matched; -1 if it is another line. */
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
