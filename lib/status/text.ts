/** The report of `status` as text. */

import { localTime } from "../console/local_time.ts";
import { printable } from "../console/printable.ts";
import { PROGRAM } from "../console/program.ts";
import { shortKey } from "../repository/ticket.ts";
import type { UpStatus } from "../supervisor/entry.ts";
import type { StatusReport } from "./report.ts";

type Peer = StatusReport["peers"][number];

/** Width of the first column. */
const TERM_CHARACTERS = "listener  ".length;
const ENABLE = "git annex p2p --enable iroh";
const UNITS = ["B", "kB", "MB", "GB", "TB"] as const;

/** Returns the report as lines of text. */
export function statusText(
  { address, listener, version, up, peers }: StatusReport,
  os: typeof Deno.build.os = Deno.build.os,
): string {
  const lines = [
    ["address", address ?? `none; run ${os === "windows" ? ENABLE : `${PROGRAM} up`}`],
    ["listener", listenerText({ listener, version }, os)],
    ...up ? [["up", upText(up)]] : [],
    ...peers.map((peer) => ["peer", peerText(peer)]),
    ...peers.length === 0 ? [["peers", `none; run ${PROGRAM} invite`]] : [],
  ];
  return lines.map(([term, text]) =>
    `${term!.padEnd(TERM_CHARACTERS)}${
      text!.replaceAll("\n", `\n${" ".repeat(TERM_CHARACTERS)}`)
    }\n`
  ).join("");
}

function listenerText(
  { listener, version }: Pick<StatusReport, "listener" | "version">,
  os: typeof Deno.build.os,
): string {
  if (!listener && os === "windows") return "none, since git-annex cannot serve on Windows";
  if (!listener) return `none; run ${PROGRAM} up, so that peers reach this repository`;
  if (listener.elsewhere !== null) {
    return `on ${printable(listener.elsewhere)}; run ${PROGRAM} status there`;
  }
  if (listener.since === null) {
    return listener.version === null
      ? `process ${listener.pid}, which does not answer`
      : `process ${listener.pid}, of version ${printable(listener.version)}; this is version ` +
        `${version}, restart up or git annex remotedaemon`;
  }
  const { pid, since, relay, addresses } = listener;
  return `process ${pid}, since ${localTime(since)}, ${relay ? `relay ${relay}` : "no relay"}` +
    (addresses.length > 0 ? `\nreached at ${addresses.join(", ")}` : "");
}

/** Returns what the user knows of an `up`: which process, where, since when, in which state. */
export function upText({ pid, where, since, state }: UpStatus): string {
  return `process ${pid}, ${printable(where)}, since ${localTime(since)}, ${state}`;
}

function peerText(peer: Peer): string {
  const key = shortKey(peer.key);
  // The name of a remote may have control characters.
  const name = peer.remotes.length > 0 ? `${printable(peer.remotes.join(", "))} (${key})` : key;
  return `${name}: ${whereText(peer)}${movedText(peer)}`;
}

/** Returns whether a peer is here, or since when it is away, and how it is or would be reached. */
function whereText(peer: Peer): string {
  if (peer.connected) {
    return [
      "here",
      peer.path ?? "no path",
      ...peer.roundTripMs === null ? [] : [`${peer.roundTripMs} ms`],
      ...peer.lanes.map((lane) => `lane ${lane}`),
    ].join(", ");
  }
  const seen = peer.lastSeen ? `last seen ${localTime(peer.lastSeen)}` : "";
  const known = peer.awaySince
    ? `away since ${localTime(peer.awaySince)}${seen && `, ${seen}`}`
    : `not connected${seen && `, ${seen}`}`;
  if (peer.remotes.length === 0) return known;
  const routes = peer.routes.length > 0 ? peer.routes.join(", ") : "no route that is known";
  return `${known}\nto be reached by ${printable(routes)}`;
}

function movedText({ sessions, ...peer }: Peer): string {
  const { incoming, outgoing } = sessions;
  if (peer.bytesSent + peer.bytesReceived + incoming + outgoing === 0) return "";
  const moved = [
    `sent ${amount(peer.bytesSent)}${rate(peer.sentPerSecond)}`,
    `received ${amount(peer.bytesReceived)}${rate(peer.receivedPerSecond)}`,
    ...incoming > 0 ? [`${incoming} from there`] : [],
    ...outgoing > 0 ? [`${outgoing} from here`] : [],
  ];
  return `\n${moved.join(", ")}`;
}

function rate(bytesPerSecond: number): string {
  return bytesPerSecond > 0 ? ` at ${amount(bytesPerSecond)}/s` : "";
}

/** Returns a number of bytes in a decimal unit. */
export function amount(bytes: number): string {
  let value = bytes, unit = 0;
  while (value >= 999.5 && unit < UNITS.length - 1) {
    value /= 1000;
    unit++;
  }
  return `${unit > 0 && value < 9.95 ? value.toFixed(1) : value.toFixed(0)} ${UNITS[unit]}`;
}
