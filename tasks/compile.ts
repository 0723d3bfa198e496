/**
 * deno task compile [--target NAME] [--output FILE]
 *
 * Makes one executable. An executable reads all that is embedded in it at each start, so little is
 * embedded:
 *
 * - the sources and their packages as a bundle, of which each call loads only its parts
 * - iroh's addon for the target, packed (lib/iroh/addon.ts unpacks it)
 */

import { dirname, join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { packAddon } from "../lib/iroh/packed_addon.ts";
import { installPackages, IROH, type Package, runDeno } from "./packages.ts";
import { RUN_FLAGS } from "./run_flags.ts";

/** Targets, each with Deno's name of the platform, and the end of the name of iroh's package for it. */
const TARGETS: Record<string, { platform: string; addon: string; suffix?: string }> = {
  "linux-x64": { platform: "x86_64-unknown-linux-gnu", addon: "linux-x64-gnu" },
  "linux-arm64": { platform: "aarch64-unknown-linux-gnu", addon: "linux-arm64-gnu" },
  "macos-arm64": { platform: "aarch64-apple-darwin", addon: "darwin-arm64" },
  "windows-x64": { platform: "x86_64-pc-windows-msvc", addon: "win32-x64-msvc", suffix: ".exe" },
};
const ADDON = "addon.packed";

const root = dirname(import.meta.dirname!);

function hostTarget(): string {
  const os = { darwin: "macos", windows: "windows" }[Deno.build.os as string] ?? "linux";
  return `${os}-${Deno.build.arch === "aarch64" ? "arm64" : "x64"}`;
}

/** Makes a folder with all that is embedded. */
async function makeBundle(bundle: string, work: string, addon: string): Promise<void> {
  const packages = await installPackages(work, addon);
  await Deno.copyFile(join(root, "main.ts"), join(work, "main.ts"));
  await copyProgram(join(root, "lib"), join(work, "lib"));
  // The compiled program loads the addon itself. The rest of iroh's package only finds the addon.
  const flags = ["--quiet", "--platform", "deno", "--code-splitting", "--external", IROH];
  await runDeno(["bundle", ...flags, "--outdir", bundle, "main.ts"], work);
  await Deno.writeFile(join(bundle, ADDON), packAddon(await readAddon(packages)));
  const { unstable } = JSON.parse(await Deno.readTextFile(join(root, "deno.json")));
  await Deno.writeTextFile(join(bundle, "deno.json"), JSON.stringify({ unstable }));
}

async function copyProgram(from: string, to: string): Promise<void> {
  await Deno.mkdir(to);
  for await (const { name, isDirectory } of Deno.readDir(from)) {
    if (isDirectory) await copyProgram(join(from, name), join(to, name));
    else if (!name.endsWith("_test.ts")) await Deno.copyFile(join(from, name), join(to, name));
  }
}

async function readAddon(packages: Package[]): Promise<Uint8Array> {
  const paths = [];
  for (const { folder } of packages) {
    for await (const { name } of Deno.readDir(folder)) {
      if (name.endsWith(".node")) paths.push(join(folder, name));
    }
  }
  if (paths.length !== 1) {
    throw new Error(`expected one addon, found ${paths.length} ${paths.join(" ")}`);
  }
  return await Deno.readFile(paths[0]!);
}

async function main(): Promise<number> {
  const { values } = parseArgs({
    args: Deno.args,
    options: { target: { type: "string" }, output: { type: "string" } },
  });
  const name = values.target ?? hostTarget();
  const target = TARGETS[name];
  if (!target) {
    // deno-lint-ignore no-console -- a task talks to the terminal
    console.error(`unknown target ${name}; choose one of ${Object.keys(TARGETS).join(", ")}`);
    return 2;
  }
  const output = resolve(values.output ?? `git-annex-p2p-iroh${target.suffix ?? ""}`);
  const folder = await Deno.makeTempDir({ prefix: "compile-" });
  try {
    const bundle = join(folder, "bundle"), work = join(folder, "work");
    await Deno.mkdir(work);
    await makeBundle(bundle, work, target.addon);
    // Deno downloads the runtime of a named target. For this machine $DENORT_BIN may name one.
    const platform = name === hostTarget() ? [] : ["--target", target.platform];
    await runDeno([
      "compile",
      "--no-check",
      "--no-code-cache", // it would lie in a shared folder, under a name that other users can guess
      ...RUN_FLAGS,
      ...platform,
      "--include",
      ADDON,
      "--output",
      output,
      "main.js",
    ], bundle);
    return 0;
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

if (import.meta.main) Deno.exit(await main());
