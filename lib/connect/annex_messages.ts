/** Splits git-annex's P2P protocol into lines and data (https://git-annex.branchable.com/design/p2p_protocol/). */

const LINE_FEED = 0x0a;
/** Maximum length of a line. That of `AUTH` has about 100 characters. What is longer is not read as text. */
export const MAX_LINE_BYTES = 1_000;

/** A line, or some of the data that follows it. */
interface Part {
  readonly line?: string;
  readonly data?: Uint8Array;
  /** Where it begins. */
  readonly at: number;
}

/** Splits one direction of the P2P protocol into lines and data. */
export class AnnexMessages {
  /** Number of bytes that are to come of the present data. */
  dataLeft = 0;
  /** The beginning of a line. */
  #held: Uint8Array<ArrayBuffer> = new Uint8Array();

  /** Returns the next bytes, and before them what was held, which is forgotten. */
  withHeld(chunk: Uint8Array): Uint8Array {
    return this.#held.length > 0 ? joined(this.takeHeld(), chunk) : chunk;
  }

  /** Yields what is complete, and holds the beginning of a line. */
  *read(bytes: Uint8Array): Generator<Part> {
    for (let at = 0; at < bytes.length;) {
      if (this.dataLeft > 0) {
        const data = bytes.subarray(at, at + this.dataLeft);
        this.dataLeft -= data.length;
        yield { data, at };
        at += data.length;
        continue;
      }
      const end = bytes.indexOf(LINE_FEED, at);
      if (end < 0) {
        this.#held = bytes.slice(at);
        return;
      }
      const line = textOf(bytes.subarray(at, end));
      this.dataLeft = Number(/^DATA (\d{1,15})$/.exec(line)?.[1] ?? 0);
      yield { line, at };
      at = end + 1;
    }
  }

  /** Length of the beginning of a line that is held back. */
  get heldBytes(): number {
    return this.#held.length;
  }

  /** Returns the beginning of a line, and forgets it. */
  takeHeld(): Uint8Array<ArrayBuffer> {
    const held = this.#held;
    this.#held = new Uint8Array();
    return held;
  }
}

/** Returns one array with the bytes of both. */
function joined(a: Uint8Array, b: Uint8Array): Uint8Array {
  const both = new Uint8Array(a.length + b.length);
  both.set(a);
  both.set(b, a.length);
  return both;
}

function textOf(bytes: Uint8Array): string {
  return String.fromCharCode(...bytes.subarray(0, MAX_LINE_BYTES));
}
