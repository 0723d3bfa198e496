/** Writes to stdout. */

import { Failure, systemReason } from "./failure.ts";
import { printableLines } from "./printable.ts";

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

/**
 * Prints lines of text for the user or for git-annex, without control characters, since parts of them may come
 * from a peer or a file.
 *
 * @throws {OutputError} if stdout does not take it.
 */
export async function print(text: string): Promise<void> {
  await write(printableLines(text));
}

/** Clears the screen of a terminal. @throws {OutputError} if stdout does not take it. */
export async function clearScreen(): Promise<void> {
  await write("\x1b[H\x1b[J"); // moves the cursor home and erases what is below (ECMA-48: CUP, ED)
}

async function write(text: string): Promise<void> {
  try {
    await writeStdout(new TextEncoder().encode(text));
  } catch (error) {
    throw new OutputError(`cannot write to stdout, ${systemReason(error)}`, { cause: error });
  }
}
