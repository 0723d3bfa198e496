/**
 * The npm packages of the program, without those of the tests, installed in a folder: for the target of
 * a compiled program with its one addon of iroh's eleven, which need not be one for this machine.
 */

import { dirname, join } from "node:path";

/** Its other packages, named `@number0/iroh-…`, hold an addon each. */
export const IROH = "@number0/iroh";
/** Imports of the tests. */
const NOT_IN_PROGRAM = ["fast-check", "@cfworker/json-schema"];
const root = dirname(import.meta.dirname!);

/** A package that has been installed. */
export interface Package {
  readonly folder: string;
  readonly name: string;
  readonly version: string;
  /** As its author names it. */
  readonly license: string;
}

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

/**
 * Writes deno.json and deno.lock into a folder, and installs beside them what they name.
 *
 * @param addon The end of the name of the addon's package, as in `linux-x64-gnu`; none if not given.
 */
export async function installPackages(folder: string, addon?: string): Promise<Package[]> {
  const config = JSON.parse(await Deno.readTextFile(join(root, "deno.json")));
  for (const name of NOT_IN_PROGRAM) delete config.imports[name];
  config.nodeModulesDir = "auto";
  const lock = JSON.parse(await Deno.readTextFile(join(root, "deno.lock"))) as Lock;
  await Deno.writeTextFile(join(folder, "deno.json"), JSON.stringify(config));
  await Deno.writeTextFile(join(folder, "deno.lock"), JSON.stringify(lockFor(lock, addon)));
  await runDeno(["install", "--quiet", "--frozen"], folder);
  return await packagesIn(folder);
}

/** Runs the Deno that runs this. @throws If it fails; why is on the terminal. */
export async function runDeno(args: string[], cwd: string): Promise<void> {
  const { code } = await new Deno.Command(Deno.execPath(), { args, cwd }).spawn().status;
  if (code !== 0) throw new Error(`deno ${args[0]} failed with exit status ${code}`);
}

/** deno.lock without the packages that are not wanted. */
function lockFor(lock: Lock, addon: string | undefined): Lock {
  const addonName = addon && `${IROH}-${addon}`;
  const kept = (name: string) => !NOT_IN_PROGRAM.some((other) => name.includes(`${other}@`));
  const npm = Object.fromEntries(
    Object.entries(lock.npm).filter(([name]) =>
      kept(name) && (!name.startsWith(`${IROH}-`) || name.startsWith(`${addonName}@`))
    ),
  );
  for (const [name, locked] of Object.entries(npm)) {
    if (name.startsWith(`${IROH}@`)) locked.optionalDependencies = addonName ? [addonName] : [];
    // This machine need not be of the target's kind.
    if (name.startsWith(`${addonName}@`)) delete locked.os, delete locked.cpu;
  }
  return {
    ...lock,
    specifiers: Object.fromEntries(Object.entries(lock.specifiers).filter(([name]) => kept(name))),
    npm,
    workspace: { dependencies: lock.workspace.dependencies.filter(kept) },
  };
}

/** By name. Deno has each in a folder of its own, with links to those that it needs. */
async function packagesIn(folder: string): Promise<Package[]> {
  const packages: Package[] = [];
  const all = join(folder, "node_modules", ".deno");
  for await (const { name, isDirectory } of Deno.readDir(all)) {
    if (!isDirectory || name === "node_modules") continue;
    for (const path of await foldersIn(join(all, name, "node_modules"))) {
      const { name, version, license } = JSON.parse(
        await Deno.readTextFile(join(path, "package.json")),
      );
      packages.push({ folder: path, name, version, license });
    }
  }
  return packages.toSorted((a, b) => a.name < b.name ? -1 : 1);
}

/** Those of packages, which may be in a scope's. */
async function foldersIn(folder: string): Promise<string[]> {
  const found = [];
  for await (const { name, isDirectory } of Deno.readDir(folder)) {
    if (!isDirectory) continue;
    const path = join(folder, name);
    found.push(...name.startsWith("@") ? await foldersIn(path) : [path]);
  }
  return found;
}
