import assert from "node:assert/strict";
import type { StatusReport } from "./report.ts";
import { statusText } from "./text.ts";

Deno.test("statusText: on Windows it does not advise to run up, which cannot serve there", () => {
  const report = { address: null, listener: null, peers: [] } as unknown as StatusReport;
  assert.match(statusText(report, "linux"), /^listener +none; run git-annex-p2p-iroh up, /m);
  const onWindows = statusText(report, "windows");
  assert.match(onWindows, /^listener +none, since git-annex cannot serve on Windows$/m);
  assert.doesNotMatch(onWindows, / up\b/);
});
