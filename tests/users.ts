/** Tests with the rights of other users. */

const isRoot = Deno.uid() === 0;

/** What comes before a command that file modes must restrict: it takes from root the rights to ignore them. */
export const UNPRIVILEGED: readonly string[] = isRoot
  ? ["setpriv", "--bounding-set", "-dac_override,-dac_read_search"]
  : [];
/** Tools for it; Windows has no file modes, so its tests are skipped. */
export const UNPRIVILEGED_TOOLS = isRoot || Deno.build.os === "windows" ? ["setpriv"] as const : [];

/** Tells whether files can be given to other users, which root of a user namespace cannot do. */
export function mayChown(): boolean {
  return isRoot &&
    (Deno.build.os !== "linux" ||
      /^\s*0\s+0\s+4294967295/.test(Deno.readTextFileSync("/proc/self/uid_map")));
}
