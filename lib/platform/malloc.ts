/** Configures glibc's malloc to return freed memory to the system. */

import { openLibc } from "./libc.ts";
import { debug } from "../console/stderr.ts";

/** From glibc's malloc.h. */
const M_TRIM_THRESHOLD = -1, M_MMAP_THRESHOLD = -3;
/** Minimum size of a block that is returned at once: less than a QUIC endpoint reserves. */
const LARGE_BYTES = 1 << 20;
/** Maximum free memory that malloc keeps. Setting the other threshold alone would fix this one at 128 KiB. */
const MAX_KEPT_BYTES = 4 << 20;

/**
 * Makes malloc return large blocks to the system when they are freed. By default, glibc raises its threshold
 * to the size of the first large block that is freed, and keeps later blocks of that size. Each QUIC endpoint
 * of a lane reserves 3 MB, which it never fills. After ten lanes, a listener would thus keep 30 MiB.
 */
export function giveBackLargeBlocks(): void {
  if (Deno.build.os !== "linux") return;
  try {
    using libc = openLibc();
    libc?.mallopt?.(M_MMAP_THRESHOLD, LARGE_BYTES);
    libc?.mallopt?.(M_TRIM_THRESHOLD, MAX_KEPT_BYTES);
  } catch (error) {
    debug(() => `cannot configure malloc: ${error}`); // the listener only keeps more memory
  }
}
