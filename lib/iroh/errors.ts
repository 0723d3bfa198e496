/**
 * Turns the errors of iroh-js into types.
 *
 * iroh-js has no error codes: it passes on iroh's texts for developers, which any version of it may change. All
 * code that depends on such a text stands in this file, and errors_test.ts has the texts of the version at hand.
 */

import { StreamError } from "../streams/duplex.ts";
import { Failure, systemReason } from "../console/failure.ts";
import { printable } from "../console/printable.ts";

/** Maximum length of a text that iroh or the peer has written, so that it fits into one line of a log. */
const MAX_TEXT_CHARACTERS = 200;

/** Errors of a stream that mean that its connection has ended (variants of noq's `ConnectionError`). */
const CONNECTION_ENDED = /^(ConnectionLost\(|(application|connection|locally)Closed|timedOut)/i;
/** Errors of a stream that the peer has aborted, with its code. */
const STREAM_ABORTED = /^(?:Reset|Stopped)\((\d+)/;
/** What {@linkcode connectionEnd} reads if the peer has closed the connection. */
const CLOSED_BY_PEER = /^closed by peer: (?:([^]*) \(code (\d+)\)|(\d+))$/;

/** The UDP socket cannot be opened. */
export class BindError extends Failure {
  override readonly name = "BindError";
}

/** Why a dial failed. */
export type DialErrorKind =
  /** The ticket's public key is not a point of the curve. */
  | "invalid-key"
  /** iroh knows no address to send to. */
  | "no-address"
  /** The peer does not answer, or the reason is unknown. */
  | "no-answer"
  /** The peer accepts no further connections now. */
  | "refused"
  /** The peer does not speak the protocol (TLS alert no_application_protocol, RFC 7301). */
  | "alpn-mismatch"
  /** What answers has another key than the peer. */
  | "key-mismatch";

/** A dial did not get through. */
export class DialError extends Error {
  override readonly name = "DialError";

  constructor(readonly kind: DialErrorKind, detail: string) {
    super(detail);
  }
}

/** Why a connection has ended. */
export type ConnectionEnd =
  /** The peer closed it; code 0 is the orderly end. The reason is printable. */
  | { readonly by: "peer"; readonly code: bigint; readonly reason: string }
  /** The peer no longer knows this connection: its close was lost, or its process was restarted. */
  | { readonly by: "reset" }
  /** The peer has vanished. */
  | { readonly by: "loss"; readonly detail: string }
  /** This end closed it. */
  | { readonly by: "us" };

/** Returns why `Endpoint.connect` of iroh-js failed. */
export function dialError(error: unknown): DialError {
  const text = textOf(error);
  if (/valid public key/.test(text)) return new DialError("invalid-key", "it is not a valid key");
  if (/error 120\b/.test(text)) { // TLS alert no_application_protocol (RFC 7301, section 3.2)
    return new DialError("alpn-mismatch", "what answers there speaks another protocol");
  }
  if (/TimedOut|timed out/.test(text)) return new DialError("no-answer", "no answer");
  if (/CONNECTION_REFUSED|refused/.test(text)) {
    return new DialError("refused", "the peer takes no more connections now");
  }
  if (/[Nn]o ?[Aa]ddress|AddressLookup|NoResults/.test(text)) {
    return new DialError("no-address", "its address is not known there");
  }
  if (/invalid peer certificate/.test(text)) { // iroh's certificates hold the key
    return new DialError("key-mismatch", "what answers there does not have its key");
  }
  return new DialError("no-answer", irohReason(error));
}

/** Reads what `Connection.closed` of iroh-js resolves to. */
export function connectionEnd(text: string): ConnectionEnd {
  if (text === "closed") return { by: "us" };
  if (text === "reset by peer") return { by: "reset" };
  const byPeer = CLOSED_BY_PEER.exec(text);
  if (!byPeer) return { by: "loss", detail: printable(text, MAX_TEXT_CHARACTERS) };
  return {
    by: "peer",
    code: BigInt(byPeer[2] ?? byPeer[3]!),
    reason: printable(byPeer[1] ?? "", MAX_TEXT_CHARACTERS),
  };
}

/** Returns the error of every read and write after a connection has ended. */
export function connectionEndError(end: ConnectionEnd): StreamError {
  switch (end.by) {
    case "us":
      return new StreamError("closed", "the connection was closed on this side");
    case "reset":
      return new StreamError("forgotten", "the peer no longer knows this connection");
    case "loss":
      return new StreamError("lost", end.detail);
    case "peer":
      return end.code === 0n
        ? new StreamError("closed", "the peer closed the connection")
        : new StreamError("refused", `${end.reason || "no reason given"} (code ${end.code})`, {
          code: end.code,
        });
  }
}

/**
 * Returns why a call on a stream of iroh-js failed.
 *
 * @returns Undefined if the connection has ended: {@linkcode connectionEnd} then has more than this error.
 */
export function streamError(error: unknown): StreamError | undefined {
  const text = textOf(error);
  const aborted = STREAM_ABORTED.exec(text);
  if (aborted && BigInt(aborted[1]!) > 0n) {
    const code = BigInt(aborted[1]!);
    return new StreamError("refused", `no reason given (code ${code})`, { cause: error, code });
  }
  if (aborted) return new StreamError("reset", "the peer gave up the stream", { cause: error });
  if (CONNECTION_ENDED.test(text)) return undefined;
  return new StreamError("lost", irohReason(error), { cause: error });
}

/**
 * Returns the root cause that an error of iroh-js names: the last line before the backtrace, without its
 * position in iroh's source.
 */
export function irohReason(error: unknown): string {
  const causes = textOf(error).split("\n\nStack backtrace", 1)[0]!.trim().split("\n");
  const cause = causes.at(-1)!.trim().replace(/ \(\/\S+:\d+:\d+\)$/, "");
  return printable(systemReason(cause), MAX_TEXT_CHARACTERS);
}

function textOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
