/** `git-annex-p2p-iroh status`: shows who is connected, how, and how much data moves. */

import { delay } from "../async/abort.ts";
import { findRepository } from "../repository/repository.ts";
import { Signals } from "../console/signals.ts";
import { statusReport } from "../status/report.ts";
import { statusText } from "../status/text.ts";
import { print } from "../console/stdout.ts";

/** Interval between reports of `--watch`. */
const WATCH_INTERVAL_MS = 1_000;
/** Moves the cursor home and erases what is below (ECMA-48: CUP, ED). */
const CLEAR = "\x1b[H\x1b[J";

/** In which form the report is printed. */
export interface StatusOptions {
  /** Prints one JSON object a line. */
  readonly json: boolean;
  /** Repeats the report until a signal comes. */
  readonly watch: boolean;
}

/** Prints the report. @returns 0. */
export async function status({ json, watch }: StatusOptions): Promise<number> {
  const repository = await findRepository();
  using signals = new Signals();
  if (!watch) {
    await print(await once());
    return 0;
  }
  const clear = !json && Deno.stdout.isTerminal() ? CLEAR : "";
  while (!signals.signal.aborted) {
    const text = await once().catch((error) => {
      if (signals.signal.aborted) return ""; // the signal came during the report
      throw error;
    });
    if (text) await print(clear + text);
    await delay(WATCH_INTERVAL_MS, signals.signal).catch(() => {}); // the signal: the loop ends
  }
  return 0;

  async function once(): Promise<string> {
    const report = await statusReport(repository, signals.signal);
    return json ? `${JSON.stringify(report)}\n` : statusText(report);
  }
}
