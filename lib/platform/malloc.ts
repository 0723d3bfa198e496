/** What the C library does with memory that is freed. */

import { openLibc } from "./libc.ts";
import { debug } from "../console/stderr.ts";

/** malloc.h of glibc. */
const M_TRIM_THRESHOLD = -1, M_MMAP_THRESHOLD = -3;
const LARGE_BYTES = 1 << 20;
/** What is kept of smaller ones; with the other threshold it would be set to 128 KiB for good. */
const MOST_KEPT_BYTES = 4 << 20;

/**
 * Has large blocks given back to the system when they are freed. glibc does so only until it has freed
 * the first of a size; later ones stay, and among smaller blocks: the 3 MB that each of a lane's QUIC
 * endpoints reserves, and never fills, would become 30 MiB in a listener in the course of ten lanes.
 */
export function giveBackLargeBlocks(): void {
  if (Deno.build.os !== "linux") return;
  try {
    using libc = openLibc();
    libc?.mallopt?.(M_MMAP_THRESHOLD, LARGE_BYTES);
    libc?.mallopt?.(M_TRIM_THRESHOLD, MOST_KEPT_BYTES);
  } catch (error) {
    debug(() => `memory that is freed may be kept: ${error}`); // which harms nothing
  }
}
