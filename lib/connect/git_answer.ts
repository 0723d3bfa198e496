/**
 * Watches git's bytes within git-annex's P2P protocol, and lets git notice if the peer's answer ends too early.
 *
 * git-annex's server runs `git upload-pack` or `git receive-pack`. If that process exits, the server may drop the last
 * bytes that it has written. Then git-annex here closes git's input, but git does not see that: the process `git
 * remote-p2p-annex` holds it open, and waits for git-annex, which waits for git. So `git fetch` would wait for ever.
 * That also happens if the connection is lost.
 *
 * An answer consists of git's packets (gitprotocol-common(5)). If it ends too early, git gets what it waits for: an
 * error, or only the last packet if that alone may be missing. git checks the data itself.
 * https://git-annex.branchable.com/design/p2p_protocol/
 */

import { debug } from "../console/stderr.ts";
import type { StdioWatch } from "../platform/stdio.ts";

/** Maximum length of a line. That of `AUTH` has about 100 characters. */
const MAX_LINE_BYTES = 1_000;
const LINE_FEED = 0x0a, DIGIT_ZERO = 0x30;
/** git's packet without data, with which an answer ends. */
const FLUSH = "0000";
/** First byte of a packet's data, if it belongs to one of the streams that git sends side by side. */
const BANDS = [1, 2, 3];
/** The band of errors. */
const ERROR_BAND = "\x03";
const MESSAGE = "the answer of the peer has ended too early; repeat the command";

/** Watches what goes through stdin and stdout. All bytes pass unchanged, until something has to be inserted. */
export class GitAnswer implements StdioWatch {
  #requests = new Messages();
  #answers = new Messages();
  #packets = new Packets();
  /** Number of lines that git-annex here has sent, and that the peer has sent. */
  #requestLines = 0;
  #answerLines = 0;
  /** Whether git-annex here has asked the peer for a git command. */
  #isGit = false;
  /** True if there is nothing to watch any longer. */
  #isOver = false;

  read(chunk: Uint8Array): void {
    if (this.#isOver) return;
    this.#requests.read(chunk, {
      line: (line) => {
        if (++this.#requestLines !== 2) return;
        this.#isGit = line.startsWith("CONNECT ");
        this.#isOver = !this.#isGit;
      },
      // If git needs nothing, it sends only a flush, and gets no answer.
      data: (data) => {
        if (data.some((byte) => byte !== DIGIT_ZERO)) this.#packets.isAwaited = true;
      },
    });
  }

  write(chunk: Uint8Array): readonly Uint8Array[] {
    if (this.#isOver) return present(this.#answers.takeHeld(), chunk);
    const pieces: Uint8Array[] = [];
    let from = 0;
    const bytes = this.#answers.read(chunk, {
      line: (line, bytes, at) => {
        const missing = this.#onLine(line);
        if (!missing) return;
        pieces.push(bytes.subarray(from, at), missing);
        from = at;
      },
      data: (data) => this.#packets.see(data),
    });
    pieces.push(bytes.subarray(from));
    if (this.#answers.heldBytes > MAX_LINE_BYTES) this.#isOver = true;
    if (this.#isOver) pieces.push(this.#answers.takeHeld());
    return present(...pieces);
  }

  end(): readonly Uint8Array[] {
    const isCut = !this.#isOver && this.#isGit && this.#answerLines > 0;
    this.#isOver = true;
    const missing = isCut ? this.#missing(false, this.#answers.dataLeft) : undefined;
    return missing ? [missing] : present(this.#answers.takeHeld());
  }

  /** Notes a line of the peer. @returns What has to come before it. */
  #onLine(line: string): Uint8Array | undefined {
    this.#answerLines++;
    if (this.#isOver) return undefined;
    const done = /^CONNECTDONE (\d+)$/.exec(line);
    const isExpected = this.#answerLines === 1
      ? line.startsWith("AUTH-SUCCESS ")
      : this.#isGit && line.startsWith("DATA ");
    if (!isExpected) this.#isOver = true;
    return done && this.#isGit ? this.#missing(done[1] === "0", 0) : undefined;
  }

  /** Returns messages that end git's answer. @param dataLeft Bytes that are to come of a message. */
  #missing(isSuccess: boolean, dataLeft: number): Uint8Array | undefined {
    const text = this.#packets.ending(isSuccess);
    if (text === "") return undefined;
    debug(() => `git's answer has ended too early; it gets ${JSON.stringify(text.slice(-100))}`);
    const rest = text.slice(dataLeft);
    return bytesOf(text.slice(0, dataLeft) + (rest && `DATA ${rest.length}\n${rest}`));
  }
}

/** What {@linkcode Messages} finds. */
interface MessageHandler {
  /** @param at Where the line begins in `bytes`. */
  readonly line: (line: string, bytes: Uint8Array, at: number) => void;
  readonly data: (data: Uint8Array) => void;
}

/** Splits one direction of the P2P protocol into lines and data. */
class Messages {
  /** Number of bytes that are to come of the present data. */
  dataLeft = 0;
  /** The beginning of a line. */
  #held = new Uint8Array();

