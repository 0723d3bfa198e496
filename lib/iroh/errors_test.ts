/**
 * The texts are those of @number0/iroh 1.1.0 (iroh 1.0.2), word for word. They were provoked on a loopback, except
 * where a comment says otherwise. The last tests provoke some of them again, with the version at hand.
 */

import assert from "node:assert/strict";
import iroh from "@number0/iroh";
import {
  type ConnectionEnd,
  connectionEnd,
  connectionEndError,
  dialError,
  type DialErrorKind,
  irohReason,
  streamError,
} from "./errors.ts";

const CRATE = "/root/.cargo/registry/src/index.crates.io-1949cf8c6b5b557f/iroh-1.0.2/src";
const POLL =
  "/root/.rustup/toolchains/stable-x86_64-unknown-linux-gnu/lib/rustlib/src/rust/library/core/src/task/poll.rs";

/** An error of a handshake, with its causes. */
function handshakeError(cause: string): string {
  return `ConnectError::Connecting (${CRATE}/endpoint.rs:1060:20)\nCaused by:\n` +
    `    ConnectingError::ConnectionError (${POLL}:258:39)\n    ${cause}`;
}

/** An error from before the handshake, with its causes. */
function connectError(...causes: string[]): string {
  return [`ConnectError::Connect (${CRATE}/endpoint.rs:1057:26)`, "Caused by:"]
    .concat(causes.map((cause) => `    ${cause}`)).join("\n");
}

const BACKTRACE = "\n\nStack backtrace:\n" +
  "   0: <anyhow::Error>::msg::<alloc::string::String>\n" +
  "   1: anyhow::__private::format_err\n" +
  "   2: <number0_iroh::endpoint::Endpoint>::connect::{closure#0}::{closure#0}\n";

const NO_ANSWER = handshakeError("timed out");
const NO_ADDRESS = connectError(
  `No addressing information available (${CRATE}/endpoint.rs:1127:27)`,
  `No address lookup configured (${CRATE}/address_lookup.rs:624:45)`,
);
const REFUSED = handshakeError("aborted by peer: the server refused to accept a new connection");
const OTHER_PROTOCOL = handshakeError(
  "aborted by peer: the cryptographic handshake failed: error 120: " +
    "peer doesn't support any known protocol",
);
const OTHER_KEY = handshakeError(
  "the cryptographic handshake failed: error 48: invalid peer certificate: UnknownIssuer",
);

Deno.test("dialError() knows iroh's texts", () => {
  const cases: [text: string, kind: DialErrorKind, message: string][] = [
    [NO_ANSWER, "no-answer", "no answer"],
    [NO_ANSWER + BACKTRACE, "no-answer", "no answer"],
    ["data is not a valid public key", "invalid-key", "it is not a valid key"],
    [REFUSED, "refused", "the peer takes no more connections now"],
    [OTHER_PROTOCOL, "alpn-mismatch", "what answers there speaks another protocol"],
    [OTHER_KEY, "key-mismatch", "what answers there does not have its key"],
    [NO_ADDRESS, "no-address", "its address is not known there"],
  ];
  for (const [text, kind, message] of cases) {
    const error = dialError(new Error(text));
    assert.deepEqual([error.kind, error.message], [kind, message], text);
  }
});

Deno.test("dialError() gives the root cause of an error that it does not know", () => {
  const cases: [text: string, message: string][] = [
    [
      connectError(`Connecting to ourself is not supported (${CRATE}/endpoint.rs:1112:9)`),
      "connecting to ourself is not supported",
    ],
    [connectError(`Endpoint is closed (${CRATE}/endpoint.rs:1097:24)`), "endpoint is closed"],
    ["", ""],
  ];
  for (const [text, message] of cases) {
    const error = dialError(new Error(text));
    assert.deepEqual([error.kind, error.message], ["no-answer", message], text);
  }
});

Deno.test("connectionEnd() knows iroh's texts", () => {
  const cases: [text: string, end: ConnectionEnd][] = [
    ["closed", { by: "us" }],
    ["reset by peer", { by: "reset" }],
    ["timed out", { by: "loss", detail: "timed out" }],
    ["closed by peer: 0", { by: "peer", code: 0n, reason: "" }],
    ["closed by peer: 7", { by: "peer", code: 7n, reason: "" }],
    ["closed by peer: done (code 0)", { by: "peer", code: 0n, reason: "done" }],
    [
      "closed by peer: big (code 18446744073709551)",
      { by: "peer", code: 18446744073709551n, reason: "big" },
    ],
  ];
  for (const [text, end] of cases) assert.deepEqual(connectionEnd(text), end, text);
});

