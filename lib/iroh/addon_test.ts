import assert from "node:assert/strict";
import { loadHint } from "./addon.ts";

Deno.test("addon: the hint names the systems whose glibc is new enough, if this one's is not", () => {
  const reason =
    "/lib/x86_64-linux-gnu/libc.so.6: version `GLIBC_2.34' not found (required by /a.node)";
  assert.equal(
    loadHint(reason, "linux"),
    "it needs glibc 2.34, as in Debian 12, Ubuntu 22.04, RHEL 9 or later",
  );
});

Deno.test("addon: the hint names the variable for temporary files of each system", () => {
  assert.match(loadHint("failed to map segment", "linux"), /noexec, set TMPDIR/);
  assert.match(loadHint("there is not enough space on the disk", "windows"), /full, set TEMP /);
});
