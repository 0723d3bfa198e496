/** Reads lines that the user types, or that another program writes to stdin. */

import { abortable } from "../async/abort.ts";
import { print } from "../console/stdout.ts";

/** Maximum length of a line, in bytes. A terminal takes 4,096. */
const MAX_LINE_BYTES = 8_192;

/** Lines of stdin. */
export class Input {
  #rest = new Uint8Array();

  /** Whether the user types them. */
  readonly isTerminal: boolean = Deno.stdin.isTerminal();

  /**
   * Returns the next line without its end, cut after {@linkcode MAX_LINE_BYTES}.
   *
   * @param prompt Shown on a terminal.
   * @returns Undefined at the end of stdin.
   * @throws The signal's reason.
   */
  async line(prompt: string, signal: AbortSignal): Promise<string | undefined> {
    if (this.isTerminal) await print(prompt);
    let bytes = this.#rest;
    while (!bytes.includes(LINE_FEED) && bytes.length < MAX_LINE_BYTES) {
      const buffer = new Uint8Array(MAX_LINE_BYTES);
      const read = await abortable(Deno.stdin.read(buffer), signal);
      if (read === null && bytes.length === 0) return undefined;
      if (read === null) break;
      bytes = Uint8Array.from([...bytes, ...buffer.subarray(0, read)]);
    }
    const found = bytes.indexOf(LINE_FEED);
    const end = Math.min(found === -1 ? bytes.length : found, MAX_LINE_BYTES);
    this.#rest = bytes.slice(found === -1 ? end : end + 1);
    return new TextDecoder().decode(bytes.subarray(0, end)).replace(/\r$/, "");
  }

  /** Asks a question on a terminal. @returns Whether the answer is yes. @throws The signal's reason. */
  async confirm(question: string, signal: AbortSignal): Promise<boolean> {
    const answer = await this.line(`${question} [y/N] `, signal);
    return /^\s*y(es)?\s*$/i.test(answer ?? "");
  }
}

const LINE_FEED = 0x0a;
