/** git-annex for the demo and the tests: the one on PATH, or one installed into `.tools/`. */

import { delimiter, dirname, join } from "node:path";

/** The first git-annex whose P2P listener works with programs like this one. */
const OLDEST_GIT_ANNEX = 10_20251103;
const PACKAGES = {
  gitAnnex: ["git-annex==10.20261026"],
  /** With a mailbox server, for pairing without the internet. */
  wormhole: ["magic-wormhole==0.24.0", "magic-wormhole-mailbox-server==0.8.0"],
};

const toolsDir = join(dirname(import.meta.dirname!), ".tools");

/** A tool is missing and cannot be installed. */
export class ToolMissing extends Error {}

/**
 * A PATH with git-annex on it.
 *
 * @param wormhole With `wormhole` and `twist wormhole-mailbox` on it, too.
 * @throws {ToolMissing} which says why it cannot be had.
 */
export async function pathWithTools({ wormhole = false } = {}): Promise<string> {
  const path = [join(toolsDir, "bin"), Deno.env.get("PATH") ?? ""].join(delimiter);
  const complete = async (path: string) =>
    await hasGitAnnex(path) && (!wormhole || await hasWormhole(path));
  const present = Deno.env.get("PATH") ?? "";
  if (await complete(present)) return present;
  if (!await complete(path)) await install({ wormhole });
  return path;
}

async function hasGitAnnex(path: string): Promise<boolean> {
  const version = await output(["git-annex", "version", "--raw"], path);
  const [, major, date] = /^(\d+)\.(\d{8})/.exec(version ?? "") ?? [];
  // The package in PyPI lacks this name for itself; without it fetch and push do not work.
  const complete = await output(["sh", "-c", "command -v git-remote-p2p-annex"], path);
  return Number(`${major}${date}`) >= OLDEST_GIT_ANNEX && complete !== undefined;
}

async function hasWormhole(path: string): Promise<boolean> {
  return await output(["wormhole", "--version"], path) !== undefined &&
    await output(["twist", "wormhole-mailbox", "--help"], path) !== undefined;
}

/** Installs git-annex from PyPI, where it is a program for Linux and macOS that needs no more. */
async function install({ wormhole }: { wormhole: boolean }): Promise<void> {
  const packages = join(toolsDir, "python"), bin = join(toolsDir, "bin");
  await Deno.remove(toolsDir, { recursive: true }).catch((error) => {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  });
  await Deno.mkdir(bin, { recursive: true });
  const wanted = [...PACKAGES.gitAnnex, ...wormhole ? PACKAGES.wormhole : []];
  if (await output(["python3", "--version"], Deno.env.get("PATH") ?? "") === undefined) {
    throw new ToolMissing("there is no git-annex, and no Python to install it with");
  }
  const { success, stderr } = await new Deno.Command("python3", {
    args: ["-m", "pip", "install", "--quiet", "--target", packages, ...wanted],
    stdout: "null",
    stderr: "piped",
  }).output();
  if (!success) {
    const last = new TextDecoder().decode(stderr).trim().split("\n").at(-1);
    throw new ToolMissing(`there is no git-annex, and pip cannot install it: ${last}`);
  }
  for (const name of ["git-annex", "git-annex-shell", "git-remote-p2p-annex"]) {
    await Deno.symlink(join("..", "python", "git_annex", "git-annex"), join(bin, name));
  }
  if (!wormhole) return;
  for (const [name, module] of [["wormhole", "wormhole"], ["twist", "twisted"]]) {
    const script = `#!/bin/sh\nPYTHONPATH='${packages}' exec python3 -m ${module} "$@"\n`;
    await Deno.writeTextFile(join(bin, name!), script, { mode: 0o755 });
  }
}

/** What a command prints, or undefined if it cannot be run or fails. */
async function output([program, ...args]: string[], path: string): Promise<string | undefined> {
  try {
    const command = new Deno.Command(program!, { args, env: { PATH: path }, stderr: "null" });
    const { success, stdout } = await command.output();
    return success ? new TextDecoder().decode(stdout) : undefined;
  } catch {
    return undefined; // it is not there
  }
}
