/**
 * What `git annex remotedaemon --foreground` prints to stdout, one message a line (git-annex's
 * design/git-remote-daemon, and its RemoteDaemon.Types). Remotes are named by their URLs.
 */

/** A message about a remote. */
export interface DaemonMessage {
  readonly kind: "CONNECTED" | "DISCONNECTED" | "SYNCING" | "DONESYNCING" | "WARNING";
  readonly url: string;
  /** Of DONESYNCING `1` or `0`, of WARNING a text. */
  readonly rest: string;
}

/** Tells it to read git config and addresses again: it starts what is new, and stops what is gone. */
export const RELOAD = "RELOAD\n";

/** Reads a line. @returns Undefined for a message that this program does not know. */
export function parseDaemonMessage(line: string): DaemonMessage | undefined {
  const [, kind, url, rest = ""] =
    /^(CONNECTED|DISCONNECTED|SYNCING|DONESYNCING|WARNING) (\S+)(?: (.*))?$/.exec(line) ?? [];
  return kind && url ? { kind: kind as DaemonMessage["kind"], url, rest } : undefined;
}
