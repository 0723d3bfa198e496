/** Garbage of which V8 does not know how much memory it takes. */

/** Returns the function that collects garbage now; undefined without the flag for it (tasks/run_flags.ts). */
export function garbageCollector(): (() => void) | undefined {
  return (globalThis as { collectGarbage?: () => void }).collectGarbage;
}
