/**
 * deno task compile [--target NAME] [--output FILE] [--stand-in FILE]
 *
 * Makes one executable. Some versions of Deno read at each start all that is embedded in an executable. It
 * contains:
 *
 * - the sources and their packages as a bundle, of which each call loads only its parts
 * - iroh's addon for the target, packed: on Linux between Deno's runtime and what is embedded, elsewhere
 *   embedded (lib/iroh/addon.ts finds and unpacks it)
 *
 * Two executables of one commit are identical. With --stand-in another file takes the place of the addon,
 * and no package is downloaded; tests use that.
 */

import { dirname, join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { packAddon, PackedAddon } from "../lib/iroh/packed_addon.ts";
import { PROGRAM } from "../lib/console/program.ts";
import { DENORT, type Denort, denortWith } from "./denort.ts";
import { addonProblems, programProblems } from "./inspect.ts";
import { installPackages, IROH, type Package, runDeno } from "./packages.ts";
import { RUN_FLAGS } from "./run_flags.ts";
import { hostTarget, type Target, targetOf } from "./targets.ts";

/** Embedded files: the packed addon, or where it is in the program. */
const ADDON = "addon.packed", PLACE = "addon.place";

/** How `deno bundle` lets CommonJS packages require modules. The packages require only modules of Node. */
const REQUIRE =
  /import \{ createRequire as (\w+) \} from "node:module";\s*var __require = \1\(import\.meta\.url\);/;

const root = dirname(import.meta.dirname!);

/** What `deno compile` is given. */
interface Bundle {
  /** Name of a further file to embed. */
  readonly included: string;
  /** The runtime; undefined for Deno's own. */
  readonly denort: Denort | undefined;
}

/** Makes a folder with all that is embedded. @param standIn Path of a file in place of the addon. */
async function makeBundle(
  bundle: string,
  work: string,
  target: Target,
  standIn?: string,
): Promise<Bundle> {
  const options = standIn === undefined ? { addon: target.addon, download: true } : {};
  const packages = await installPackages(work, options);
  const addon = standIn === undefined
    ? await readAddon(packages, target)
    : await Deno.readFile(standIn);
  await Deno.copyFile(join(root, "main.ts"), join(work, "main.ts"));
  await copyProgram(join(root, "lib"), join(work, "lib"));
  // The compiled program loads the addon itself. The rest of iroh's package only finds the addon.
  const flags = ["--quiet", "--platform", "deno", "--code-splitting", "--external", IROH];
  await runDeno(["bundle", ...flags, "--outdir", bundle, "main.ts"], work);
  await loadNodeModuleLater(bundle);
  const packed = packAddon(addon), denort = await denortWith(packed, target, work);
  if (denort) await Deno.writeTextFile(join(bundle, PLACE), JSON.stringify(denort.addon));
  else await Deno.writeFile(join(bundle, ADDON), packed);
  const { unstable } = JSON.parse(await Deno.readTextFile(join(root, "deno.json")));
  await Deno.writeTextFile(join(bundle, "deno.json"), JSON.stringify({ unstable }));
  // Deno embeds the modification times, too.
  for await (const { name } of Deno.readDir(bundle)) await Deno.utime(join(bundle, name), 0, 0);
  return { included: denort ? PLACE : ADDON, denort };
}

/**
 * Makes the bundle load `node:module` when a CommonJS package requires a module of Node, and not at each start.
 * It takes 3 ms to load, in which Deno measures the speed of a clock.
 */
async function loadNodeModuleLater(bundle: string): Promise<void> {
  for await (const { name } of Deno.readDir(bundle)) {
    const path = join(bundle, name), text = await Deno.readTextFile(path);
    const changed = text.replace(
      REQUIRE,
      "var __require = (name) => process.getBuiltinModule(name);",
    );
    if (changed.includes('"node:module"')) {
      throw new Error(`${name} loads node:module at its start`);
    }
    if (changed !== text) await Deno.writeTextFile(path, changed);
  }
}

async function copyProgram(from: string, to: string): Promise<void> {
  await Deno.mkdir(to);
  for await (const { name, isDirectory } of Deno.readDir(from)) {
    if (isDirectory) await copyProgram(join(from, name), join(to, name));
    else if (!name.endsWith("_test.ts")) await Deno.copyFile(join(from, name), join(to, name));
  }
}

/** Returns the addon in the packages. @throws {Error} if the target could not load it. */
async function readAddon(packages: Package[], target: Target): Promise<Uint8Array> {
  const paths = [];
  for (const { folder } of packages) {
    for await (const { name } of Deno.readDir(folder)) {
      if (name.endsWith(".node")) paths.push(join(folder, name));
    }
  }
  if (paths.length !== 1) {
    throw new Error(`expected one addon, found ${paths.length} ${paths.join(" ")}`);
  }
  const addon = await Deno.readFile(paths[0]!);
  throwProblems("addon", addonProblems(addon, target));
  return addon;
}

function throwProblems(what: string, problems: readonly string[]): void {
  if (problems.length > 0) throw new Error(`the ${what} does not work: ${problems.join("; ")}`);
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    args: Deno.args,
    options: {
      target: { type: "string", default: hostTarget() },
      output: { type: "string" },
      "stand-in": { type: "string" },
    },
  });
  const target = targetOf(values.target);
  const output = resolve(values.output ?? `git-annex-p2p-iroh${target.suffix}`);
  const folder = await Deno.makeTempDir({ prefix: "compile-" });
  try {
    const bundle = join(folder, "bundle"), work = join(folder, "work");
    await Deno.mkdir(work);
    const { included, denort } = await makeBundle(bundle, work, target, values["stand-in"]);
    // Under a name of its own, since Deno embeds the name.
    const program = join(work, `${PROGRAM}${target.suffix}`);
    await runDeno(
      [
        "compile",
        "--no-check",
        "--no-code-cache", // it would lie in a shared folder, under a name that other users can guess
        ...RUN_FLAGS,
        "--target",
        target.platform,
        "--include",
        included,
        "--output",
        program,
        "main.js",
      ],
      bundle,
      denort ? { [DENORT]: denort.path } : {},
    );
    throwProblems("program", programProblems(await Deno.readFile(program), target));
    // The program finds its addon in this way. It cannot if `deno compile` has moved it.
    if (denort) new PackedAddon(program, denort.addon).unpack();
    await Deno.copyFile(program, output);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

if (import.meta.main) {
  try {
    await main();
  } catch (error) {
    // deno-lint-ignore no-console -- a task talks to the terminal
    console.error((error as Error).message);
    Deno.exit(1);
  }
}
