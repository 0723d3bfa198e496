/**
 * What the program may do, the same whether it is run from source or compiled. It loads iroh's native
 * addon, which Deno cannot keep from anything, so there is no point in fine distinctions; and
 * /proc and /dev, where it looks at its own file descriptors, are only open to a program that may all.
 */
export const PERMISSIONS = ["--no-prompt", "--allow-all"];

/**
 * V8 would let garbage grow to some 50 MiB in a listener that many connect to before it collects it; 2 MiB
 * (of each half of its young generation) are no slower. What QUIC has received into is collected when the
 * program asks for it (lib/lane/quic.ts).
 */
const V8_FLAGS = "--v8-flags=--max-semi-space-size=2,--expose-gc-as=collectGarbage";

/** The flags it is started with, or compiled. */
export const RUN_FLAGS = [...PERMISSIONS, V8_FLAGS];
