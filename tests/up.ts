/** Starts `up` for tests, and checks its events. */

import assert from "node:assert/strict";
import { type OutputUnit, Validator } from "@cfworker/json-schema";
import type { UpEvent } from "../lib/supervisor/event.ts";
import type { Annex } from "./annex.ts";
import type { Started, StartOptions } from "./testenv.ts";

const schema = JSON.parse(
  await Deno.readTextFile(new URL("../docs/up.schema.json", import.meta.url)),
);

/** Starts `up` in a repository. */
export function startUp(annex: Annex, ...more: (string | StartOptions)[]): Promise<Started> {
  const args = more.filter((arg) => typeof arg === "string");
  const options = more.find((arg) => typeof arg === "object");
  const command = ["git-annex-p2p-iroh", "up", ...args];
  return annex.env.start(command, { on: annex.host, cwd: annex.path, ...options });
}

/** Returns the events that `up --json` has printed, checked against their schema. */
export function validEvents(output: string): UpEvent[] {
  return output.trimEnd().split("\n").map((line) => {
    const event = JSON.parse(line);
    const { valid, errors } = new Validator(schema, "2020-12").validate(event);
    assert(valid, `${line}\n${errors.map(({ error }: OutputUnit) => error).join("\n")}`);
    return event;
  });
}
