/** `git-annex-p2p-iroh status`: what is going on. */

import { delay } from "../async/abort.ts";
import { findRepository } from "../repository/repository.ts";
import { Signals } from "../console/signals.ts";
import { statusReport } from "../status/report.ts";
import { statusText } from "../status/text.ts";
import { print } from "../console/stdout.ts";

const WATCH_MS = 1_000;
/** Home, and erase what is below (ECMA-48: CUP, ED). */
const CLEAR = "\x1b[H\x1b[J";

/** How to tell it. */
export interface StatusOptions {
  /** One JSON object a line. */
  readonly json: boolean;
  /** Again and again, until a signal comes. */
  readonly watch: boolean;
}

/** Prints it. @returns 0. */
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
      if (signals.signal.aborted) return ""; // it was told to stop meanwhile
      throw error;
    });
    if (text) await print(clear + text);
    await delay(WATCH_MS, signals.signal).catch(() => {}); // stopped: the loop ends
  }
  return 0;

  async function once(): Promise<string> {
    const report = await statusReport(repository, signals.signal);
    return json ? `${JSON.stringify(report)}\n` : statusText(report);
  }
}
