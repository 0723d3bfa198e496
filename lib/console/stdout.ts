/** Writing to stdout. */

import { Failure, systemReason } from "./failure.ts";

/** What was asked for cannot be printed. */
export class OutputError extends Failure {
  override readonly name = "OutputError";
}

/** Writes all of it. @throws What the system says: `BrokenPipe`, …. */
export async function writeStdout(bytes: Uint8Array): Promise<void> {
  for (let rest = bytes; rest.length > 0;) {
    rest = rest.subarray(await Deno.stdout.write(rest));
  }
}

/** Prints text for people, or for git-annex. @throws {OutputError} if nobody can have it. */
export async function print(text: string): Promise<void> {
  try {
    await writeStdout(new TextEncoder().encode(text));
  } catch (error) {
    throw new OutputError(`cannot write to stdout, ${systemReason(error)}`, { cause: error });
  }
}
