/** The programs in tests/tools/, which tests start on the hosts that they make. */

import { join } from "node:path";

const FOLDER = join(import.meta.dirname!, "tools");

/** Returns the path of a file in tests/tools/. */
export function toolPath(file: string): string {
  return join(FOLDER, file);
}

/** Returns the command that runs a Python program of tests/tools/. It leaves no cache there. */
export function python(file: string, ...args: readonly string[]): string[] {
  return ["python3", "-B", toolPath(file), ...args];
}

/** Returns the command that runs a TypeScript program of tests/tools/ with this Deno. */
export function deno(file: string, ...args: readonly string[]): string[] {
  const flags = ["--allow-all", "--quiet", "--cached-only", "--no-check"];
  return [Deno.execPath(), "run", ...flags, toolPath(file), ...args];
}
