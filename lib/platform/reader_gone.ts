/** Tells whether a pipe still has a reader, without writing to it: by poll(2), through libc. */

import { debug } from "../console/stderr.ts";
import { type Libc, openLibc } from "./libc.ts";

/** Values of Linux and macOS: an error, the other end is closed, no such file descriptor. */
const POLLERR = 8, POLLHUP = 16, POLLNVAL = 32;

/** Stays open, since it is asked again and again. */
let libc: Libc | undefined;

/** Tells whether a pipe or a socket has no reader. False if the system does not tell. */
export function isReaderGone(fd: number): boolean {
  try {
    libc ??= openLibc();
    // A `struct pollfd`: the descriptor, then what is asked and what is answered, 16 bits each.
    const entry = new Int32Array([fd, 0]);
    if (libc?.poll(entry, 1n, 0) !== 1) return false;
    return (entry[1]! >> 16 & (POLLERR | POLLHUP | POLLNVAL)) !== 0;
  } catch (error) {
    debug(() => `cannot tell whether ${fd} has a reader: ${error}`); // the end of stdin shows the same
    return false;
  }
}
