import assert from "node:assert/strict";
import { HandshakeError } from "../protocol/dumbpipe.ts";
import { ProtocolError } from "../protocol/mux.ts";
import { Evicted } from "./admission.ts";
import { Busy, closeReasonFor, NoService, NotAuthenticated, Stopped } from "./close_reasons.ts";

const CASES: [error: unknown, code: bigint, reason: string][] = [
  [new Busy(), 1n, "too many connections"],
  [new Evicted(), 1n, "too many connections"],
  [new NoService(), 2n, "git annex remotedaemon is not running"],
  [new Stopped(), 3n, "stopped"],
  [new HandshakeError(), 4n, "no hello"],
  [new ProtocolError(), 4n, "against the protocol"],
  [new NotAuthenticated(30_000), 5n, "not authenticated in time"],
  [new Error("a bug"), 3n, "stopped"],
];

for (const [error, code, reason] of CASES) {
  Deno.test(`closeReasonFor() gives code ${code} for ${error}`, () => {
    assert.deepEqual(closeReasonFor(error), [code, reason]);
  });
}
