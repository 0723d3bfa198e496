/** A direct connection beside iroh's, which can carry a session. */

/** A TLS or QUIC connection that both ends have chosen to carry a session. */
export interface Lane {
  readonly kind: "TLS" | "QUIC";
  /** Socket address of the other end. */
  readonly remote: string;
  /** Returns the next bytes, at least one, valid until the next call; undefined at the end. */
  read(): Promise<Uint8Array<ArrayBuffer> | undefined>;
  /** Sends all bytes. The caller may change them afterwards. */
  write(bytes: Uint8Array): Promise<void>;
  /** Ends both directions at once. Pending reads and writes fail or end. May be called again. */
  close(): void;
  /** Tells whether this host has lost the IP address of the connection. */
  hasMoved(): boolean;
}

/** A connection that may become a lane. */
export interface Transport extends Omit<Lane, "hasMoved"> {
  /** IP address of this end; undefined if Deno does not tell. */
  readonly local?: string | undefined;
  /** Called when it becomes the lane. It must then survive the disposal of its port. */
  keep?(): void;
}

/** A lane cannot be made, or the other end breaks the rules of making one. */
export class LaneError extends Error {
  override readonly name = "LaneError";
}
