/**
 * The program's permissions, from source and compiled. It loads iroh's native addon, which Deno cannot
 * restrict, so narrower permissions would not protect the user. It also reads /proc and /dev, to look at
 * its file descriptors, which Deno allows only with all permissions.
 */
export const PERMISSIONS = ["--no-prompt", "--allow-all"];

/**
 * Limits V8's young generation to 2 MiB for each half. By default, garbage grows to about 50 MiB in a
 * listener with many connections. 2 MiB are no slower. The program itself collects what V8 does not know
 * the size of (lib/platform/garbage.ts).
 */
const V8_FLAGS = "--v8-flags=--max-semi-space-size=2,--expose-gc-as=collectGarbage";

/** The flags with which the program is started or compiled. */
export const RUN_FLAGS = [...PERMISSIONS, V8_FLAGS];
