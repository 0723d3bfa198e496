/** A repository with git-annex, and what it tells a peer about itself. */

import { variable } from "../console/environment.ts";
import { Failure } from "../console/failure.ts";
import { CommandFailed, outputIn, reasonOf, runIn } from "../repository/git_annex.ts";
import { CONFIG_NOTHING_FOUND, type Repository } from "../repository/repository.ts";

/** A repository, and the folder in which git and git-annex run. */
export interface AnnexPlace {
  readonly repository: Repository;
  /** The work tree, or the git directory of a bare repository. */
  readonly folder: string;
}

/** The folder is no repository of git-annex. */
export class NoAnnex extends Failure {
  override readonly name = "NoAnnex";

  constructor() {
    super("this is not a repository of git-annex", { hint: "run git annex init in it" });
  }
}

/** Returns git-annex's UUID of a repository. @throws {NoAnnex} @throws {CommandFailed} */
export async function annexUuid({ folder }: AnnexPlace, signal: AbortSignal): Promise<string> {
  const uuid = await configValue(folder, "annex.uuid", signal);
  if (uuid !== undefined) return uuid;
  throw new NoAnnex();
}

/** Returns a value of git config; undefined if it is not set. @throws {CommandFailed} */
export async function configValue(
  folder: string,
  key: string,
  signal: AbortSignal,
): Promise<string | undefined> {
  const run = await runIn(folder, ["config", "--get", key], signal);
  if (run.code > CONFIG_NOTHING_FOUND) {
    throw new CommandFailed(`git config --get ${key} failed: ${reasonOf(run)}`);
  }
  return run.stdout.trim() || undefined;
}

/**
 * Returns what a peer may call this repository: the user's first name in git config, or else the login name. Commits
 * have the former, so the peer learns nothing new.
 */
export async function ownName({ folder }: AnnexPlace, signal: AbortSignal): Promise<string> {
  const fullName = await configValue(folder, "user.name", signal);
  const [firstName] = fullName?.toLowerCase().split(/\s+/, 1) ?? [];
  return firstName || variable("USER") || variable("LOGNAME") || Deno.hostname();
}

/**
 * Returns the branch that HEAD names, which may have no commit yet. For an adjusted branch of git-annex, such as
 * `adjusted/main(unlocked)`, returns the one that it adjusts, and for a view undefined: it has no commits of others.
 */
export async function currentBranch(
  { folder }: AnnexPlace,
  signal: AbortSignal,
): Promise<string | undefined> {
  const { code, stdout } = await runIn(folder, ["symbolic-ref", "--quiet", "HEAD"], signal);
  const name = code === 0 ? stdout.trim().replace(/^refs\/heads\//, "") : "";
  const branch = /^adjusted\/(.+)\([^()/]+\)$/.exec(name)?.[1] ?? name;
  return branch === "" || branch.startsWith("views/") ? undefined : branch;
}

/** Returns the name of a branch that a peer has sent; undefined if git does not take it. */
export async function checkedBranch(
  { folder }: AnnexPlace,
  name: string | undefined,
  signal: AbortSignal,
): Promise<string | undefined> {
  if (name === undefined || name.startsWith("-") || name === "HEAD") return undefined;
  const { code } = await runIn(folder, ["check-ref-format", `refs/heads/${name}`], signal);
  return code === 0 ? name : undefined;
}

/**
 * Gives the branch of a repository without commits the name of a peer's, which may have no commit yet: so
 * `git annex sync` exchanges it. A later run of this program finds the name again.
 *
 * @throws {CommandFailed} @throws The signal's reason.
 */
export async function nameBranch(
  { folder }: AnnexPlace,
  branch: string,
  signal: AbortSignal,
): Promise<void> {
  await outputIn(folder, ["symbolic-ref", "HEAD", `refs/heads/${branch}`], signal);
}

/** Returns the names of special remotes that a branch of git-annex knows and that are not enabled, for people. */
export async function specialRemotes(
  { folder }: AnnexPlace,
  branch: string,
  signal: AbortSignal,
): Promise<string[]> {
  const { code, stdout } = await runIn(folder, ["show", `${branch}:remote.log`], signal);
  if (code !== 0) return []; // there is none
  const config = ["config", "--get-regexp", "^remote\\..*\\.annex-uuid$"];
  const enabled = (await runIn(folder, config, signal)).stdout;
  const names = new Map<string, string>();
  for (const line of stdout.split("\n")) {
    const [, uuid, name] = /^(\S+) .*\bname=(\S+)/.exec(line) ?? [];
    if (uuid !== undefined && !enabled.includes(uuid)) names.set(uuid, decoded(name!));
  }
  return [...names.values()].toSorted();
}

/** Decodes a value of git-annex, which writes a character that is no letter or digit as its number. */
function decoded(value: string): string {
  return value.replace(/&(\d{1,6});/g, (_, code) => String.fromCodePoint(Number(code)));
}