Deno.test("connectionEnd() takes the code from the end, and makes the peer's reason printable", () => {
  const cases: [text: string, code: bigint, reason: string][] = [
    ["closed by peer: busy (code 3) (code 7)", 7n, "busy (code 3)"],
    ["closed by peer: two\nlines (code 5)", 5n, "two lines"],
    ["closed by peer: \x1b[2J (code 3)", 3n, "[2J"],
    ["closed by peer: \ufffd\ufffd (code 4)", 4n, "\ufffd\ufffd"], // was no UTF-8
    [`closed by peer: ${"x".repeat(1000)} (code 2)`, 2n, `${"x".repeat(199)}…`],
  ];
  for (const [text, code, reason] of cases) {
    assert.deepEqual(connectionEnd(text), { by: "peer", code, reason }, text);
  }
});

Deno.test("connectionEnd() takes an unknown text for a loss", () => {
  assert.deepEqual(connectionEnd("something\nnew"), { by: "loss", detail: "something new" });
});

Deno.test("connectionEndError() tells an orderly end from an error code and from a loss", () => {
  const cases: [end: ConnectionEnd, kind: string, message: string, code?: bigint][] = [
    [{ by: "us" }, "closed", "the connection was closed on this side"],
    [{ by: "reset" }, "forgotten", "the peer no longer knows this connection"],
    [{ by: "loss", detail: "timed out" }, "lost", "timed out"],
    [{ by: "peer", code: 0n, reason: "done" }, "closed", "the peer closed the connection"],
    [{ by: "peer", code: 7n, reason: "busy" }, "refused", "busy (code 7)", 7n],
    [{ by: "peer", code: 7n, reason: "" }, "refused", "no reason given (code 7)", 7n],
  ];
  for (const [end, kind, message, code] of cases) {
    const error = connectionEndError(end);
    assert.deepEqual([error.kind, error.message, error.code], [kind, message, code]);
  }
});

Deno.test("streamError() tells a stream that the peer aborted from one that is lost", () => {
  const cases: [text: string, kind: string, message: string, code?: bigint][] = [
    ["Reset(0)", "reset", "the peer gave up the stream"],
    ["Stopped(0)", "reset", "the peer gave up the stream"],
    ["Reset(9)", "refused", "no reason given (code 9)", 9n],
    ["Stopped(9)", "refused", "no reason given (code 9)", 9n],
    [`Stopped(9)${BACKTRACE}`, "refused", "no reason given (code 9)", 9n],
    ["ClosedStream", "lost", "closedStream"],
    ["ClosedStream { _private: () }", "lost", "closedStream { _private: () }"],
  ];
  for (const [text, kind, message, code] of cases) {
    const error = streamError(new Error(text));
    assert.deepEqual([error?.kind, error?.message, error?.code], [kind, message, code], text);
  }
});

Deno.test("streamError() leaves the end of the connection to connectionEnd()", () => {
  const texts = [
    'ConnectionLost(ApplicationClosed(ApplicationClose { error_code: 0, reason: b"" }))', // read, write, stopped
    'ConnectionLost(ApplicationClosed(ApplicationClose { error_code: 7, reason: b"busy (code 3)" }))',
    'ApplicationClosed(ApplicationClose { error_code: 0, reason: b"done" })', // openBi, acceptBi
    "ConnectionLost(LocallyClosed)",
    "LocallyClosed",
    "ConnectionLost(TimedOut)",
    "TimedOut",
    `TimedOut${BACKTRACE}`,
  ];
  for (const text of texts) assert.equal(streamError(new Error(text)), undefined, text);
});

Deno.test("irohReason() gives the root cause, without its position in the source", () => {
  const cases: [text: string, reason: string][] = [
    [
      `Failed to bind sockets (${CRATE}/socket.rs:946:24)\nCaused by:\n    Address already in use (os error 98)`,
      "address already in use",
    ],
    [
      `Failed to bind sockets (${CRATE}/socket.rs:946:24)\nCaused by:\n    Cannot assign requested address (os error 99)`,
      "cannot assign requested address",
    ],
    ["invalid socket address syntax", "invalid socket address syntax"],
    [
      `TransportError(Error { code: Code::crypto(78), frame: None, reason: "peer doesn't support any known protocol", crypto: Some(NoApplicationProtocol) })`,
      `transportError(Error { code: Code::crypto(78), frame: None, reason: "peer doesn't support any known protocol", crypto: Some(NoApplicationProtocol) })`,
    ],
    [NO_ADDRESS + BACKTRACE, "no address lookup configured"],
  ];
  for (const [text, reason] of cases) assert.equal(irohReason(new Error(text)), reason);
  assert.equal(irohReason("No answer\x07"), "no answer");
});

