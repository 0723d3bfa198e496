/** The one place where endpoint.ts is loaded, when it is needed, and not before. */

type IrohModule = typeof import("./endpoint.ts");

let loading: Promise<IrohModule> | undefined;

/**
 * Loads endpoint.ts, once: it waits for the native addon, and in a program compiled with Deno 2.6 a second
 * `import()` was seen not to wait for that, but to give the module without its classes.
 *
 * @throws What endpoint.ts throws if the addon cannot be loaded.
 */
export function loadIroh(): Promise<IrohModule> {
  return loading ??= import("./endpoint.ts");
}
