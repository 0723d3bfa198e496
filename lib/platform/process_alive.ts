/** Tells whether a process exists. */

/** Tells whether a process exists, of this user or of another one. */
export async function isAlive(pid: number): Promise<boolean> {
  const { default: process } = await import("node:process");
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as { code?: string }).code !== "ESRCH";
  }
}
