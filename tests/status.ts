/** The report of `status` in tests. */

import assert from "node:assert/strict";
import { type OutputUnit, Validator } from "@cfworker/json-schema";
import type { StatusReport } from "../lib/status/report.ts";
import type { Friend } from "./friends.ts";
import type { TestEnv } from "./testenv.ts";

const schema = JSON.parse(
  await Deno.readTextFile(new URL("../docs/status.schema.json", import.meta.url)),
);

/** Returns the report of `status --json` in a repository, checked against its schema. */
export async function statusOf(env: TestEnv, { host, repository }: Friend): Promise<StatusReport> {
  const command = ["git-annex-p2p-iroh", "status", "--json"];
  const lines = (await env.ok(command, { on: host, cwd: repository })).trimEnd().split("\n");
  assert.equal(lines.length, 1);
  return checked(lines[0]!);
}

/** Returns the report in a line, checked against its schema. */
export function checked(line: string): StatusReport {
  const report = JSON.parse(line);
  const { valid, errors } = new Validator(schema, "2020-12").validate(report);
  assert(valid, `${line}\n${errors.map(({ error }: OutputUnit) => error).join("\n")}`);
  return report;
}
