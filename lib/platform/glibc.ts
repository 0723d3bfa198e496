/** Which glibc this system has, and which one iroh's native addon for Linux needs. */

import { openLibc } from "./libc.ts";

/** The glibc that the addon needs, as 2.MINOR. `deno task compile` compares the addon with it. */
export const GLIBC_MINOR = 34;
/** Systems that have it. README.md names the same. */
export const GLIBC_SYSTEMS = "Debian 12, Ubuntu 22.04, RHEL 9 or later";

/** Returns the version of glibc, such as `2.36`; undefined on systems without it. */
export function glibcVersion(): string | undefined {
  using libc = Deno.build.os === "linux" ? openLibc() : undefined;
  const version = libc?.gnu_get_libc_version?.();
  return version ? Deno.UnsafePointerView.getCString(version) : undefined;
}

/** Tells whether a version of glibc is old for the addon. */
export function isOldGlibc(version: string): boolean {
  const [major, minor] = version.split(".").map(Number);
  return major! < 2 || major === 2 && minor! < GLIBC_MINOR;
}
