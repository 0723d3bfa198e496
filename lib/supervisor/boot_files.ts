/**
 * Files that start `up` when the user logs in, or when the system starts: for systemd, launchd and cron.
 *
 * A folder's name may have characters that such a file gives a meaning. They are escaped if that is possible,
 * and refused if not.
 */

import { Failure } from "../console/failure.ts";
import { isPrintable, printable } from "../console/printable.ts";
import { PROGRAM } from "../console/program.ts";

/** Name of the systemd template unit and of the launchd agent of a release. */
export const UNIT_NAME = PROGRAM;
/** Longer than `up` takes to end all that it has started: 2 s, 13.5 s and 2 s. */
export const STOP_TIMEOUT_S = 20;

/** What `up` is started with. */
export interface BootOptions {
  /** Folder of the repository. */
  readonly folder: string;
  /** PATH of the service. */
  readonly path: string;
  /** Path of this program. */
  readonly program: string;
}

/** A folder's name cannot stand in a file that starts `up`. */
export class UnfitName extends Failure {
  override readonly name = "UnfitName";
}

/**
 * Returns a systemd user unit (systemd.unit(5), systemd.service(5), systemd.exec(5)).
 *
 * @throws {UnfitName}
 */
export function systemdUnit({ folder, path, program }: BootOptions): string {
  for (const text of [folder, path, program]) refuseControlCharacters(text);
  // systemd takes a backslash at the end for a line that goes on, and removes spaces there.
  if (/[\\\s]$/.test(folder)) throw unfit(folder, "ends with a backslash or a space");
  if (/["'\\]/.test(program)) throw unfit(program, "has quotes or a backslash");
  const percent = (text: string) => text.replaceAll("%", "%%");
  const quoted = (text: string) => `"${percent(text).replaceAll(/["\\]/g, "\\$&")}"`;
  return unit({
    folder: percent(folder),
    path: quoted(`PATH=${path}`),
    exec: `${quoted(program)} up`,
  });
}

/** Returns a systemd template unit, whose instances are named after folders (systemd-escape(1)). */
export function systemdTemplate(): string {
  // systemd replaces %I by the folder, and %h by the home folder.
  const path = '"PATH=%h/.local/bin:/usr/local/bin:/usr/bin:/bin"';
  return unit({ folder: "/%I", path, exec: `/usr/bin/env ${PROGRAM} up` });
}

function unit({ folder, path, exec }: { folder: string; path: string; exec: string }): string {
  return `[Unit]
Description=git-annex repository ${folder}

[Service]
WorkingDirectory=${folder}
Environment=${path}
ExecStart=${exec}
KillMode=mixed
TimeoutStopSec=${STOP_TIMEOUT_S}
Restart=always
RestartSec=10

[Install]
WantedBy=default.target
`;
}

/** Returns a launchd agent (launchd.plist(5)). @param label Name of the agent. @throws {UnfitName} */
export function launchdAgent(label: string, { folder, path, program }: BootOptions): string {
  for (const text of [folder, path, program]) refuseControlCharacters(text);
  const text = (text: string) =>
    `<string>${
      text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;")
    }</string>`;
  return `<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<plist version="1.0">
<dict>
  <key>Label</key>${text(label)}
  <key>ProgramArguments</key>
  <array>
    ${text(program)}
    ${text("up")}
  </array>
  <key>WorkingDirectory</key>${text(folder)}
  <key>EnvironmentVariables</key>
  <dict><key>PATH</key>${text(path)}</dict>
  <key>RunAtLoad</key><true/>
  <key>KeepAlive</key><true/>
  <key>ExitTimeOut</key><integer>${STOP_TIMEOUT_S}</integer>
</dict>
</plist>
`;
}

/** Returns a line for crontab(5). @throws {UnfitName} */
export function cronLine({ folder, path, program }: BootOptions): string {
  for (const text of [folder, path, program]) refuseControlCharacters(text);
  const quoted = (text: string) => `'${text.replaceAll("'", `'\\''`)}'`.replaceAll("%", "\\%");
  return `@reboot cd ${quoted(folder)} && PATH=${quoted(path)} ${quoted(program)} up --background`;
}

/** No such file can hold these; Deno has put U+FFFD in the place of what is not UTF-8. */
function refuseControlCharacters(text: string): void {
  if (!isPrintable(text) || text.includes("\ufffd")) {
    throw unfit(text, "has control characters, or is not UTF-8");
  }
}

function unfit(text: string, why: string): UnfitName {
  return new UnfitName(`the name "${printable(text)}" ${why}`, { hint: "rename the folder" });
}
