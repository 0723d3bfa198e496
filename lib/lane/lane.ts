/** A direct connection beside iroh's, by which a session goes on. */

/** A connection over TLS or QUIC, in use by a session. */
export interface Lane {
  readonly kind: "TLS" | "QUIC";
  /** Address of the other end. */
  readonly remote: string;
  /** Returns the next bytes, at least one, valid until the next call; undefined at the end. */
  read(): Promise<Uint8Array<ArrayBuffer> | undefined>;
  /** Hands over all bytes, which the caller may change after that. */
  write(bytes: Uint8Array): Promise<void>;
  /** Ends both directions at once. What waits for it fails, or ends. May be called again. */
  close(): void;
}

/** A connection that may become a lane. */
export interface Transport extends Lane {
  /** Called when it becomes the lane: the port by which it came is about to be closed. */
  keep?(): void;
}

/** A lane, or what was to become one, does not do as it should. */
export class LaneError extends Error {
  override readonly name = "LaneError";
}
