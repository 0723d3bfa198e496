/**
 * Watches git's bytes within git-annex's P2P protocol, and lets git notice if the peer's answer ends too early.
 *
 * git-annex's server runs `git upload-pack` or `git receive-pack`. If that process exits, the server may drop the last
 * bytes that it has written. Then git-annex here closes git's input, but git does not see that: the process `git
 * remote-p2p-annex` holds it open, and waits for git-annex, which waits for git. So `git fetch` would wait for ever.
 * That also happens if the connection is lost, or if the peer refuses with `ERROR`.
 *
 * An answer consists of git's packets (gitprotocol-common(5)). If it ends too early, git gets the rest if it can be
 * known, or else an error. Two things can be known:
 *
 * - The last packet is always the same. git gets it after all of a pack (pack_checksum.ts), or the report of a push.
 * - `git upload-pack` holds back the last byte of a pack until it knows that all went well. The checksum tells it.
 *
 * Neither hides a loss: git checks the pack and the report itself.
 * https://git-annex.branchable.com/design/p2p_protocol/
 */

import { debug } from "../console/stderr.ts";
import type { StdioWatch } from "../platform/stdio.ts";
import { AnnexMessages, MAX_LINE_BYTES } from "./annex_messages.ts";
import { FLUSH, GitPackets, packet } from "./git_packets.ts";
import { PackChecksum } from "./pack_checksum.ts";

/** First byte of a packet's data, if it belongs to one of the streams that git sends side by side. */
const BANDS = [1, 2, 3];
/** The bands of data and of errors. */
const DATA_BAND = 1, ERROR_BAND = 3;
const ERROR_MARK = "ERR ";
/** First byte of the packets in which git says that the repository here is shallow. They get no answer. */
const SHALLOW = "s".charCodeAt(0);
const MESSAGE = "the answer of the peer has ended too early; repeat the command";

/**
 * Watches what goes through stdin and stdout. All bytes pass unchanged, until something has to be inserted. Until
 * git-annex here asks for a git command, none is held back.
 */
export class GitAnswer implements StdioWatch {
  #requests = new AnnexMessages();
  #answers = new AnnexMessages();
  /** What git here has sent. */
  #sent = new GitPackets();
  /** Number of lines that git-annex here has sent. */
  #requestLines = 0;
  /** Undefined if git-annex here has not asked the peer for a git command. */
  #answer: Answer | undefined;
  /** True if there is nothing to watch any longer. */
  #isOver = false;

  read(chunk: Uint8Array): void {
    if (this.#isOver) return;
    for (const { line, data } of this.#requests.read(this.#requests.withHeld(chunk))) {
      if (line !== undefined && ++this.#requestLines === 2) {
        if (line.startsWith("CONNECT ")) this.#answer = new Answer(line.endsWith("receive-pack"));
        else this.#isOver = true;
      }
      for (const { first } of this.#sent.read(data)) {
        if (this.#answer && first !== SHALLOW) this.#answer.isAwaited = true;
      }
    }
    if (this.#requests.heldBytes > MAX_LINE_BYTES) this.#isOver = true;
  }

  async write(chunk: Uint8Array): Promise<readonly Uint8Array[]> {
    const bytes = this.#answers.withHeld(chunk), pieces: Uint8Array[] = [], answer = this.#answer;
    if (!answer || this.#isOver) return [bytes];
    let from = 0;
    for (const { line, data, at } of this.#answers.read(bytes)) {
      await answer.see(data);
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

  async end(): Promise<Uint8Array> {
    const isWatched = !this.#isOver;
    this.#isOver = true;
    const missing = isWatched && await this.#missing(false, MESSAGE, this.#answers.dataLeft);
    return missing || this.#answers.takeHeld();
  }

  /** Notes a line of the peer. @returns What has to come before it. */
  async #onLine(line: string): Promise<Uint8Array | undefined> {
    if (this.#isOver || line.startsWith("DATA ")) return undefined;
    this.#isOver = true;
    const [, kind, text] = /^(CONNECTDONE|ERROR) (.*)/.exec(line) ?? [];
    if (!kind) return undefined;
    const isError = kind === "ERROR";
    return await this.#missing(!isError && text === "0", isError ? text! : MESSAGE, 0);
  }

  /**
   * Returns messages that end git's answer; nothing if all has come.
   *
   * @param message Text of an error.
   * @param dataLeft Bytes that are to come of a message.
   */
  async #missing(
    isSuccess: boolean,
    message: string,
    dataLeft: number,
  ): Promise<Uint8Array | undefined> {
    const text = await this.#answer?.ending(isSuccess, message);
    if (!text) return undefined;
    debug(() => `git's answer has ended too early; it gets ${JSON.stringify(text.slice(-100))}`);
    const rest = text.slice(dataLeft);
    return bytesOf(text.slice(0, dataLeft) + (rest && `DATA ${rest.length}\n${rest}`));
  }
}

/** What git here gets from the peer. */
class Answer {
  /** Whether the answer to what git has sent last is not complete. At first git waits for the peer's references. */
  isAwaited = true;
  #hasReferences = false;
  #packets = new GitPackets(() => {
    this.isAwaited = false;
    this.#hasReferences = true;
  });
  #pack = new PackChecksum();

  /** @param isPush Whether git pushes. Then all packets after the references belong to a band. */
  constructor(readonly isPush: boolean) {}

  /** Looks at the next bytes. */
  async see(data: Uint8Array | undefined): Promise<void> {
    for (const { bytes, first, isBegin } of this.#packets.read(data)) {
      if (first === DATA_BAND) await this.#pack.add(isBegin ? bytes.subarray(1) : bytes);
    }
  }

  /** Returns what git has to get before the end, as text of one byte per character; nothing if all has come. */
  async ending(isSuccess: boolean, message: string): Promise<string> {
    const { first, left, isBetween, isInData, isValid } = this.#packets;
    const isError = first === ERROR_BAND || first === ERROR_MARK.charCodeAt(0);
    if (!isValid || (isBetween && (isError || !this.isAwaited))) return "";
    const isOnBand = BANDS.includes(first ?? 0), isLastByte = first === DATA_BAND && left === 1;
    if (isSuccess && this.isPush && isOnBand && isBetween) return FLUSH; // git checks the report that it has got
    if (isSuccess && (isOnBand && isBetween || isLastByte)) {
      const missing = await this.#pack.missing();
      const data = missing && String.fromCharCode(...missing);
      if (isLastByte && data) return data + FLUSH;
      if (isBetween && data !== undefined) {
        return (data && packet(String.fromCharCode(DATA_BAND) + data)) + FLUSH;
      }
    }
    // What cannot be a length makes git give up at once.
    const rest = isInData ? "\0".repeat(left) : "z".repeat(FLUSH.length);
    const isErrorOnBand = isOnBand || (this.isPush && this.#hasReferences);
    return rest + packet((isErrorOnBand ? String.fromCharCode(ERROR_BAND) : ERROR_MARK) + message);
  }
}

/** Returns bytes from a text of one character per byte. */
function bytesOf(text: string): Uint8Array {
  return Uint8Array.from(text, (character) => character.charCodeAt(0));
}
