/**
 * How `git annex remotedaemon` is started at boot. In the foreground it ends with its stdin, so that is
 * kept open; and what keeps it open does not notice when remotedaemon has ended, so that the shell, whose
 * end starts it all again, is ended by hand.
 */

import { basename } from "node:path";

/** Of the unit and of the agent. */
export const UNIT_NAME = "git-annex-remotedaemon";

/**
 * A systemd user unit (systemd.service(5), systemd.exec(5)).
 *
 * @param repository Path of the repository, or what systemd puts in its place.
 * @param path For programs.
 */
export function systemdUnit(repository: string, path: string): string {
  return `[Unit]
Description=git-annex remotedaemon in ${repository}

[Service]
WorkingDirectory=${repository}
Environment="PATH=${path.replaceAll(/["\\]/g, "\\$&")}"
ExecStart=/bin/sh -c 'sleep infinity | { git annex remotedaemon --foreground; kill $$$$; }'
Restart=always
RestartSec=10

[Install]
WantedBy=default.target
`;
}

/** A launchd agent (launchd.plist(5)), as {@linkcode systemdUnit}. @param label Its name. */
export function launchdAgent(label: string, repository: string, path: string): string {
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
    ${text("/bin/sh")}
    ${text("-c")}
    ${text("tail -f /dev/null | { git annex remotedaemon --foreground; kill $$; }")}
  </array>
  <key>WorkingDirectory</key>${text(repository)}
  <key>EnvironmentVariables</key>
  <dict><key>PATH</key>${text(path)}</dict>
  <key>RunAtLoad</key><true/>
  <key>KeepAlive</key><true/>
</dict>
</plist>
`;
}

/** A line for crontab(5). */
export function cronLine(repository: string, path: string): string {
  const quoted = (text: string) => `'${text.replaceAll("'", `'\\''`)}'`.replaceAll("%", "\\%");
  return `@reboot cd ${quoted(repository)} && PATH=${quoted(path)} git annex remotedaemon`;
}

/** What to do on this system, for people; nothing where repositories cannot be served. */
export function bootAdvice(repository: string, path: string): string {
  if (Deno.build.os === "windows") return "";
  const cron = `or as a line for crontab -e:\n\n${cronLine(repository, path)}\n`;
  const name = `${UNIT_NAME}-${basename(repository).replaceAll(/[^\w.-]/g, "_")}`;
  if (Deno.build.os === "darwin") {
    const file = `~/Library/LaunchAgents/${name}.plist`;
    return `To serve this repository from login on, save this as\n${file}\nand run launchctl load ` +
      `${file}\n\n${launchdAgent(name, repository, path)}\n${cron}`;
  }
  const file = `~/.config/systemd/user/${name}.service`;
  const unit = systemdUnit(repository.replaceAll("%", "%%"), path.replaceAll("%", "%%"));
  return `To serve this repository from boot on, save this as\n${file}\nand run systemctl --user ` +
    `enable --now ${name} and loginctl enable-linger\n\n${unit}\n${cron}`;
}
