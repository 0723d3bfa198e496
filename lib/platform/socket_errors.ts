/** Handles the errors of sockets that are closed. */

/** Tells whether an error means that a socket, or its other end, is closed. */
export function isClosedError(error: unknown): boolean {
  const { ConnectionReset, BrokenPipe, NotConnected, Interrupted, BadResource } = Deno.errors;
  const ends = [ConnectionReset, BrokenPipe, NotConnected, Interrupted, BadResource];
  return ends.some((end) => error instanceof end);
}

/** Closes a resource that may be closed already. */
export function closeQuietly(resource: { close(): void }): void {
  try {
    resource.close();
  } catch (error) {
    if (!(error instanceof Deno.errors.BadResource)) throw error; // closed already
  }
}
