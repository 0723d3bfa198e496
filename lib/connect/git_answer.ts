/**
 * Watches git's bytes within git-annex's P2P protocol, and lets git notice if the peer's answer ends too early.
 *
 * git-annex's server runs `git upload-pack` or `git receive-pack`. If that process exits, the server may drop the last
 * bytes that it has written. Then git-annex here closes git's input, but git does not see that: the process `git
 * remote-p2p-annex` holds it open, and waits for git-annex, which waits for git. So `git fetch` would wait for ever.
 * That also happens if the connection is lost.
 *
 * An answer consists of git's packets (gitprotocol-common(5)). If it ends too early, git gets the rest if it can be
 * known, or else an error. Two things can be known:
 *
 * - the last packet, which is always the same
 * - the last byte of a pack, which `git upload-pack` holds back until it knows that all went well (pack_checksum.ts)
 *
 * Neither hides a loss: git checks the pack itself.
 * https://git-annex.branchable.com/design/p2p_protocol/
 */

import { debug } from "../console/stderr.ts";
import type { StdioWatch } from "../platform/stdio.ts";
import { joined, PackChecksum } from "./pack_checksum.ts";

/** Maximum length of a line. That of `AUTH` has about 100 characters. */
const MAX_LINE_BYTES = 1_000;
const LINE_FEED = 0x0a, DIGIT_ZERO = 0x30;
/** git's packet without data, with which an answer ends. */
const FLUSH = "0000";
/** First byte of a packet's data, if it belongs to one of the streams that git sends side by side. */
const BANDS = [1, 2, 3];
/** The bands of data and of errors. */
const DATA_BAND = 1, ERROR_BAND = 3;
const MESSAGE = "the answer of the peer has ended too early; repeat the command";

/**
 * Watches what goes through stdin and stdout. All bytes pass unchanged, until something has to be inserted. Until
 * git-annex here asks for a git command, none is held back.
 */
export class GitAnswer implements StdioWatch {
  #requests = new Messages();
  #answers = new Messages();
  #packets = new Packets();
  /** Number of lines that git-annex here has sent. */
  #requestLines = 0;
  /** Whether git-annex here has asked the peer for a git command. */
  #isGit = false;
  /** True if there is nothing to watch any longer. */
  #isOver = false;

