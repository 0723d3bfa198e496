import assert from "node:assert/strict";
import { pipe } from "../../tests/pipe.ts";
import { StreamType } from "../protocol/mux.ts";
import type { Duplex } from "../streams/duplex.ts";
import { MessageFormat } from "../streams/message_format.ts";
import { parseAnnexLine } from "./annex_line.ts";
import {
  MAX_PAIRING_BYTES,
  type PairingAnswer,
  PairingKind,
  type PairingRequest,
  readAnswer,
  readRequest,
  sendAnswer,
  sendRequest,
} from "./messages.ts";

const ADDRESS = "endpointaaaacaqdaqcqmbyibefawdanbyhraeiscmkbkfqxdamrugy4dupb6aibadaaaaqb2era";
const LINE = parseAnnexLine(`p2p-annex::iroh:${ADDRESS}:Abc123`)!;
const UUID = "01234567-89ab-cdef-0123-456789abcdef";
const secret = new Uint8Array(16).fill(0xab);

const REQUESTS: PairingRequest[] = [
  { kind: "join", secret, name: "ann's laptop" },
  { kind: "link", secret, line: LINE },
  { kind: "done", secret },
  { kind: "cancel", secret, reason: "no room" },
];
const ANSWERS: PairingAnswer[] = [
  { kind: "welcome", name: "bob", uuid: UUID, line: LINE, branch: "main" },
  { kind: "welcome", name: "", uuid: UUID, line: LINE, branch: undefined },
  { kind: "linked", remote: "ann", wasLinked: false },
  { kind: "over" },
  { kind: "refused" },
  { kind: "failed", message: "no git-annex" },
];

async function send(stream: Duplex, bytes: Uint8Array): Promise<void> {
  const writer = stream.writable.getWriter();
  await writer.write(bytes);
  await writer.close();
}

/** Returns what a reader makes of a message. */
async function read<T>(
  reader: (stream: Duplex) => Promise<T>,
  kind: number,
  body: unknown,
): Promise<T> {
  const text = typeof body === "string" ? body : JSON.stringify(body);
  const [near, far] = pipe();
  const sent = send(near, new MessageFormat(2).encode(kind, new TextEncoder().encode(text)));
  sent.catch(() => {}); // the reader may take no interest in all of it
  return await reader(far);
}

for (const request of REQUESTS) {
  Deno.test(`readRequest() returns what was sent: ${request.kind}`, async () => {
    const [near, far] = pipe();
    await sendRequest(near, request);
    const reader = far.readable.getReader({ mode: "byob" });
    assert.equal((await reader.read(new Uint8Array(1))).value![0], StreamType.PAIR);
    reader.releaseLock();
    assert.deepEqual(await readRequest(far), request);
  });
}

for (const answer of ANSWERS) {
  Deno.test(`readAnswer() returns what was sent: ${JSON.stringify(answer)}`, async () => {
    const [near, far] = pipe();
    await sendAnswer(near, answer);
    assert.deepEqual(await readAnswer(far), answer);
  });
}

const hex = secret.toHex();
const INVALID_REQUESTS: [what: string, kind: number, body: unknown][] = [
  ["of an unknown kind", 9, { secret: hex }],
  ["that is an answer", PairingKind.OVER, { secret: hex }],
  ["that is no JSON", PairingKind.DONE, "{"],
  ["that is no object", PairingKind.DONE, ["secret"]],
  ["without a secret", PairingKind.DONE, {}],
  ["with a secret that is too short", PairingKind.DONE, { secret: hex.slice(2) }],
  ["without a name", PairingKind.JOIN, { secret: hex }],
  ["without a line", PairingKind.LINK, { secret: hex }],
  ["that is too long", PairingKind.JOIN, { secret: hex, name: "x".repeat(MAX_PAIRING_BYTES) }],
];
for (const [what, kind, body] of INVALID_REQUESTS) {
  Deno.test(`readRequest() refuses a request ${what}`, async () => {
    await assert.rejects(read(readRequest, kind, body), { name: "ProtocolError" });
  });
}

Deno.test("sendRequest() and sendAnswer() cut a text that is too long", async () => {
  const long = "ü".repeat(MAX_PAIRING_BYTES), [near, far] = pipe();
  await sendAnswer(near, { kind: "welcome", name: long, uuid: UUID, line: LINE, branch: "main" });
  const answer = await readAnswer(far);
  assert(answer.kind === "welcome" && answer.name.length === 100);
  for (const [kind, field] of [["join", "name"], ["cancel", "reason"]] as const) {
    await sendRequest(pipe()[0], { kind, secret, [field]: long } as PairingRequest);
  }
});

Deno.test("readRequest() reads the length before it takes the memory", async () => {
  const [near, far] = pipe();
  await send(near, Uint8Array.of(PairingKind.JOIN, 0xff, 0xff));
  await assert.rejects(readRequest(far), /a message of 65535 bytes/);
});

const LINES: [what: string, line: string][] = [
  ["of tor", "tor-annex::abcdefghij.onion:1234:token"],
  ["of another network, whose program git-annex would run", `p2p-annex::evil:${ADDRESS}:token`],
  ["without a token", `p2p-annex::iroh:${ADDRESS}`],
  ["with an empty token", `p2p-annex::iroh:${ADDRESS}:`],
  ["with a second line", `${LINE.line}\ntor-annex::x.onion:1:token`],
  ["with a space", `p2p-annex::iroh:${ADDRESS}:a b`],
  ["with a damaged address", `p2p-annex::iroh:endpointaaaa:token`],
  ["that is too long", `${LINE.line}${"x".repeat(3000)}`],
];
for (const [what, line] of LINES) {
  Deno.test(`parseAnnexLine() refuses a line ${what}`, () => {
    assert.equal(parseAnnexLine(line), undefined);
  });
}

Deno.test("parseAnnexLine() takes a line apart", () => {
  assert.deepEqual(LINE, {
    url: `p2p-annex::iroh:${ADDRESS}`,
    address: ADDRESS,
    line: `p2p-annex::iroh:${ADDRESS}:Abc123`,
  });
});

Deno.test("readAnswer() makes text printable, and takes no branch with control characters", async () => {
  const welcome = { name: "a\x1b[31m\nb", uuid: UUID, line: LINE.line };
  const answer = await read(readAnswer, PairingKind.WELCOME, welcome);
  assert(answer.kind === "welcome" && answer.name === "a [31m b");
  for (const branch of ["-x", "a\nb", "a b", "\x1b", "x".repeat(256), 7, ""]) {
    await assert.rejects(read(readAnswer, PairingKind.WELCOME, { ...welcome, branch }), {
      name: "ProtocolError",
    });
  }
  await assert.rejects(read(readAnswer, PairingKind.WELCOME, { ...welcome, uuid: "x" }), /UUID/);
});

Deno.test("a longest line, name and branch fit into a message", async () => {
  const address = ADDRESS + "a".repeat(1700);
  const line = { url: "", address: "", line: `p2p-annex::iroh:${address}:${"x".repeat(128)}` };
  const [near] = pipe();
  const name = "\u{1f600}".repeat(50);
  await sendAnswer(near, { kind: "welcome", name, uuid: UUID, line, branch: "ü".repeat(255) });
});
