/** Checks the programs that have to work together. */

import { delimiter, join } from "node:path";
import { abortable } from "../async/abort.ts";
import { variable } from "../console/environment.ts";
import { systemReason } from "../console/failure.ts";
import { PROGRAM, VERSION_TEXT } from "../console/program.ts";
import { failure, type Finding, ok, warning } from "./finding.ts";

/** The first git-annex that works with programs like this one. */
export const OLDEST_GIT_ANNEX = "10.20251103";
/** Timeout for a program to print its version, also on a slow disk. */
const RUN_TIMEOUT_MS = 10_000;

/** Checks that git-annex is there and new enough. */
export async function checkGitAnnex(): Promise<Finding> {
  const todo = `install git-annex ${OLDEST_GIT_ANNEX} or later`;
  if (!onPath("git-annex")) return failure("git-annex is not on PATH", todo);
  const said = await outputOf("git-annex", "version", "--raw");
  const version = /^\d+\.\d{8}/.exec(said)?.[0];
  if (!version) return failure(`git-annex prints no version, but ${said}`, todo);
  const isOld = Number(version.replace(".", "")) < Number(OLDEST_GIT_ANNEX.replace(".", ""));
  return isOld ? failure(`git-annex ${version} is too old`, todo) : ok(`git-annex ${version}`);
}

/** Checks the command that git runs for `git fetch` and `git push` over P2P. */
export function checkGitRemote(
  os: typeof Deno.build.os = Deno.build.os,
  searchPath: string | undefined = variable("PATH"),
): Finding {
  const name = "git-remote-p2p-annex";
  const path = onPath(name, searchPath);
  if (path) return ok(`${name} is ${path}`);
  return failure(
    `${name} is not on PATH, so git fetch and git push do not work over P2P`,
    os === "windows"
      ? `copy git-annex.exe to ${name}.exe in the same folder`
      : `make it a link to git-annex: ln -s "$(command -v git-annex)" ~/.local/bin/${name}`,
  );
}

/** Tells how this repository can be paired. Only `git annex p2p --pair` needs another command. */
export function checkPairing(): Finding {
  const path = onPath("wormhole");
  return ok(
    `to pair, run ${PROGRAM} invite and join, or git annex p2p --pair` +
      (path ? ` with ${path}` : ", which needs wormhole"),
  );
}

/** Checks that git-annex finds this program. */
export async function checkProgram(): Promise<Finding> {
  const path = onPath(PROGRAM);
  if (!path) {
    return failure(
      `${PROGRAM} is not on PATH, so git-annex does not find it`,
      "put it, under that name, into a folder on PATH",
    );
  }
  const version = VERSION_TEXT.trim(), said = (await outputOf(path, "--version")).trim();
  if (said === version) {
    const isThis = !Deno.build.standalone ||
      await Deno.realPath(path) === await Deno.realPath(Deno.execPath());
    if (isThis) return ok(`${version} is ${path}`);
    return warning(
      `git-annex runs ${path}, and you ran ${Deno.execPath()} of the same version`,
      "keep one of the two",
    );
  }
  return failure(
    `git-annex runs another program, ${path}, whose --version prints ${said}`,
    `replace it by this one, ${version}`,
  );
}

/** Returns the path of an executable on PATH; undefined if there is none. */
function onPath(
  name: string,
  searchPath: string | undefined = variable("PATH"),
): string | undefined {
  const endings = Deno.build.os === "windows" ? [".exe", ".cmd", ".bat"] : [""];
  for (const folder of (searchPath ?? "").split(delimiter)) {
    for (const ending of endings) {
      const path = join(folder, name + ending);
      try {
        const { isFile, mode } = Deno.statSync(path);
        if (isFile && (Deno.build.os === "windows" || mode! & 0o111)) return path;
      } catch {
        continue; // no such file
      }
    }
  }
  return undefined;
}

/** Returns what a program prints to stdout, or why it prints nothing. */
async function outputOf(program: string, ...args: string[]): Promise<string> {
  try {
    const signal = AbortSignal.timeout(RUN_TIMEOUT_MS);
    const command = new Deno.Command(program, { args, stdin: "null", stderr: "null", signal });
    // The signal may kill a script whose child processes keep its stdout open.
    const { code, stdout } = await abortable(command.output(), signal);
    return code === 0 ? new TextDecoder().decode(stdout) : `nothing (exit status ${code})`;
  } catch (error) {
    return `nothing (${systemReason(error)})`;
  }
}
