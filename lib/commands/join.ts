/** `git-annex-p2p-iroh join [DIR]`: links this repository, or a new one, with the one of an invitation. */

import { relative, resolve } from "node:path";
import type { JoinOptions } from "../console/arguments.ts";
import { Failure, systemReason, UsageError } from "../console/failure.ts";
import { Input } from "../platform/input.ts";
import { PROGRAM } from "../console/program.ts";
import { Signalled, Signals } from "../console/signals.ts";
import { say } from "../console/stderr.ts";
import { print } from "../console/stdout.ts";
import { type AnnexPlace, annexUuid } from "../pairing/annex_place.ts";
import { REMOTE_COST } from "../pairing/annex_remote.ts";
import { InvitationRefused } from "../pairing/exchange.ts";
import { type FirstFetch, firstFetch, type FirstFetchOptions } from "../pairing/first_fetch.ts";
import {
  decodeInvitation,
  type Invitation,
  INVITATION_PREFIX,
  isCutShort,
} from "../pairing/invitation.ts";
import { GIVE_UP_MS, type Joined, Joiner } from "../pairing/joiner.ts";
import {
  folderState,
  isInUse,
  keepRepository,
  makeRepository,
  removeRepository,
} from "../pairing/new_repository.ts";
import { chosenName } from "../pairing/remote_name.ts";
import { ensureEnabled } from "../repository/enable.ts";
import { withRelayToken } from "../repository/relay_token.ts";
import {
  findRepository,
  readSettings,
  RepositoryError,
  topFolder,
} from "../repository/repository.ts";
import { ensureServed, stopUp } from "../supervisor/background.ts";
import { upLogPath } from "../supervisor/entry.ts";
import { findServer } from "../supervisor/server.ts";
import { Serving } from "../supervisor/serving.ts";

/** Timeout for git to tell whether a new repository is in use, and another one for its removal. */
const REMOVAL_TIMEOUT_MS = 5_000;
/** Timeout for the end of what serves a repository that is removed: `up` and its listener take at most 14 s. */
const STOP_TIMEOUT_MS = 15_000;
/** Timeout for the end after a signal. */
const END_TIMEOUT_MS = GIVE_UP_MS + STOP_TIMEOUT_MS + 2 * REMOVAL_TIMEOUT_MS;

/** The folder cannot be used, or the user does not want it. */
export class NotJoined extends Failure {
  override readonly name = "NotJoined";
}

/** Where to join. */
interface Destination {
  /** Absolute path. */
  readonly path: string;
  /** Whether `join` makes the repository, or an unfinished one has made it. */
  readonly isNew: boolean;
}

/** Joins. @returns 0. */
export async function join(options: JoinOptions): Promise<number> {
  if (Deno.build.os === "windows") {
    throw new Failure("serving needs unix sockets, which Windows lacks", {
      hint: "join from git-annex in WSL",
    });
  }
  const name = options.name === undefined ? undefined : chosenName(options.name);
  const { word, code } = sortWords(options.words);
  const cwd = Deno.cwd();
  using signals = new Signals(END_TIMEOUT_MS);
  const { signal } = signals;
  const destination = await destinationOf(word, signal);
  const invitation = await askUser(destination, code, options.isSure, signal);
  const linked = await link(destination, { invitation, name, isDaemon: options.isDaemon }, signal);
  const { place, joined } = linked;
  const { path, isNew } = destination;
  if (joined && await finish(place, joined, isNew, signal) && isNew) await keepRepository(path);
  if (!await findServer(place.repository)) {
    await print(`up        ${PROGRAM} up serves it, so that ${linked.remote} reaches it\n`);
  }
  const folder = relative(cwd, path);
  const change = folder !== "" && !folder.startsWith("..") ? `cd ${shellWord(folder)} && ` : "";
  await print(`next      ${change}git annex sync --content ${linked.remote}\n`);
  return 0;
}

