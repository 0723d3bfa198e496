/** git-annex and Magic Wormhole for demo and tests: those on PATH, or else installed into `.tools/`. */

import { delimiter, dirname, join } from "node:path";

/** The first git-annex whose P2P listener works with helper programs. */
const OLDEST_GIT_ANNEX = 10_20251103;
const toolsDir = join(dirname(import.meta.dirname!), ".tools");

/** A tool that PyPI has, so that Python alone can install it. */
interface Tool {
  readonly name: string;
  /** Requirements for pip. */
  readonly requirements: readonly string[];
  readonly isOn: (path: string) => Promise<boolean>;
  /** Makes the commands in `bin`. The folder `python` has the packages. */
  readonly makeCommands: (bin: string, python: string) => Promise<void>;
}

/** The requirement for pip that installs git-annex. */
export const GIT_ANNEX_PACKAGE = "git-annex==10.20261026";

const GIT_ANNEX: Tool = {
  name: "git-annex",
  requirements: [GIT_ANNEX_PACKAGE],
  async isOn(path) {
    const version = await output(["git-annex", "version", "--raw"], path);
    const [, major, date] = /^(\d+)\.(\d{8})/.exec(version ?? "") ?? [];
    // PyPI's package lacks this command, which git fetch and git push need.
    const gitRemote = await output(["sh", "-c", "command -v git-remote-p2p-annex"], path);
    return Number(`${major}${date}`) >= OLDEST_GIT_ANNEX && gitRemote !== undefined;
  },
  async makeCommands(bin, python) {
    for (const name of ["git-annex", "git-annex-shell", "git-remote-p2p-annex"]) {
      await Deno.symlink(join(python, "git_annex", "git-annex"), join(bin, name));
    }
  },
};

/** Magic Wormhole, with a mailbox server, for pairing without the internet. */
const WORMHOLE: Tool = {
  name: "Magic Wormhole",
  requirements: ["magic-wormhole==0.24.0", "magic-wormhole-mailbox-server==0.8.0"],
  async isOn(path) {
    return await output(["wormhole", "--version"], path) !== undefined &&
      await output(["twist", "wormhole-mailbox", "--help"], path) !== undefined;
  },
  async makeCommands(bin, python) {
    for (const [name, module] of [["wormhole", "wormhole"], ["twist", "twisted"]]) {
      const script = `#!/bin/sh\nPYTHONPATH='${python}' exec python3 -m ${module} "$@"\n`;
      await Deno.writeTextFile(join(bin, name!), script, { mode: 0o755 });
    }
  },
};

/** A tool is missing, and pip cannot install it. The message says why. */
export class ToolMissing extends Error {}

/** Returns a PATH with git-annex. @throws {ToolMissing} */
export function pathWithGitAnnex(path: string): Promise<string> {
  return pathWith(GIT_ANNEX, path);
}

/** Returns a PATH with `wormhole` and `twist wormhole-mailbox`. @throws {ToolMissing} */
export function pathWithWormhole(path: string): Promise<string> {
  return pathWith(WORMHOLE, path);
}

async function pathWith(tool: Tool, path: string): Promise<string> {
  if (await tool.isOn(path)) return path;
  const folder = join(toolsDir, tool.name.toLowerCase().replaceAll(" ", "-"));
  const bin = join(folder, "bin"), withTool = [bin, path].join(delimiter);
  if (await tool.isOn(withTool)) return withTool;
  const python = join(folder, "python");
  await Deno.remove(folder, { recursive: true }).catch((error) => {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  });
  await Deno.mkdir(bin, { recursive: true });
  if (await output(["python3", "--version"], path) === undefined) {
    throw new ToolMissing(`there is no ${tool.name}, and no Python to install it with`);
  }
  const { success, stderr } = await new Deno.Command("python3", {
    args: ["-m", "pip", "install", "--quiet", "--target", python, ...tool.requirements],
    stdout: "null",
    stderr: "piped",
  }).output();
  if (!success) {
    const last = new TextDecoder().decode(stderr).trim().split("\n").at(-1);
    throw new ToolMissing(`there is no ${tool.name}, and pip cannot install it: ${last}`);
  }
  await tool.makeCommands(bin, python);
  if (await tool.isOn(withTool)) return withTool;
  throw new ToolMissing(`${tool.name} was installed from PyPI, but does not run on this machine`);
}

/** Returns what a command prints; undefined if it cannot be run or fails. */
async function output([program, ...args]: string[], path: string): Promise<string | undefined> {
  try {
    const command = new Deno.Command(program!, { args, env: { PATH: path }, stderr: "null" });
    const { success, stdout } = await command.output();
    return success ? new TextDecoder().decode(stdout) : undefined;
  } catch {
    return undefined; // no such program
  }
}
