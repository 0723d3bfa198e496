/** The system's own calls, for what Deno has none for. */

/** What libc is called, where Deno's releases run. On Windows nothing needs it. */
const NAME: Partial<Record<typeof Deno.build.os, string>> = {
  linux: "libc.so.6",
  darwin: "libSystem.dylib",
};

export const O_RDONLY = 0, O_WRONLY = 1;
/** As Linux has them. */
export const O_NONBLOCK = 0o4000, O_CLOEXEC = 0o2000000;

/** The calls, and with them the library, until it is disposed of. */
export type Libc = ReturnType<typeof dlopen>;

/** Undefined where there is none. @throws What the system says if it cannot be loaded. */
export function openLibc(): Libc | undefined {
  const name = NAME[Deno.build.os];
  return name === undefined ? undefined : dlopen(name);
}

/** A path as the calls take it. */
export function cString(text: string): Uint8Array<ArrayBuffer> {
  return new TextEncoder().encode(`${text}\0`);
}

function dlopen(name: string) {
  const library = Deno.dlopen(name, {
    open: { parameters: ["buffer", "i32"], result: "i32" },
    close: { parameters: ["i32"], result: "i32" },
    read: { parameters: ["i32", "buffer", "usize"], result: "isize" },
    write: { parameters: ["i32", "buffer", "usize"], result: "isize" },
    dup2: { parameters: ["i32", "i32"], result: "i32" },
    // It takes any number of arguments, which are passed like others on Linux, where it is called.
    fcntl: { parameters: ["i32", "i32", "i32"], result: "i32" },
    getsockname: { parameters: ["i32", "buffer", "buffer"], result: "i32" },
    setsockopt: { parameters: ["i32", "i32", "i32", "buffer", "u32"], result: "i32" },
    // Of glibc alone.
    mallopt: { parameters: ["i32", "i32"], result: "i32", optional: true },
  });
  return { ...library.symbols, [Symbol.dispose]: () => library.close() };
}
