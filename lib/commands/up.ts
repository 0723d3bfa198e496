/** `git-annex-p2p-iroh up`: serves the repository, and keeps it served. */

import type { UpAction } from "../console/arguments.ts";
import { Failure, systemReason } from "../console/failure.ts";
import { LogFile } from "../console/log_file.ts";
import { PROGRAM } from "../console/program.ts";
import { END_TIMEOUT_MS, Signals } from "../console/signals.ts";
import { variable } from "../console/environment.ts";
import { printable } from "../console/printable.ts";
import { debug, describeFailure } from "../console/stderr.ts";
import { print } from "../console/stdout.ts";
import {
  findRepository,
  readConfiguredSettings,
  readSettings,
  type Repository,
  topFolder,
} from "../repository/repository.ts";
import { type Settings, VARIABLE_PREFIX } from "../repository/settings.ts";
import { upText } from "../status/text.ts";
import { startInBackground, untilServing } from "../supervisor/background.ts";
import { type BootOptions, cronLine, STOP_TIMEOUT_S } from "../supervisor/boot_files.ts";
import {
  type BootService,
  bootService,
  installService,
  serviceState,
  uninstallService,
} from "../supervisor/boot_service.ts";
import { runningUp, upLogPath } from "../supervisor/entry.ts";
import { EventOutput } from "../supervisor/event_output.ts";
import { chooseSearchPath } from "../supervisor/search_path.ts";
import { findServer, whoRuns } from "../supervisor/server.ts";
import { Supervisor } from "../supervisor/supervisor.ts";

/** How `up` is called. */
export interface UpOptions {
  readonly action: UpAction;
  /** Prints one JSON object a line. */
  readonly json: boolean;
}

/** Where `up` does it. */
interface Place {
  readonly repository: Repository;
  /** Folder of the repository. */
  readonly folder: string;
}

/** Serves the repository, or arranges that it is served. @returns 0; of `status` 1 if it is not served. */
export async function up({ action, json }: UpOptions): Promise<number> {
  if (Deno.build.os === "windows") {
    throw new Failure("serving needs unix sockets, which Windows lacks", {
      hint: "connect to peers from here, or run git-annex in WSL",
    });
  }
  const repository = await findRepository();
  const place = { repository, folder: await topFolder(repository) };
  switch (action) {
    case "run":
      return await serve(place, json);
    case "background":
      return await background(place);
    case "install":
      return await install(place);
    case "uninstall":
      return await uninstall(place);
    case "status":
      return await status(place);
  }
}

/** Serves until a signal comes, or until stdout is closed. */
async function serve({ repository, folder }: Place, json: boolean): Promise<number> {
  await using log = new LogFile(upLogPath(repository));
  const output = new EventOutput(log, json);
  using signals = new Signals(STOP_TIMEOUT_S * 1000);
  const stop = AbortSignal.any([signals.signal, output.closed]);
  stop.addEventListener("abort", () => {
    output.emit({ event: "stopping", reason: systemReason(stop.reason) });
  });
  try {
    return await new Supervisor({ repository, folder, emit: output.emit }).run(stop);
  } catch (error) {
    if (stop.aborted) return 0;
    log.write(describeFailure(error).line); // main.ts writes it to stderr
    throw error;
  } finally {
    await output.flush();
  }
}

async function background({ repository, folder }: Place): Promise<number> {
  using signals = new Signals(END_TIMEOUT_MS);
  const { up, isNew } = await startInBackground(repository, folder, signals.signal);
  await print(
    `up        ${upText(up)}` +
      (isNew ? `\nlog       ${upLogPath(repository)}\n` : ", as before\n"),
  );
  return 0;
}

async function install({ repository, folder }: Place): Promise<number> {
  using signals = new Signals(END_TIMEOUT_MS);
  await checkEnvironment();
  const { path, program, leftOut } = chooseSearchPath(variable("PATH") ?? "");
  for (const line of leftOut) await print(`PATH is without ${printable(line)}\n`);
  const options: BootOptions = { folder, path, program };
  const service = await bootService(folder);
  if (!service) {
    await print(
      "systemd and launchd do not run here for this user; for cron, run crontab -e, and add this line:\n\n" +
        `${cronLine(options)}\n`,
    );
    return 0;
  }
  const content = service.content(options);
  await print(`${printable(service.path)}:\n\n${content}\n`);
  await installService(service, content);
  const running = await untilServing(repository, signals.signal);
  await print(`up        ${upText(running)}\n${service.advice}\n`);
  return 0;
}

/**
 * Checks that a service would have the settings that hold here: it does not get this environment.
 *
 * @throws {Failure} if not; the service might tell others what the user wants to keep.
 */
async function checkEnvironment(): Promise<void> {
  const [here, inService] = await Promise.all([readSettings(), readConfiguredSettings()]);
  const keys = Object.keys(here) as (keyof Settings)[];
  const variables = keys
    .filter((key) => JSON.stringify(here[key]) !== JSON.stringify(inService[key]))
    .map((key) => VARIABLE_PREFIX + key.replaceAll(/[A-Z]/g, "_$&").toUpperCase())
    .filter((name) => variable(name) !== undefined);
  if (variables.length === 0) return;
  throw new Failure(`the service would not have these settings: ${variables.join(", ")}`, {
    hint: "set them in git config, or unset the variables",
  });
}

async function uninstall({ folder }: Place): Promise<number> {
  const service = await requireService(folder);
  const wasThere = await uninstallService(service);
  await print(`${printable(service.path)} ${wasThere ? "is removed" : "is not installed"}\n`);
  return 0;
}

async function requireService(folder: string): Promise<BootService> {
  const service = await bootService(folder);
  if (service) return service;
  throw new Failure("systemd and launchd do not run here for this user", {
    hint: "remove the line from crontab -e",
  });
}

async function status({ repository, folder }: Place): Promise<number> {
  const [up, server, service] = await Promise.all([
    runningUp(repository),
    findServer(repository).catch((error) => debug(() => String(error))),
    bootService(folder),
  ]);
  if (up) await print(`up        ${upText(up)}\n`);
  else if (server) {
    const { pid, by } = await whoRuns(server.pid);
    await print(`up        none, but ${by} (process ${pid}) serves this repository\n`);
  } else await print(`up        none; run ${PROGRAM} up\n`);
  if (server) await print(`listener  process ${server.pid}\n`);
  const state = service && await serviceState(service);
  await print(
    `service   ${service ? `${service.name}: ${state}` : "no systemd or launchd of this user"}\n`,
  );
  return server ? 0 : 1;
}
