/** What the user reads if a connection ends early. */

import { Failure } from "../console/failure.ts";
import { CloseCode } from "../protocol/close_codes.ts";
import type { StreamError } from "../streams/duplex.ts";

/** The connection ended early. */
export class ConnectionFailure extends Failure {
  override readonly name = "ConnectionFailure";
}

/** Returns the failure for an error of the session's stream. */
export function peerFailure(error: StreamError): ConnectionFailure {
  switch (error.kind) {
    case "refused":
      return new ConnectionFailure(`the peer ended the connection: ${error.message}`, {
        hint: error.code === CloseCode.BUSY
          ? "try again later"
          : "is git annex remotedaemon running there?",
        cause: error,
      });
    case "reset":
    case "forgotten":
    case "closed":
      return new ConnectionFailure(error.message, {
        hint: "try again, and see whether git-annex there says why",
        cause: error,
      });
    case "lost":
      return new ConnectionFailure(`the peer is lost in mid-stream, ${error.message}`, {
        hint: "try again when it is back, and git-annex goes on where it stopped",
        cause: error,
      });
  }
}
