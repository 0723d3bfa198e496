/**
 * What the program may do, the same whether it is run from source or compiled. It loads iroh's native
 * addon, which Deno cannot keep from anything, so there is no point in fine distinctions; and
 * /proc and /dev, where it looks at its own file descriptors, are only open to a program that may all.
 */
export const PERMISSIONS = ["--no-prompt", "--allow-all"];
