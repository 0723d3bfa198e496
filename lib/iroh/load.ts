/** Loads endpoint.ts, and with it the native addon, when it is needed. No other module imports it at run time. */

type IrohModule = typeof import("./endpoint.ts");

let loading: Promise<IrohModule> | undefined;

/**
 * Loads endpoint.ts with one `import()`. A second one, in a program compiled with Deno 2.6, did not wait for the
 * native addon, and gave the module without its classes.
 *
 * @throws {AddonError} if the addon cannot be loaded.
 */
export function loadIroh(): Promise<IrohModule> {
  return loading ??= import("./endpoint.ts");
}
