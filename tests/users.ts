/** What tests may do as other users. */

/** Whether there are other users to give a file to: root of a user namespace has none. */
export function mayChown(): boolean {
  return Deno.uid() === 0 &&
    (Deno.build.os !== "linux" ||
      /^\s*0\s+0\s+4294967295/.test(Deno.readTextFileSync("/proc/self/uid_map")));
}
