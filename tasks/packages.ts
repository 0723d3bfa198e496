/**
 * Installs the npm packages of the program, without those of the tests, into a folder.
 *
 * For a compiled program it installs one of the eleven packages with iroh's addon: that of the target,
 * which need not be this machine's.
 */

import { dirname, join } from "node:path";

/** Name of iroh's package. Each package `@number0/iroh-…` holds the addon of one platform. */
export const IROH = "@number0/iroh";
/** Packages that only tests import. */
const NOT_IN_PROGRAM = ["fast-check", "@cfworker/json-schema", "jsqr"];
const PROJECT = dirname(import.meta.dirname!);

/** An installed package. */
export interface Package {
  readonly folder: string;
  readonly name: string;
  readonly version: string;
  /** Name of the license, as the package states it. */
  readonly license: string;
}

/** A package in deno.lock. */
export interface LockedPackage {
  integrity?: string;
  optionalDependencies?: string[];
  os?: string[];
  cpu?: string[];
}

/** The parts of deno.lock that this file changes. */
export interface Lock {
  specifiers: Record<string, string>;
  npm: Record<string, LockedPackage>;
  workspace: { dependencies: string[] };
}

/** How to install packages. */
export interface InstallOptions {
  /** End of the name of the addon's package, such as `linux-x64-gnu`. By default no addon is installed. */
  readonly addon?: string;
  /**
   * Downloads each package. Deno compares what it downloads with deno.lock. What is in its cache it does not
   * compare, and that is installed by default.
   */
  readonly download?: boolean;
  /** Folder of deno.json and deno.lock, by default that of the project. */
  readonly root?: string;
}

/**
 * Writes deno.json and deno.lock into a folder, and installs their packages there.
 *
 * @throws {Error} if deno.lock has no integrity for a package, or another one than the download.
 */
export async function installPackages(
  folder: string,
  { addon, download = false, root = PROJECT }: InstallOptions = {},
): Promise<Package[]> {
  const config = JSON.parse(await Deno.readTextFile(join(root, "deno.json")));
  for (const name of NOT_IN_PROGRAM) delete config.imports[name];
  config.nodeModulesDir = "auto";
  const lock = await readLock(root);
  await Deno.writeTextFile(join(folder, "deno.json"), JSON.stringify(config));
  await Deno.writeTextFile(join(folder, "deno.lock"), JSON.stringify(lockFor(lock, addon)));
  const env = download ? { DENO_DIR: join(folder, ".deno-dir") } : {};
  await runDeno(["install", "--quiet", "--frozen"], folder, env);
  return await packagesIn(folder);
}

/** Reads deno.lock. @param root Folder of it, by default that of the project. */
export async function readLock(root: string = PROJECT): Promise<Lock> {
  return JSON.parse(await Deno.readTextFile(join(root, "deno.lock")));
}

/** Lets Deno download the program that `deno bundle` runs, if its cache lacks it. */
export async function cacheBundler(): Promise<void> {
  const folder = await Deno.makeTempDir({ prefix: "bundle-" });
  try {
    await Deno.writeTextFile(join(folder, "empty.js"), "");
    await runDeno(["bundle", "--quiet", "--no-config", "--outdir", "out", "empty.js"], folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

/** Runs this Deno with other arguments. @throws If it fails, after it has said why on the terminal. */
export async function runDeno(
  args: string[],
  cwd: string,
  env: Record<string, string> = {},
): Promise<void> {
  const { code } = await new Deno.Command(Deno.execPath(), { args, cwd, env }).spawn().status;
  if (code !== 0) throw new Error(`deno ${args[0]} failed with exit status ${code}`);
}

/** Returns deno.lock without the packages of tests, and without addons other than `addon`. */
function lockFor(lock: Lock, addon: string | undefined): Lock {
  const addonName = addon && `${IROH}-${addon}`;
  const kept = (name: string) => !NOT_IN_PROGRAM.some((other) => name.includes(`${other}@`));
  const npm = Object.fromEntries(
    Object.entries(lock.npm).filter(([name]) =>
      kept(name) && (!name.startsWith(`${IROH}-`) || name.startsWith(`${addonName}@`))
    ),
  );
  for (const [name, locked] of Object.entries(npm)) {
    if (!locked.integrity) throw new Error(`deno.lock has no integrity for ${name}`);
    if (name.startsWith(`${IROH}@`)) locked.optionalDependencies = addonName ? [addonName] : [];
    // Else Deno skips the addon of a platform that is not this machine's.
    if (name.startsWith(`${addonName}@`)) delete locked.os, delete locked.cpu;
  }
  return {
    ...lock,
    specifiers: Object.fromEntries(Object.entries(lock.specifiers).filter(([name]) => kept(name))),
    npm,
    workspace: { dependencies: lock.workspace.dependencies.filter(kept) },
  };
}

/** Returns the packages in a folder, by name. Deno gives each a folder, with links to its dependencies. */
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

/** Returns the folders of packages in `node_modules`, also those in the folder of a scope. */
async function foldersIn(folder: string): Promise<string[]> {
  const found = [];
  for await (const { name, isDirectory } of Deno.readDir(folder)) {
    if (!isDirectory) continue;
    const path = join(folder, name);
    found.push(...name.startsWith("@") ? await foldersIn(path) : [path]);
  }
  return found;
}
