/** Handles the errors of sockets that are closed. */

/** Tells whether an error means that a socket, or its other end, is closed. */
export function isClosedError(error: unknown): boolean {
  const { ConnectionReset, BrokenPipe, NotConnected, Interrupted, BadResource } = Deno.errors;
  const ends = [ConnectionReset, BrokenPipe, NotConnected, Interrupted, BadResource];
  return ends.some((end) => error instanceof end);
}

/** Tells whether an error means that this process, or the system, has too many open files. */
export function isOutOfFiles(error: unknown): boolean {
  const { code } = (error ?? {}) as { readonly code?: unknown };
  return code === "EMFILE" || code === "ENFILE";
}

/** Closes a resource that may be closed already. */
export function closeQuietly(resource: { close(): void }): void {
  try {
    resource.close();
  } catch (error) {
    if (!(error instanceof Deno.errors.BadResource)) throw error; // closed already
  }
}
