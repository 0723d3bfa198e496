/** Writes to stdout. */

import { Failure, systemReason } from "./failure.ts";

/** stdout takes no text. */
export class OutputError extends Failure {
  override readonly name = "OutputError";
}

/** Writes all bytes. @throws What the system says, such as `BrokenPipe`. */
export async function writeStdout(bytes: Uint8Array): Promise<void> {
  for (let rest = bytes; rest.length > 0;) {
    rest = rest.subarray(await Deno.stdout.write(rest));
  }
}

/** Prints text for the user or for git-annex. @throws {OutputError} if stdout does not take it. */
export async function print(text: string): Promise<void> {
  try {
    await writeStdout(new TextEncoder().encode(text));
  } catch (error) {
    throw new OutputError(`cannot write to stdout, ${systemReason(error)}`, { cause: error });
  }
}
