/** `git-annex-p2p-iroh status`: shows who is connected, how, and how much data moves. */

import { abortable, delay } from "../async/abort.ts";
import { findRepository } from "../repository/repository.ts";
import { END_TIMEOUT_MS, Signals } from "../console/signals.ts";
import { statusReport } from "../status/report.ts";
import { statusText } from "../status/text.ts";
import { printableJson } from "../console/printable.ts";
import { clearScreen, print } from "../console/stdout.ts";

/** Interval between reports of `--watch`. */
const WATCH_INTERVAL_MS = 1_000;

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
  using signals = new Signals(END_TIMEOUT_MS);
  if (!watch) {
    await print(await once());
    return 0;
  }
  const clears = !json && Deno.stdout.isTerminal();
  while (!signals.signal.aborted) {
    const text = await once().catch((error) => {
      if (signals.signal.aborted) return ""; // the signal came during the report
      throw error;
    });
    if (text && clears) await clearScreen();
    if (text) await print(text);
    await delay(WATCH_INTERVAL_MS, signals.signal).catch(() => {}); // the signal: the loop ends
  }
  return 0;

  async function once(): Promise<string> {
    const { signal } = signals;
    const report = await abortable(statusReport(repository, signal), signal);
    return json ? `${printableJson(report)}\n` : statusText(report);
  }
}
