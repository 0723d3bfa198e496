/** Tells whether files have changed. */

/** Describes what a file is at present. A change of it changes the description. */
export function fileState(path: string): string {
  try {
    const { dev, ino, size, mtime, ctime, uid, mode } = Deno.statSync(path);
    return [dev, ino, size, mtime?.getTime(), ctime?.getTime(), uid, mode].join(" ");
  } catch (error) {
    return error instanceof Error ? error.name : "";
  }
}
