/** The targets of `deno task compile`, which are the programs of a release. */

/** Executable formats: ELF of Linux, Mach-O of macOS, PE of Windows. */
export type Format = "elf" | "mach-o" | "pe";

/** A machine and its operating system. */
export interface Target {
  /** Deno's name of the platform. */
  readonly platform: string;
  /** End of the name of the package with iroh's addon for it. */
  readonly addon: string;
  readonly format: Format;
  /** Largest page size of memory with which its kernels run. */
  readonly pageBytes: number;
  /** End of an executable's file name. */
  readonly suffix: string;
}

/** First version of macOS, major and minor, that a program must start on. README.md names it. */
export const MACOS_VERSION = "11.0";

export const TARGETS: Readonly<Record<string, Target>> = {
  "linux-x64": {
    platform: "x86_64-unknown-linux-gnu",
    addon: "linux-x64-gnu",
    format: "elf",
    pageBytes: 4 * 1024,
    suffix: "",
  },
  "linux-arm64": {
    platform: "aarch64-unknown-linux-gnu",
    addon: "linux-arm64-gnu",
    format: "elf",
    pageBytes: 64 * 1024, // Raspberry Pi 5 and Asahi have 16 KiB, some servers 64 KiB
    suffix: "",
  },
  "macos-arm64": {
    platform: "aarch64-apple-darwin",
    addon: "darwin-arm64",
    format: "mach-o",
    pageBytes: 16 * 1024,
    suffix: "",
  },
  "windows-x64": {
    platform: "x86_64-pc-windows-msvc",
    addon: "win32-x64-msvc",
    format: "pe",
    pageBytes: 4 * 1024,
    suffix: ".exe",
  },
};

/** Returns the target that this machine is. */
export function hostTarget(): string {
  const os = { darwin: "macos", windows: "windows" }[Deno.build.os as string] ?? "linux";
  return `${os}-${Deno.build.arch === "aarch64" ? "arm64" : "x64"}`;
}

/** Returns a target. @throws {Error} if there is none of that name. */
export function targetOf(name: string): Target {
  const target = TARGETS[name];
  if (!target) {
    throw new Error(`unknown target ${name}; choose one of ${Object.keys(TARGETS).join(", ")}`);
  }
  return target;
}

/** Returns the file name of a target's program in a release. */
export function programName(name: string): string {
  return `git-annex-p2p-iroh-${name}${targetOf(name).suffix}`;
}
