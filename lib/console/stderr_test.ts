import assert from "node:assert/strict";
import { Failure, systemReason, UsageError } from "./failure.ts";
import { describeFailure } from "./stderr.ts";

Deno.test("describeFailure() says what happened and what to do, with the exit status", () => {
  const failure = new Failure("the disk is full", { hint: "make room" });
  assert.deepEqual(describeFailure(failure), {
    line: "the disk is full; make room",
    exitStatus: 1,
  });
  assert.deepEqual(describeFailure(new UsageError("no command")), {
    line: "no command; see git-annex-p2p-iroh --help",
    exitStatus: 2,
  });
});

Deno.test("describeFailure() calls an unexpected error a bug, and says where to report it", () => {
  const { line, exitStatus } = describeFailure(new TypeError("x is not a function"));
  assert.equal(
    line,
    "a bug in this program, TypeError: x is not a function; please report it at " +
      "https://github.com/git-annex-p2p-iroh/git-annex-p2p-iroh/issues with the output of " +
      "GIT_ANNEX_P2P_IROH_LOG=debug",
  );
  assert.equal(exitStatus, 1);
});

Deno.test("systemReason() returns the system's words alone", () => {
  const error = new Error("No space left on device (os error 28): write '/tmp/secret-path'");
  assert.equal(systemReason(error), "no space left on device");
  assert.equal(systemReason(new Error("timed out\n\nStack backtrace:\n  0: anyhow")), "timed out");
});