  /** Returns the bytes that can be passed on: without a line that is not complete, and with the beginning of the first. */
  read(chunk: Uint8Array, handler: MessageHandler): Uint8Array {
    const bytes = this.#held.length > 0 ? joined(this.takeHeld(), chunk) : chunk;
    for (let at = 0; at < bytes.length;) {
      if (this.dataLeft > 0) {
        const data = bytes.subarray(at, at + this.dataLeft);
        this.dataLeft -= data.length;
        at += data.length;
        handler.data(data);
        continue;
      }
      const end = bytes.indexOf(LINE_FEED, at);
      if (end < 0) {
        this.#held = bytes.slice(at);
        return bytes.subarray(0, at);
      }
      const line = textOf(bytes.subarray(at, end));
      this.dataLeft = Number(/^DATA (\d{1,15})$/.exec(line)?.[1] ?? 0);
      handler.line(line, bytes, at);
      at = end + 1;
    }
    return bytes;
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

/** Follows the packets of git's answer. */
class Packets {
  /** Whether the answer to what git has sent last is not complete. At first git waits for the peer's references. */
  isAwaited = true;
  /** The length of a packet, as far as it has come: four hexadecimal digits. */
  #length = "";
  /** Bytes that are to come of the present packet. */
  #left = 0;
  /** First byte of the last packet's data; undefined if it has none. */
  #first: number | undefined;
  /** False if it is something else than packets, of which nothing is known. */
  #isValid = true;

  /** Looks at the next bytes of the answer. */
  see(data: Uint8Array): void {
    for (let at = 0; at < data.length && this.#isValid;) {
      if (this.#left > 0) {
        this.#first ??= data[at];
        const length = Math.min(this.#left, data.length - at);
        this.#left -= length;
        at += length;
        continue;
      }
      this.#length += String.fromCharCode(data[at++]!);
      if (this.#length.length === FLUSH.length) this.#begin();
    }
  }

  #begin(): void {
    const length = this.#length;
    this.#length = "";
    this.#isValid = /^[0-9a-f]{4}$/i.test(length);
    if (length === FLUSH) this.isAwaited = false;
    else this.#first = undefined;
    this.#left = Math.max(0, parseInt(length, 16) - FLUSH.length) || 0;
  }

  /** Returns what git has to get before the end, as text of one byte per character; nothing if all has come. */
  ending(isSuccess: boolean): string {
    if (!this.#isValid || (!this.isAwaited && this.#length === "" && this.#left === 0)) return "";
    const isOnBand = BANDS.includes(this.#first ?? 0);
    const isBetween = this.#length === "" && this.#left === 0;
    if (isSuccess && isOnBand && isBetween) return FLUSH;
    const text = (isOnBand ? ERROR_BAND : "ERR ") + MESSAGE;
    const packet = (text.length + FLUSH.length).toString(16).padStart(FLUSH.length, "0") + text;
    // What cannot be a length makes git give up at once.
    const rest = this.#length === "" ? "\0".repeat(this.#left) : "z".repeat(FLUSH.length);
    return rest + packet;
  }
}

function present(...pieces: Uint8Array[]): Uint8Array[] {
  return pieces.filter(({ length }) => length > 0);
}

function joined(a: Uint8Array, b: Uint8Array): Uint8Array {
  const both = new Uint8Array(a.length + b.length);
  both.set(a);
  both.set(b, a.length);
  return both;
}

/** Converts bytes to a text of one character per byte, and back. */
function textOf(bytes: Uint8Array): string {
  return String.fromCharCode(...bytes.subarray(0, MAX_LINE_BYTES));
}

function bytesOf(text: string): Uint8Array {
  return Uint8Array.from(text, (character) => character.charCodeAt(0));
}
