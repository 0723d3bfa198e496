/** Calls functions of libc that Deno does not offer. */

/** File name of libc on the systems that Deno supports. On Windows no code needs it. */
const NAME: Partial<Record<typeof Deno.build.os, string>> = {
  linux: "libc.so.6",
  darwin: "libSystem.dylib",
};

export const O_RDONLY = 0, O_WRONLY = 1;
/** Values of Linux (bits/fcntl-linux.h). */
export const O_NONBLOCK = 0o4000, O_CLOEXEC = 0o2000000;

/** The functions, which can be called until the library is disposed of. */
export type Libc = ReturnType<typeof dlopen>;

/** Loads libc. @returns Undefined on Windows. @throws An error of the system if it cannot be loaded. */
export function openLibc(): Libc | undefined {
  const name = NAME[Deno.build.os];
  return name === undefined ? undefined : dlopen(name);
}

/** Returns a text as libc takes it. */
export function cString(text: string): Uint8Array<ArrayBuffer> {
  return new TextEncoder().encode(`${text}\0`);
}

function dlopen(name: string) {
  const library = Deno.dlopen(name, {
    open: { parameters: ["buffer", "i32"], result: "i32" },
    close: { parameters: ["i32"], result: "i32" },
    read: { parameters: ["i32", "buffer", "usize"], result: "isize" },
    write: { parameters: ["i32", "buffer", "usize"], result: "isize" },
    poll: { parameters: ["buffer", "usize", "i32"], result: "i32" },
    dup2: { parameters: ["i32", "i32"], result: "i32" },
    // A variadic function. Only Linux calls it, where variadic arguments are passed like others.
    fcntl: { parameters: ["i32", "i32", "i32"], result: "i32" },
    getsockname: { parameters: ["i32", "buffer", "buffer"], result: "i32" },
    getsockopt: { parameters: ["i32", "i32", "i32", "buffer", "buffer"], result: "i32" },
    setsockopt: { parameters: ["i32", "i32", "i32", "buffer", "u32"], result: "i32" },
    // Only glibc has these.
    mallopt: { parameters: ["i32", "i32"], result: "i32", optional: true },
    gnu_get_libc_version: { parameters: [], result: "pointer", optional: true },
    // Only macOS has it.
    sysctlbyname: {
      parameters: ["buffer", "buffer", "buffer", "pointer", "usize"],
      result: "i32",
      optional: true,
    },
  });
  return { ...library.symbols, [Symbol.dispose]: () => library.close() };
}
