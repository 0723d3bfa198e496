/** Collects garbage of which V8 does not know how much memory it takes. */

/** Collects garbage now, if the program was started with the flag for that (tasks/run_flags.ts). */
export function collectGarbage(): void {
  const { collectGarbage } = globalThis as { collectGarbage?: () => void };
  collectGarbage?.();
}
