/** Sockets of which an end is closed. */

/** Whether an error is how a socket says that its other end, or itself, is closed. */
export function isClosedError(error: unknown): boolean {
  const { ConnectionReset, BrokenPipe, NotConnected, Interrupted, BadResource } = Deno.errors;
  const ends = [ConnectionReset, BrokenPipe, NotConnected, Interrupted, BadResource];
  return ends.some((end) => error instanceof end);
}

/** Closes what may be closed already. */
export function closeQuietly(resource: { close(): void }): void {
  try {
    resource.close();
  } catch (error) {
    if (!(error instanceof Deno.errors.BadResource)) throw error; // closed already
  }
}