function shellWord(word: string): string {
  const text = word.startsWith("-") ? `./${word}` : word;
  return /^[\w./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}

/** Tells the folder from the invitation, and warns if the latter is there. */
function sortWords(words: readonly string[]): { word?: string; code?: string } {
  const isCode = (word: string) => word.toLowerCase().startsWith(INVITATION_PREFIX);
  const [code, another] = words.filter(isCode),
    [word, further] = words.filter((word) => !isCode(word));
  if (another !== undefined) throw new UsageError("join takes one invitation");
  if (further !== undefined) throw new UsageError("join takes one folder");
  if (code !== undefined) {
    say("other users of this host may have seen the invitation; next time, give it on stdin");
  }
  return { ...word !== undefined && { word }, ...code !== undefined && { code } };
}

/** Finds out where to join. Changes nothing but the current directory. @throws {NotJoined} */
async function destinationOf(
  word: string | undefined,
  signal: AbortSignal,
): Promise<Destination> {
  const path = resolve(word ?? ".");
  const state = await folderState(path, signal);
  if (state === "begun" || (state === "free" && word !== undefined)) return { path, isNew: true };
  Deno.chdir(path);
  try {
    const folder = await topFolder(await findRepository());
    const isNamed = word === undefined || await Deno.realPath(folder) === await Deno.realPath(path);
    if (isNamed) return { path: folder, isNew: false };
  } catch (error) {
    if (!(error instanceof RepositoryError)) throw error;
  }
  throw word === undefined
    ? new NotJoined("this is not a git repository", {
      hint: "to make one, name a folder: git-annex-p2p-iroh join DIR",
    })
    : new NotJoined(`${path} is not a git repository, and not empty`, {
      hint: "name a repository, or a folder that is new or empty",
    });
}

/** Reads the invitation, says what it does, and asks for consent if the repository exists. @throws {NotJoined} */
async function askUser(
  { path, isNew }: Destination,
  code: string | undefined,
  isSure: boolean,
  signal: AbortSignal,
): Promise<Invitation> {
  const input = new Input(), needsConsent = !isNew && !isSure;
  if (needsConsent && !input.isTerminal) {
    throw new UsageError(
      `the inviter gets access to ${path}, and there is no terminal to ask you`,
      "if you want that, add --yes",
    );
  }
  const invitation = decodeInvitation(code ?? await readCode(input, signal));
  await print(`The inviter gets access to ${path}, as you get to theirs.\n`);
  if (!needsConsent || await input.confirm("Go on?", signal)) return invitation;
  throw new NotJoined("not joined, nothing has changed");
}

async function readCode(input: Input, signal: AbortSignal): Promise<string> {
  for (let text = "";;) {
    const line = await input.line(text === "" ? "Invitation: " : "The rest of it: ", signal);
    if (line === undefined && text === "") throw new UsageError("there is no invitation on stdin");
    if (text !== "" && !line?.trim()) return text;
    text += line!.trim();
    if (text !== "" && !isCutShort(text)) return text;
  }
}

/** What is to be linked. */
interface LinkOptions {
  readonly invitation: Invitation;
  readonly name: string | undefined;
  readonly isDaemon: boolean;
}

/** Links both repositories. `joined` is undefined if they were linked before, and nothing is left to do. */
async function link(
  { path, isNew }: Destination,
  { invitation, name, isDaemon }: LinkOptions,
  signal: AbortSignal,
): Promise<{ place: AnnexPlace; remote: string; joined?: Joined }> {
  let joiner: Joiner | undefined, place: AnnexPlace | undefined;
  try {
    if (isNew) await makeRepository(path, signal);
    Deno.chdir(path);
    const repository = await findRepository();
    place = { repository, folder: await topFolder(repository) };
    await annexUuid(place, signal);
    const settings = await withRelayToken(await readSettings(), repository);
    joiner = await Joiner.open({ place, invitation, isNew, name, settings });
    const before = await joiner.linkedBefore(signal);
    if (before && !isNew) {
      await print(
        `linked    already, as the remote ${before.remote}\n` +
          "unused    the invitation, so it is still good; to link anew, first remove that remote\n",
      );
      return { place, remote: before.remote };
    }
    const address = await ensureEnabled(repository, place.folder, signal);
    await using serving = new AsyncDisposableStack();
    const serveHere = async () => void serving.use(await serve(place!, isDaemon, signal));
    if (before) await serveHere();
    const joined = before ?? await joiner.run(address, serveHere, signal);
    return { place, remote: joined.remote, joined };
  } catch (error) {
    if (!signal.aborted && joiner?.canGoOn(error)) {
      say("not complete; run the same command with the same invitation again while it is valid");
    } else await undo(error, isNew ? path : undefined, place, joiner);
    throw error;
  }
}

/** Has the repository served, and says how. Disposes of what runs no longer than this process. */
async function serve(
  { repository, folder }: AnnexPlace,
  isDaemon: boolean,
  signal: AbortSignal,
): Promise<AsyncDisposable> {
  const nothing = new AsyncDisposableStack();
  if (isDaemon) {
    const up = await ensureServed(repository, folder, signal);
    if (up) {
      await print(`up        process ${up.pid} serves it; its log is ${upLogPath(repository)}\n`);
    }
    return nothing;
  }
  return await findServer(repository) ? nothing : await Serving.begin(repository, folder, signal);
}

/** Leaves no remote and no new repository behind, and says so. @param made Path of a new repository. */
async function undo(
  error: unknown,
  made: string | undefined,
  place: AnnexPlace | undefined,
  joiner: Joiner | undefined,
): Promise<void> {
  try {
    const reason = error instanceof Signalled ? "interrupted there" : systemReason(error);
    const wasUsed = await joiner?.giveUp(reason) ?? false;
    const next = wasUsed && !(error instanceof InvitationRefused)
      ? "; the invitation is used up, so ask for a new one"
      : "";
    if (made === undefined) return wasUsed ? say(`no remote is left${next}`) : undefined;
    // If an earlier run has linked it, it stays, and so does what serves it.
    if (place && !await isInUse(made, AbortSignal.timeout(REMOVAL_TIMEOUT_MS))) {
      await stopUp(place.repository, AbortSignal.timeout(STOP_TIMEOUT_MS));
    }
    const end = await removeRepository(made, AbortSignal.timeout(REMOVAL_TIMEOUT_MS));
    if (end === "removed") say(`${made} is removed again${next}`);
    if (end === "kept") say(`${made} is in use, and stays${next}`);
  } catch (error) {
    say(
      `what was begun may be left in ${made ?? place?.folder}: ${systemReason(error)}; ` +
        "to remove it, run the same command with the same invitation again",
    );
  }
}

/** Fetches from the inviter, and says what has come of the join. @returns Whether all is fetched. */
async function finish(
  place: AnnexPlace,
  { remote, isCostSet, there, branch }: Joined,
  isNew: boolean,
  signal: AbortSignal,
): Promise<boolean> {
  const thereAs = there ? `; this repository is the remote ${there.remote} there` : "";
  await print(`linked    it is the remote ${remote} here${thereAs}\n`);
  if (isCostSet) await print(`cost      ${REMOTE_COST}, less than that of special remotes\n`);
  await print(`fetching  from ${remote}\n`);
  const fetched = await firstFetch(place, { remote, branch, isNew }, signal).catch((error) => {
    say(`both are linked, and not all is fetched; git annex sync --content ${remote} fetches it`);
    throw error;
  });
  for (const [term, text] of fetchLines(fetched, { remote, branch, isNew })) {
    await print(`${term.padEnd(10)}${text}\n`);
  }
  return fetched.failed === "";
}

function fetchLines(
  fetched: FirstFetch,
  { remote, branch, isNew }: FirstFetchOptions,
): [term: string, text: string][] {
  if (fetched.failed) return [["failed", `${fetched.failed}; git annex sync fetches again`]];
  const { checkedOut, otherBranch, isUnrelated, specialRemotes } = fetched;
  const lines: [string, string][] = [];
  if (checkedOut) lines.push(["branch", `${checkedOut} is checked out`]);
  else if (isNew) lines.push(["branch", `none, since ${remote} has no commit yet`]);
  if (otherBranch) {
    const text = `${otherBranch} here and ${branch} there, and git annex sync merges neither`;
    lines.push(["branch", `${text}; for theirs, run git checkout ${branch}`]);
  }
  if (isUnrelated) {
    const sync = `git annex sync --allow-unrelated-histories ${remote}`;
    lines.push(["history", `both have commits, and none in common; to merge them, run ${sync}`]);
  }
  if (specialRemotes.length > 0) {
    const names = specialRemotes.join(", ");
    lines.push(["special", `git annex enableremote NAME enables a special remote: ${names}`]);
  }
  return lines;
}
