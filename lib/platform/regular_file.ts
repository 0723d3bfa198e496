/**
 * Reads regular files without waiting, with Node's calls. To load these takes 16 ms with Deno 2.9, so connecting
 * processes that go through the listener do without this module.
 */

import { closeSync, constants, fstatSync, openSync, readSync } from "node:fs";

/** A file is no regular one. */
export class NotRegular extends Error {
  override readonly name = "NotRegular";

  constructor() {
    super("it is not a regular file");
  }
}

/**
 * Reads at most `maxBytes` of a regular file. It never waits, since a FIFO or a device is not read.
 *
 * @throws {NotRegular} if it is a FIFO or the like. @throws An error of the system.
 */
export function readAtMost(path: string, maxBytes: number): Uint8Array<ArrayBuffer> {
  const file = openRegular(path);
  try {
    const buffer = new Uint8Array(maxBytes);
    let length = 0, read: number;
    while (length < maxBytes && (read = readSync(file, buffer, length, maxBytes - length, null))) {
      length += read;
    }
    return buffer.subarray(0, length);
  } finally {
    closeSync(file);
  }
}

/** Reads at most `maxBytes` of a text file. @throws As {@linkcode readAtMost}. */
export function readTextAtMost(path: string, maxBytes: number): string {
  return new TextDecoder().decode(readAtMost(path, maxBytes));
}

/** Opens a regular file to read it. A plain `open` waits for a FIFO to be written. @returns Its descriptor. */
function openRegular(path: string): number {
  let file: number;
  try {
    // Windows has neither the flag nor such files.
    file = openSync(path, constants.O_RDONLY | (constants.O_NONBLOCK ?? 0));
  } catch (error) {
    throw denoError(error as Error & { code?: string });
  }
  if (fstatSync(file).isFile()) return file;
  closeSync(file);
  throw new NotRegular();
}

/** Returns Deno's error for one of Node, with the system's words alone: "EACCES: permission denied, open '…'". */
function denoError(error: Error & { code?: string }): Error {
  if (error.code === "ENXIO") return new NotRegular(); // a socket
  const words = /^[A-Z]\w+: (.*?)(?:, \w+ '.*)?$/s.exec(error.message)?.[1] ?? error.message;
  const Type = ERRORS[error.code ?? ""] ?? Error;
  return new Type(words, { cause: error });
}

/** Deno's errors that callers tell apart. */
const ERRORS: Record<string, new (message: string, options: ErrorOptions) => Error> = {
  ENOENT: Deno.errors.NotFound,
  EACCES: Deno.errors.PermissionDenied,
};
