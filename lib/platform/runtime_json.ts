/** Small files in the user's runtime folder, in which processes remember something for a while. */

import { debug } from "../console/stderr.ts";
import { writeAtomically } from "./atomic_file.ts";
import { readTextAtMost } from "./regular_file.ts";

/** A file that need not survive a loss of power. */
const PRIVATE_FILE = { mode: 0o600, ifPresent: "replace", isFlushed: false } as const;

/** Reads a file. Never throws. @returns Undefined if it is missing, too long or damaged. */
export function readRuntimeJson(path: string, maxBytes: number): unknown {
  try {
    return JSON.parse(readTextAtMost(path, maxBytes));
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) debug(() => `${path}: ${error}`);
    return undefined; // it is found out again
  }
}

/** Writes a file, private and at once. @throws The system's error if it cannot be written. */
export async function writeRuntimeJson(path: string, value: unknown): Promise<void> {
  await writeAtomically(path, JSON.stringify(value), PRIVATE_FILE);
}