  read(chunk: Uint8Array): void {
    if (this.#isOver) return;
    for (const { line, data } of this.#requests.read(this.#requests.withHeld(chunk))) {
      if (line !== undefined && ++this.#requestLines === 2) {
        this.#isGit = line.startsWith("CONNECT ");
        this.#isOver = !this.#isGit;
        this.#packets.isPush = line.endsWith("receive-pack");
      }
      // If git needs nothing, it sends only a flush, and gets no answer.
      if (data?.some((byte) => byte !== DIGIT_ZERO)) this.#packets.isAwaited = true;
    }
    if (this.#requests.heldBytes > MAX_LINE_BYTES) this.#isOver = true;
  }

  async write(chunk: Uint8Array): Promise<readonly Uint8Array[]> {
    const bytes = this.#answers.withHeld(chunk), pieces: Uint8Array[] = [];
    if (!this.#isGit || this.#isOver) return [bytes];
    let from = 0;
    for (const { line, data, at } of this.#answers.read(bytes)) {
      if (data) await this.#packets.see(data);
      const missing = line === undefined ? undefined : await this.#onLine(line);
      if (!missing) continue;
      pieces.push(bytes.subarray(from, at), missing);
      from = at;
    }
    // Something may have to come before a line that is not complete.
    if (this.#answers.heldBytes > MAX_LINE_BYTES) this.#isOver = true;
    if (this.#isOver) this.#answers.takeHeld();
    pieces.push(bytes.subarray(from, bytes.length - this.#answers.heldBytes));
    return pieces;
  }

  async end(): Promise<readonly Uint8Array[]> {
    const isCut = !this.#isOver && this.#isGit;
    this.#isOver = true;
    const missing = isCut ? await this.#missing(false, this.#answers.dataLeft) : undefined;
    return [missing ?? this.#answers.takeHeld()];
  }

  /** Notes a line of the peer. @returns What has to come before it. */
  async #onLine(line: string): Promise<Uint8Array | undefined> {
    if (this.#isOver) return undefined;
    if (!line.startsWith("DATA ")) this.#isOver = true;
    const done = /^CONNECTDONE (\d+)$/.exec(line);
    return done ? await this.#missing(done[1] === "0", 0) : undefined;
  }

  /** Returns messages that end git's answer. @param dataLeft Bytes that are to come of a message. */
  async #missing(isSuccess: boolean, dataLeft: number): Promise<Uint8Array | undefined> {
    const text = await this.#packets.ending(isSuccess);
    if (text === "") return undefined;
    debug(() => `git's answer has ended too early; it gets ${JSON.stringify(text.slice(-100))}`);
    const rest = text.slice(dataLeft);
    return bytesOf(text.slice(0, dataLeft) + (rest && `DATA ${rest.length}\n${rest}`));
  }
}

/** A line, or some of the data that follows it. */
interface Part {
  readonly line?: string;
  readonly data?: Uint8Array;
  /** Where it begins. */
  readonly at: number;
}

/** Splits one direction of the P2P protocol into lines and data. */
class Messages {
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

/** Follows the packets of git's answer. */
class Packets {
  /** Whether the answer to what git has sent last is not complete. At first git waits for the peer's references. */
  isAwaited = true;
  /** Whether git pushes. Then all packets after the references belong to a band. */
  isPush = false;
  #hasReferences = false;
  /** The length of a packet, as far as it has come: four hexadecimal digits. */
  #length = "";
  /** Bytes that are to come of the present packet. */
  #left = 0;
  /** First byte of the last packet's data; undefined if it has none. */
  #first: number | undefined;
  /** False if it is something else than packets, of which nothing is known. */
  #isValid = true;
  #pack = new PackChecksum();

  /** Looks at the next bytes of the answer. */
  async see(data: Uint8Array): Promise<void> {
    for (let at = 0; at < data.length && this.#isValid;) {
      if (this.#left > 0) {
        const piece = data.subarray(at, at + this.#left), isBegin = this.#first === undefined;
        this.#first ??= piece[0];
        if (this.#first === DATA_BAND) await this.#pack.add(isBegin ? piece.subarray(1) : piece);
        this.#left -= piece.length;
        at += piece.length;
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
    if (length !== FLUSH) this.#first = undefined;
    else {
      this.isAwaited = false;
      this.#hasReferences = true;
    }
    this.#left = Math.max(0, parseInt(length, 16) - FLUSH.length) || 0;
  }

  /** Returns what git has to get before the end, as text of one byte per character; nothing if all has come. */
  async ending(isSuccess: boolean): Promise<string> {
    const isBetween = this.#length === "" && this.#left === 0;
    if (!this.#isValid || (!this.isAwaited && isBetween)) return "";
    const isOnBand = BANDS.includes(this.#first ?? 0);
    const isLastByte = this.#first === DATA_BAND && this.#left === 1;
    if (isSuccess && (isOnBand && isBetween || isLastByte)) {
      const last = await this.#pack.lastByte();
      const data = last === undefined ? undefined : String.fromCharCode(last);
      if (isLastByte && data) return data + FLUSH;
      if (isBetween) return (data ? packet(String.fromCharCode(DATA_BAND) + data) : "") + FLUSH;
    }
    // What cannot be a length makes git give up at once.
    const rest = this.#length === "" ? "\0".repeat(this.#left) : "z".repeat(FLUSH.length);
    const isErrorOnBand = isOnBand || (this.isPush && this.#hasReferences);
    return rest + packet((isErrorOnBand ? String.fromCharCode(ERROR_BAND) : "ERR ") + MESSAGE);
  }
}

/** Returns a packet of git. */
function packet(text: string): string {
  return (text.length + FLUSH.length).toString(16).padStart(FLUSH.length, "0") + text;
}

/** Converts bytes to a text of one character per byte, and back. */
function textOf(bytes: Uint8Array): string {
  return String.fromCharCode(...bytes.subarray(0, MAX_LINE_BYTES));
}

function bytesOf(text: string): Uint8Array {
  return Uint8Array.from(text, (character) => character.charCodeAt(0));
}
