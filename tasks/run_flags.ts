/**
 * What the program may do, the same whether it is run from source or compiled. It loads iroh's native
 * addon, which Deno cannot keep from anything, so there is no point in fine distinctions; and
 * /proc and /dev, where it looks at its own file descriptors, are only open to a program that may all.
 */
export const PERMISSIONS = ["--no-prompt", "--allow-all"];

/**
 * The flags it is started with, or compiled. V8 would let garbage grow to some 50 MiB in a listener that
 * many connect to before it collects it; 2 MiB (of each half of its young generation) are no slower.
 */
export const RUN_FLAGS = [...PERMISSIONS, "--v8-flags=--max-semi-space-size=2"];
