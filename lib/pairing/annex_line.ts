/**
 * The line of `git annex p2p --gen-addresses` for an address: its URL, a colon and a token. git-annex's
 * `--link` takes it on stdin.
 */

import { ANNEX_URL_PREFIX } from "../repository/address.ts";
import { decodeTicket } from "../repository/ticket.ts";

/** Maximum length of a line: twice an address with the longest URL of a relay, and its token. */
export const MAX_LINE_CHARACTERS = 2048;

/** A line, taken apart. */
export interface AnnexLine {
  /** `p2p-annex::iroh:ADDRESS`, as git-annex writes it into the remote's `url`. */
  readonly url: string;
  /** The address alone. */
  readonly address: string;
  /** The line itself, with its token: never shown, never logged, never on a command line. */
  readonly line: string;
}

/**
 * Reads a line. A peer may send any text, and git-annex would run the program that another network's name says.
 * So only the line of an address of this program is one.
 *
 * @returns Undefined if it is none.
 */
export function parseAnnexLine(line: string): AnnexLine | undefined {
  if (line.length > MAX_LINE_CHARACTERS) return undefined;
  const [, url, address] = /^(p2p-annex::iroh:(endpoint[a-z2-7]+)):[\w+/=.-]+$/.exec(line) ?? [];
  if (!url?.startsWith(ANNEX_URL_PREFIX) || !isAddress(address!)) return undefined;
  return { url, address: address!, line };
}

function isAddress(text: string): boolean {
  try {
    decodeTicket(text);
    return true;
  } catch {
    return false; // it is damaged
  }
}