type Endpoint = InstanceType<typeof iroh.Endpoint>;
type EndpointId = InstanceType<typeof iroh.EndpointId>;

const bytesOf = (text: string) => [...new TextEncoder().encode(text)];

/** Binds an endpoint on the loopback that knows no relay. */
async function bind(alpn?: string): Promise<Endpoint> {
  const builder = iroh.Endpoint.builder();
  builder.applyMinimal();
  builder.relayMode(iroh.RelayMode.disabled());
  builder.alpns(alpn ? [bytesOf(alpn)] : []);
  builder.bindAddr("127.0.0.1:0");
  return await builder.bind();
}

/** Calls `body` with an endpoint that accepts `test/1`, one that dials, and the first one's socket address. */
async function withEndpoints(
  body: (server: Endpoint, client: Endpoint, at: string) => Promise<void>,
): Promise<void> {
  const server = await bind("test/1"), client = await bind();
  try {
    await body(server, client, server.boundSockets()[0]!);
  } finally {
    await Promise.all([server.close(), client.close()]);
  }
}

/** Returns the error text of a call that fails, without the backtrace, which RUST_BACKTRACE may add. */
async function textOf(call: () => unknown): Promise<string> {
  try {
    await call();
  } catch (error) {
    return (error as Error).message.split("\n\nStack backtrace", 1)[0]!;
  }
  return assert.fail("it did not fail");
}

/** Returns the text without its positions in the source, which differ from build to build. */
function withoutPositions(text: string): string {
  return text.replace(/ \(\/\S+:\d+:\d+\)$/gm, "");
}

Deno.test("the installed iroh-js fails a dial with the texts of these tests", async () => {
  await withEndpoints(async (server, client, at) => {
    const dial = async (id: EndpointId, addresses: string[], alpn: string) => {
      const address = new iroh.EndpointAddr(id, undefined, addresses);
      return withoutPositions(await textOf(() => client.connect(address, bytesOf(alpn))));
    };
    const accept = () =>
      textOf(async () => (await (await server.acceptNext())!.accept()).connect());
    const refused = server.acceptNext().then((incoming) => incoming!.refuse());
    assert.equal(await dial(server.id(), [at], "test/1"), withoutPositions(REFUSED));
    await refused;
    let failed = accept();
    assert.equal(await dial(server.id(), [at], "other/1"), withoutPositions(OTHER_PROTOCOL));
    await failed;
    failed = accept();
    const otherKey = iroh.SecretKey.generate().public();
    assert.equal(await dial(otherKey, [at], "test/1"), withoutPositions(OTHER_KEY));
    await failed;
    const unknown = iroh.SecretKey.generate().public();
    assert.equal(await dial(unknown, [], "test/1"), withoutPositions(NO_ADDRESS));
    const invalid = await textOf(() => iroh.EndpointId.fromBytes(new Array(32).fill(2)));
    assert.equal(invalid, "data is not a valid public key");
  });
});

Deno.test("the installed iroh-js ends streams and connections with the texts of these tests", async () => {
  await withEndpoints(async (server, client, at) => {
    const accepting = (async () => await (await (await server.acceptNext())!.accept()).connect())();
    const to = new iroh.EndpointAddr(server.id(), undefined, [at]);
    const near = await client.connect(to, bytesOf("test/1")), far = await accepting;
    const stream = await near.openBi();
    await stream.send.writeAll(bytesOf("a"));
    const other = await far.acceptBi();
    await other.send.reset(9n);
    assert.equal(await textOf(() => stream.recv.read(1)), "Reset(9)");
    await other.recv.stop(0n);
    const writing = async () => {
      for (;;) await stream.send.writeAll(bytesOf("a")); // until the stop has come
    };
    assert.equal(await textOf(writing), "Stopped(0)");
    const second = await near.openBi();
    far.close(7n, bytesOf("busy (code 3)"));
    assert.equal(await near.closed(), "closed by peer: busy (code 3) (code 7)");
    assert.equal(await far.closed(), "closed");
    const closed =
      'ApplicationClosed(ApplicationClose { error_code: 7, reason: b"busy (code 3)" })';
    assert.equal(await textOf(() => second.recv.read(1)), `ConnectionLost(${closed})`);
    assert.equal(await textOf(() => near.openBi()), closed);
    assert.equal(await textOf(() => far.openBi()), "LocallyClosed");
  });
});
