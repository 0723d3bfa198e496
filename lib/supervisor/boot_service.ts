/** Installs a service that starts `up` when the user logs in or the system starts: with systemd or launchd. */

import { variable } from "../console/environment.ts";
import { basename, dirname, join } from "node:path";
import { abortable } from "../async/abort.ts";
import { Failure, systemReason } from "../console/failure.ts";
import { PROGRAM } from "../console/program.ts";
import { debug } from "../console/stderr.ts";
import { ignoreNotFound, writeAtomically } from "../platform/atomic_file.ts";
import { type BootOptions, launchdAgent, systemdUnit } from "./boot_files.ts";

/** Timeout for a command of the service manager. To restart, it waits until `up` has ended. */
const COMMAND_TIMEOUT_MS = 60_000;
/** Maximum length of the folder's name in the service's. */
const MAX_NAME_CHARACTERS = 40;

/** The service manager has refused. */
export class ServiceError extends Failure {
  override readonly name = "ServiceError";
}

type Command = readonly string[];

/** A service manager, and the service of one repository there. */
export interface BootService {
  /** Name of the service. */
  readonly name: string;
  /** Path of the file that describes it. */
  readonly path: string;
  /** Returns what the file has to hold. @throws {UnfitName} */
  readonly content: (options: BootOptions) => string;
  /** Succeeds if the service manager runs. */
  readonly isThere: Command;
  /** Take up the file, and start the service anew. */
  readonly start: readonly Command[];
  /** Ends the service, for ever. */
  readonly stop: Command;
  /** Take up that the file is gone. */
  readonly forget: readonly Command[];
  /** Prints or tells by its exit status whether the service runs. */
  readonly isActive: Command;
  /** What else the user may do. */
  readonly advice: string;
}

/** Returns the service of a repository; undefined if this system has no service manager that runs. */
export async function bootService(folder: string): Promise<BootService | undefined> {
  const name = await serviceName(folder);
  const service = Deno.build.os === "darwin" ? launchd(name) : systemd(name);
  const isThere = await run(service.isThere).then(({ code }) => code === 0, () => false);
  return isThere ? service : undefined;
}

/** Writes the file, and starts the service. @throws {ServiceError} */
export async function installService(service: BootService, content: string): Promise<void> {
  try {
    await Deno.mkdir(dirname(service.path), { recursive: true });
    await writeAtomically(service.path, content, { mode: 0o644, ifPresent: "replace" });
  } catch (error) {
    throw new ServiceError(`cannot write ${service.path}, ${systemReason(error)}`);
  }
  for (const command of service.start) await runOk(command);
}

/** Ends the service, and removes its file. @returns False if it is not installed. @throws {ServiceError} */
export async function uninstallService(service: BootService): Promise<boolean> {
  if (!await isInstalled(service)) return false;
  await run(service.stop).catch((error) => debug(() => String(error))); // it may be stopped already
  await Deno.remove(service.path).catch(ignoreNotFound);
  for (const command of service.forget) await runOk(command);
  return true;
}

/** Returns the state of a service, for people. */
export async function serviceState(service: BootService): Promise<string> {
  if (!await isInstalled(service)) return "not installed";
  const { code, text } = await run(service.isActive);
  return code === 0 ? "active" : text.trim().split("\n")[0] || "not active";
}

async function isInstalled({ path }: BootService): Promise<boolean> {
  return await Deno.lstat(path).then(() => true, () => false);
}

/** Returns a name for the service of a repository: readable, and no other repository's. */
async function serviceName(folder: string): Promise<string> {
  const bytes = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(folder));
  const hash = new Uint8Array(bytes).subarray(0, 4).toHex();
  const base = basename(folder).replaceAll(/[^\w.-]/g, "_").slice(0, MAX_NAME_CHARACTERS);
  return `${PROGRAM}-${base}-${hash}`;
}

/** A systemd user unit. */
function systemd(name: string): BootService {
  const systemctl = (...args: string[]) => ["systemctl", "--user", ...args];
  const config = variable("XDG_CONFIG_HOME");
  const folder = config?.startsWith("/") ? config : join(home(), ".config");
  return {
    name,
    path: join(folder, "systemd", "user", `${name}.service`),
    content: systemdUnit,
    isThere: systemctl("show-environment"),
    start: [systemctl("daemon-reload"), systemctl("enable", name), systemctl("restart", name)],
    stop: systemctl("disable", "--now", name),
    forget: [systemctl("daemon-reload")],
    isActive: systemctl("is-active", name),
    advice: "to serve it also while you are not logged in, run loginctl enable-linger",
  };
}

/** A launchd agent. */
function launchd(name: string): BootService {
  const session = `gui/${Deno.uid()}`;
  const path = join(home(), "Library", "LaunchAgents", `${name}.plist`);
  const stop = ["launchctl", "bootout", `${session}/${name}`];
  return {
    name,
    path,
    content: (options) => launchdAgent(name, options),
    isThere: ["launchctl", "print", session],
    // One that is loaded has to be gone first. If there is none, bootout fails.
    start: [
      [
        "sh",
        "-c",
        `launchctl bootout ${session}/${name} && ` +
        `while launchctl print ${session}/${name} >/dev/null; do sleep 0.2; done; exit 0`,
      ],
      ["launchctl", "bootstrap", session, path],
    ],
    stop,
    forget: [],
    isActive: ["launchctl", "print", `${session}/${name}`],
    advice: "it starts when you log in",
  };
}

function home(): string {
  const home = variable("HOME");
  if (home) return home;
  throw new ServiceError("HOME is not set", { hint: "set it to your home folder" });
}

async function runOk(command: Command): Promise<void> {
  const { code, text } = await run(command);
  if (code === 0) return;
  const [line = `exit status ${code}`] = text.trim().split("\n");
  throw new ServiceError(`${command.join(" ")} failed: ${line}`);
}

/** Runs a command. @returns Its exit status, and what it prints. @throws {ServiceError} if it cannot run. */
async function run([program, ...args]: Command): Promise<{ code: number; text: string }> {
  try {
    const signal = AbortSignal.timeout(COMMAND_TIMEOUT_MS);
    const command = new Deno.Command(program!, { args, stdin: "null", signal });
    const { code, stdout, stderr } = await abortable(command.output(), signal);
    const decoder = new TextDecoder();
    return { code, text: decoder.decode(stderr) + decoder.decode(stdout) };
  } catch (error) {
    throw new ServiceError(`cannot run ${program}, ${systemReason(error)}`, { cause: error });
  }
}
