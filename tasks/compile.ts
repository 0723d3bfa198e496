/**
 * deno task compile [--target NAME] [--output FILE]
 *
 * Makes one executable. `deno compile` embeds every package that deno.lock lists for the machine it
 * runs on: both of iroh's Linux addons, and the packages of the tests. So it is run in a folder with
 * the program alone and a deno.lock of what the target needs, with the target's one addon.
 */

import { dirname, join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { PERMISSIONS } from "./permissions.ts";

/** For each release: Deno's name of the platform, and the end of the name of iroh's package for it. */
const TARGETS: Record<string, { platform: string; addon: string; suffix?: string }> = {
  "linux-x64": { platform: "x86_64-unknown-linux-gnu", addon: "linux-x64-gnu" },
  "linux-arm64": { platform: "aarch64-unknown-linux-gnu", addon: "linux-arm64-gnu" },
  "macos-arm64": { platform: "aarch64-apple-darwin", addon: "darwin-arm64" },
  "windows-x64": { platform: "x86_64-pc-windows-msvc", addon: "win32-x64-msvc", suffix: ".exe" },
};
/** Imports of the tests. */
const NOT_IN_PROGRAM = ["fast-check", "@cfworker/json-schema"];
const IROH = "@number0/iroh";

interface LockedPackage {
  integrity?: string;
  optionalDependencies?: string[];
  os?: string[];
  cpu?: string[];
}

interface Lock {
  specifiers: Record<string, string>;
  npm: Record<string, LockedPackage>;
  workspace: { dependencies: string[] };
}

const root = dirname(import.meta.dirname!);

function hostTarget(): string {
  const os = { darwin: "macos", windows: "windows" }[Deno.build.os as string] ?? "linux";
  return `${os}-${Deno.build.arch === "aarch64" ? "arm64" : "x64"}`;
}

/** deno.lock without the packages that the target's program has no use for. */
function lockFor(lock: Lock, addon: string): Lock {
  const version = Object.keys(lock.npm).find((key) => key.startsWith(`${IROH}@`))!.slice(
    IROH.length,
  );
  const kept = (name: string) => !NOT_IN_PROGRAM.some((other) => name.includes(`${other}@`));
  const packages = Object.entries(lock.npm).filter(([name]) =>
    kept(name) && (!name.startsWith(`${IROH}-`) || name === `${IROH}-${addon}${version}`)
  );
  const npm = Object.fromEntries(packages);
  npm[`${IROH}${version}`]!.optionalDependencies = [`${IROH}-${addon}`];
  // The compiling machine need not be of the target's kind.
  const { integrity } = npm[`${IROH}-${addon}${version}`]!;
  npm[`${IROH}-${addon}${version}`] = integrity ? { integrity } : {};
  return {
    ...lock,
    specifiers: Object.fromEntries(Object.entries(lock.specifiers).filter(([name]) => kept(name))),
    npm,
    workspace: { dependencies: lock.workspace.dependencies.filter(kept) },
  };
}

async function stage(folder: string, addon: string): Promise<void> {
  const config = JSON.parse(await Deno.readTextFile(join(root, "deno.json")));
  for (const name of NOT_IN_PROGRAM) delete config.imports[name];
  const lock = JSON.parse(await Deno.readTextFile(join(root, "deno.lock"))) as Lock;
  await Deno.writeTextFile(join(folder, "deno.json"), JSON.stringify(config));
  await Deno.writeTextFile(join(folder, "deno.lock"), JSON.stringify(lockFor(lock, addon)));
  await Deno.copyFile(join(root, "main.ts"), join(folder, "main.ts"));
  await copyProgram(join(root, "lib"), join(folder, "lib"));
}

async function copyProgram(from: string, to: string): Promise<void> {
  await Deno.mkdir(to);
  for await (const { name, isDirectory } of Deno.readDir(from)) {
    if (isDirectory) await copyProgram(join(from, name), join(to, name));
    else if (!name.endsWith("_test.ts")) await Deno.copyFile(join(from, name), join(to, name));
  }
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
    console.error(`no target ${name}; there are ${Object.keys(TARGETS).join(", ")}`);
    return 2;
  }
  const output = resolve(values.output ?? `git-annex-p2p-iroh${target.suffix ?? ""}`);
  const folder = await Deno.makeTempDir({ prefix: "compile-" });
  try {
    await stage(folder, target.addon);
    // A named target is downloaded; the host's own runtime may be at hand ($DENORT_BIN).
    const platform = values.target && values.target !== hostTarget()
      ? ["--target", target.platform]
      : [];
    const { code } = await new Deno.Command(Deno.execPath(), {
      args: [
        "compile",
        "--no-check",
        "--no-code-cache", // it would lie at a name that others can guess, in a folder for all
        ...PERMISSIONS,
        ...platform,
        "--output",
        output,
        "main.ts",
      ],
      cwd: folder,
    }).spawn().status;
    return code;
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

if (import.meta.main) Deno.exit(await main());
