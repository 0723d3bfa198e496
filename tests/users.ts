/** What tests may do as other users. */

const isRoot = Deno.uid() === 0;

/** What to put before a command that is to be kept out by modes: root is not, except without these rights. */
export const MERE_MORTAL: readonly string[] = isRoot
  ? ["setpriv", "--bounding-set", "-dac_override,-dac_read_search"]
  : [];
/** The tool it takes; on Windows there are no modes, and nothing helps. */
export const MERE_MORTAL_TOOLS = isRoot || Deno.build.os === "windows" ? ["setpriv"] as const : [];

/** Whether there are other users to give a file to: root of a user namespace has none. */
export function mayChown(): boolean {
  return isRoot &&
    (Deno.build.os !== "linux" ||
      /^\s*0\s+0\s+4294967295/.test(Deno.readTextFileSync("/proc/self/uid_map")));
}
