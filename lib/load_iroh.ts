/** Loading lib/iroh.ts, and with it the native addon, when it is needed. */

let loading: Promise<typeof import("./iroh.ts")> | undefined;

/**
 * The module, once it is there. Deno gives a module that waits at its top level to a second `import()`
 * before it is ready, so there is only this one.
 */
export function loadIroh(): Promise<typeof import("./iroh.ts")> {
  return loading ??= import("./iroh.ts");
}
