/**
 * The lines that let peers in, of `git annex p2p --gen-addresses`. git-annex keeps each token in its list, and has no
 * command that removes one. So a line that was made for a peer which is not linked in the end is used again: it is
 * kept in a private file until then.
 *
 * Only a line that was given up is given to another peer. A join that was killed may have linked its peer, and two
 * peers with one token could not be shut out one by one.
 */

import { join } from "node:path";
import { Failure, systemReason } from "../console/failure.ts";
import { debug } from "../console/stderr.ts";
import { writeAtomically } from "../platform/atomic_file.ts";
import { readTextAtMost } from "../platform/regular_file.ts";
import { credsDir } from "../repository/identity.ts";
import { outputIn } from "../repository/git_annex.ts";
import { listenerFolder } from "../repository/listener_folder.ts";
import { type AnnexLine, MAX_LINE_CHARACTERS, parseAnnexLine } from "./annex_line.ts";
import type { AnnexPlace } from "./annex_place.ts";

/** Maximum number of lines that are kept: one for each invitation at a time, and some. */
const MAX_KEPT = 32;
const MAX_FILE_BYTES = MAX_KEPT * (MAX_LINE_CHARACTERS + 200);
/** Maximum size of git-annex's list of tokens that is read: some thousand tokens. */
const MAX_LIST_BYTES = 1024 * 1024;

/** A line that is kept. */
interface KeptLine {
  readonly line: string;
  /** For which peer it was made; the empty string if that was given up. */
  readonly peer: string;
}

/** git-annex makes no line for the address. */
export class NoLine extends Failure {
  override readonly name = "NoLine";
}

/**
 * Returns the line of an address that lets a peer in, the same one for the same peer until {@linkcode forgetLine}.
 *
 * @param address The address that is served. Other lines of git-annex, of other networks, are not looked at.
 * @param peer What the peer is known by.
 * @throws {NoLine} @throws {CommandFailed} @throws The signal's reason.
 */
export async function lineFor(
  place: AnnexPlace,
  address: string,
  peer: string,
  signal: AbortSignal,
): Promise<AnnexLine> {
  const kept = keptLines(place, address);
  const own = kept.find((line) => line.peer === peer) ?? kept.find((line) => line.peer === "");
  const line = own ? parseAnnexLine(own.line)! : await newLine(place, address, signal);
  const others = kept.filter((other) => other !== own).slice(0, MAX_KEPT - 1);
  await keep(place, [{ line: line.line, peer }, ...others]);
  return line;
}

/** Forgets the line of a peer that is linked: it is this peer's for good. */
export async function forgetLine(place: AnnexPlace, peer: string): Promise<void> {
  const kept = keptLines(place);
  await keep(place, kept.filter((line) => line.peer !== peer));
}

/** Leaves the line of a peer, which is not linked in the end, to the next one. */
export async function releaseLine(place: AnnexPlace, peer: string): Promise<void> {
  const kept = keptLines(place);
  await keep(place, kept.map((line) => line.peer === peer ? { ...line, peer: "" } : line));
}

async function newLine(
  { folder }: AnnexPlace,
  address: string,
  signal: AbortSignal,
): Promise<AnnexLine> {
  const output = await outputIn(folder, ["annex", "p2p", "--gen-addresses"], signal);
  const lines = output.split("\n").map((line) => parseAnnexLine(line));
  const line = lines.find((line) => line?.address === address);
  if (line) return line;
  throw new NoLine("git annex p2p --gen-addresses has printed no line for this address", {
    hint: "run git-annex-p2p-iroh doctor",
  });
}

/** Returns the lines that are kept and whose tokens git-annex still has. @param address Only those of an address. */
function keptLines(place: AnnexPlace, address?: string): KeptLine[] {
  let lines: KeptLine[];
  try {
    lines = parse(readTextAtMost(pathOf(place), MAX_FILE_BYTES));
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) debug(() => `no kept lines: ${error}`);
    return []; // then git-annex makes another one
  }
  const tokens = listedTokens(place);
  return lines.filter(({ line }) => {
    const parsed = parseAnnexLine(line);
    return parsed && tokens.has(line.slice(parsed.url.length + 1)) &&
      (address === undefined || parsed.address === address);
  });
}

/** Returns the tokens in git-annex's list. The user may have removed some, to keep a peer out. */
function listedTokens({ repository }: AnnexPlace): Set<string> {
  try {
    const list = readTextAtMost(join(credsDir(repository), "p2pauth"), MAX_LIST_BYTES);
    return new Set(list.split("\n").map((line) => line.split(" ", 1)[0]!));
  } catch (error) {
    debug(() => `git-annex's list of tokens: ${error}`);
    return new Set();
  }
}

async function keep(place: AnnexPlace, lines: readonly KeptLine[]): Promise<void> {
  const path = pathOf(place);
  try {
    await Deno.mkdir(listenerFolder(place.repository), { recursive: true, mode: 0o700 });
    await writeAtomically(path, JSON.stringify(lines), { mode: 0o600, ifPresent: "replace" });
  } catch (error) {
    throw new NoLine(`cannot write ${path}, ${systemReason(error)}`, {
      hint: "make room or correct the permissions, and try again",
    });
  }
}

function pathOf({ repository }: AnnexPlace): string {
  return join(listenerFolder(repository), "pairing-lines");
}

function parse(text: string): KeptLine[] {
  const value: unknown = JSON.parse(text);
  if (!Array.isArray(value)) throw new Error("it is damaged");
  return value.filter((entry) => typeof entry?.line === "string" && typeof entry.peer === "string");
}
