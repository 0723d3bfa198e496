/** What `up` reports, as text for people and as JSON for programs (docs/up.schema.json). */

import { printable, printableJson } from "../console/printable.ts";

/** Number of the format. A format that drops or changes a field gets another number. */
const FORMAT = 1;

/** Something that has happened. */
export type UpEvent =
  /** Peers can link this repository by the address. */
  | { readonly event: "address"; readonly address: string }
  /** Another process serves the repository. `up` takes over when that ends. */
  | { readonly event: "waiting"; readonly pid: number; readonly by: string }
  /** Peers can connect. `pid` is the listener. */
  | { readonly event: "ready"; readonly pid: number }
  | RemoteEvent
  /** What served the repository has ended, and is started again. */
  | { readonly event: "restarting"; readonly reason: string; readonly seconds: number }
  /** git-annex says something for people. */
  | { readonly event: "message"; readonly text: string }
  | { readonly event: "stopping"; readonly reason: string };

/** What happens with a remote that remotedaemon hears of. */
export interface RemoteEvent {
  /** `changes`: git fetches them now, and `synced` or `not-synced` follows. */
  readonly event: "here" | "changes" | "synced" | "not-synced" | "gone";
  /** Name of the remote; its URL if it has none. */
  readonly remote: string;
  readonly url: string;
}

/** Returns an event as a line of text. */
export function eventText(event: UpEvent): string {
  return printable(textOf(event));
}

/** Returns an event as a line of JSON. */
export function eventJson(event: UpEvent, time = new Date()): string {
  return printableJson({ format: FORMAT, time: time.toISOString(), ...event });
}

function textOf(event: UpEvent): string {
  switch (event.event) {
    case "address":
      return `address ${event.address}`;
    case "waiting":
      return `${event.by} (process ${event.pid}) serves this repository; waiting for its end`;
    case "ready":
      return `ready, process ${event.pid} serves this repository`;
    case "here":
      return `${event.remote} is here`;
    case "changes":
      return `${event.remote} has changes`;
    case "synced":
      return `synced with ${event.remote}`;
    case "not-synced":
      return `the changes of ${event.remote} could not be fetched`;
    case "gone":
      return `${event.remote} is gone`;
    case "restarting":
      return `${event.reason}; starting again in ${event.seconds} s`;
    case "message":
      return `git-annex: ${event.text}`;
    case "stopping":
      return `stopping, ${event.reason}`;
  }
}
