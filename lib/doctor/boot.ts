/**
 * Starts `git annex remotedaemon` at boot, with systemd, launchd or cron.
 *
 * In the foreground remotedaemon ends when its stdin ends, so a `sleep` or `tail` keeps stdin open. That
 * process does not notice the end of remotedaemon. The command therefore kills its own shell, and the
 * service manager starts everything again.
 */

import { basename } from "node:path";

/** Name of the systemd unit and of the launchd agent. */
export const UNIT_NAME = "git-annex-remotedaemon";

/**
 * Returns a systemd user unit (systemd.service(5), systemd.exec(5)).
 *
 * @param repository Path of the repository, or a specifier that systemd replaces by it.
 * @param path PATH of the service.
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

/** Returns a launchd agent (launchd.plist(5)). @param label Name of the agent. @param path PATH of it. */
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

/** Returns a line for crontab(5). */
export function cronLine(repository: string, path: string): string {
  const quoted = (text: string) => `'${text.replaceAll("'", `'\\''`)}'`.replaceAll("%", "\\%");
  return `@reboot cd ${quoted(repository)} && PATH=${quoted(path)} git annex remotedaemon`;
}

/** Returns what the user can do on this system, or nothing if it cannot serve repositories. */
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
