/** docs/protocol.md says what the code does: its tables, its numbers, and each example of bytes. */

import assert from "node:assert/strict";
import { dirname, join } from "node:path";
import { SignalingKind, SignalingStream } from "../lib/lane/signaling.ts";
import { decodeOffer, encodeOffer, MAX_OFFER_BYTES, SECRET_BYTES } from "../lib/lane/offer.ts";
import { makeCertificate, SERVER_NAME } from "../lib/lane/certificate.ts";
import { LANE_ALPN } from "../lib/lane/quic.ts";
import { CLOSE_REASONS, CloseCode } from "../lib/protocol/close_codes.ts";
import { INITIAL_WINDOW_BYTES } from "../lib/protocol/credit.ts";
import { DUMBPIPE_ALPN, sendHandshake } from "../lib/protocol/dumbpipe.ts";
import {
  FrameError,
  type FrameHandler,
  FrameReader,
  FrameWriter,
  MAX_DATA_BYTES,
} from "../lib/protocol/frames.ts";
import { MUX_ALPN, readStreamHeader, StreamType, writeStreamHeader } from "../lib/protocol/mux.ts";
import { decodeInvitation, encodeInvitation } from "../lib/pairing/invitation.ts";
import { PairingKind } from "../lib/pairing/messages.ts";
import { decodeTicket } from "../lib/repository/ticket.ts";
import type { Duplex } from "../lib/streams/duplex.ts";
import { pipe } from "./pipe.ts";

type Bytes = Uint8Array<ArrayBuffer>;

const page = await Deno.readTextFile(join(dirname(import.meta.dirname!), "docs", "protocol.md"));

/** First type of the frames that are reserved, and the longest that are skipped. */
const FIRST_RESERVED_TYPE = 128, MAX_SKIPPED_BYTES = 1 << 16;

/** Writes the example of each frame. */
const ENCODED: Readonly<Record<string, (frames: FrameWriter) => void>> = {
  START: (frames) => frames.start(1),
  DATA: (frames) => frames.data(5, bytesOf("616263")),
  END: (frames) => frames.end(8),
  ACK: (frames) => frames.ack(9, INITIAL_WINDOW_BYTES),
  STOP: (frames) => frames.stop(),
  PROBE: (frames) => frames.probe(1),
  ECHO: (frames) => frames.echo(1),
};

Deno.test("protocol.md: its table of stream types has those of the code", () => {
  const rows = table("Streams", "type");
  assert.deepEqual(
    Object.fromEntries(rows.map(([type, name]) => [name, Number(type)])),
    StreamType,
  );
});

Deno.test("protocol.md: the example of a stream header is what the code sends and reads", async () => {
  const [, hex] = /`([\da-f ]+)` is the header of session 5/.exec(page)!;
  const id = "000102030405060708090a0b0c0d0e0f";
  const header = { type: StreamType.SESSION, session: 5, id } as const;
  const sent = await written((stream) => writeStreamHeader(stream, header));
  assert.deepEqual(sent, bytesOf(hex!));
  const [near, far] = pipe();
  await writeStreamHeader(near, header);
  assert.deepEqual(await readStreamHeader(far), header);
});

Deno.test("protocol.md: its table of close codes has those of the code, with their reasons", () => {
  const rows = table("Close codes", "code");
  assert.deepEqual(
    Object.fromEntries(rows.map(([code, name]) => [name, BigInt(code!)])),
    CloseCode,
  );
  assert.deepEqual(
    new Map(rows.map(([code, , reason]) => [BigInt(code!), plain(reason!)])),
    CLOSE_REASONS,
  );
});

Deno.test("protocol.md: its table of frames has those that the code sends, and no other is read", () => {
  const rows = table("Frames", "type").filter(([, name]) => name !== "");
  const types = new Map(rows.map(([type, name]) => [name!, Number(type)]));
  assert.deepEqual([...types.keys()], Object.keys(ENCODED));
  for (const [name, type] of types) assert.equal(encoded(name)[0], type, name);
  const known = new Set(types.values());
  for (let type = 0; type < FIRST_RESERVED_TYPE; type++) {
    if (!known.has(type)) assert.throws(() => decoded(Uint8Array.of(type)), FrameError, `${type}`);
  }
});

Deno.test("protocol.md: its reserved frames are skipped, up to the length it says", () => {
  const [row] = table("Frames", "type").filter(([, name]) => name === "");
  assert.deepEqual(row!.slice(0, 3), ["128–255", "", "u32 length, bytes"]);
  assert.match(row![3]!, /at most 64 KiB$/);
  const header = (type: number, length: number) => {
    const bytes = new Uint8Array(5);
    bytes[0] = type;
    new DataView(bytes.buffer).setUint32(1, length);
    return bytes;
  };
  for (const type of [128, 200, 255]) {
    const skipped = [...header(type, MAX_SKIPPED_BYTES), ...new Uint8Array(MAX_SKIPPED_BYTES)];
    assert.deepEqual(decoded(Uint8Array.from([...skipped, ...encoded("STOP")])), ["STOP"]);
    assert.throws(() => decoded(header(type, MAX_SKIPPED_BYTES + 1)), FrameError);
  }
});

Deno.test("protocol.md: each example of a frame decodes as it says, and is what the code sends", () => {
  const rows = table("Frames", "bytes");
  const names = rows.map(([, frame]) => frame!.split(" ")[0]!);
  assert.deepEqual(names, [...Object.keys(ENCODED), "skipped"]);
  for (const [hex, frame] of rows) {
    const bytes = bytesOf(plain(hex!));
    assert.deepEqual(decoded(bytes), frame === "skipped" ? [] : [frame], hex);
    if (frame !== "skipped") assert.deepEqual(encoded(frame!.split(" ")[0]!), bytes, frame);
  }
});

Deno.test("protocol.md: the limits of frames and credit are those of the code", () => {
  assert.equal(MAX_DATA_BYTES, 2 ** 20);
  assert.match(page, /DATA of more than 1 MiB/);
  const [, limit] = /the limit of a direction is\s+(\d+)\./.exec(page)!;
  assert.equal(Number(limit), INITIAL_WINDOW_BYTES);
  const tooLarge = Uint8Array.of(3, 0, 0x20, 0, 0, 0, 0, 0, 0); // END with a total of 2^53
  assert.match(page, /offset, total, count or limit of 2\^53 or more/);
  assert.throws(() => decoded(tooLarge), FrameError);
});

/** What the page says of a time or a size of this program, and the constant that it is in the code. */
const FIGURES:
  readonly (readonly [words: string, module: string, constant: string, value: number])[] = [
    ["keep-alives, which come every 5 s", "iroh/connection.ts", "HEARTBEAT_MS", 5_000],
    ["this program, 25 s with `DUMBPIPEV0`", "iroh/silence_watch.ts", "SILENCE_TIMEOUT_MS", 25_000],
    ["and 15 s with the mux protocol", "protocol/mux.ts", "MUX_SILENCE_TIMEOUT_MS", 15_000],
    [
      "waits 1 s and then closes with code 0",
      "listener/peer_session.ts",
      "PEER_CLOSE_TIMEOUT_MS",
      1_000,
    ],
    ["A further one waits 1 s", "protocol/stranger_streams.ts", "STRANGER_WAIT_MS", 1_000],
    ["of all exceed 20,000,000", "listener/stranger_memory.ts", "MAX_WAITING_BYTES", 20_000_000],
    ["that is not whole after 10 s", "protocol/peer_connection.ts", "HEADER_TIMEOUT_MS", 10_000],
    [
      "holds back further ones for at most 10 s",
      "protocol/session_opener.ts",
      "TURN_TIMEOUT_MS",
      10_000,
    ],
    ["keeps the first 64 KiB", "listener/replay_buffer.ts", "MAX_UNANSWERED_BYTES", 64 * 1024],
    ["within 300 ms and two round trips", "listener/replay_stream.ts", "ANSWER_TIMEOUT_MS", 300],
    ["it waits 5 s longer", "listener/replay_stream.ts", "SURE_TIMEOUT_MS", 5_000],
    ["pauses 10 ms,", "protocol/outbox.ts", "REST_MS", 10],
    ["for at most 600 ms in all", "protocol/outbox.ts", "MAX_REST_MS", 600],
    ["or within 50 ms", "protocol/ack_timer.ts", "ACK_DELAY_MS", 50],
    ["share 48 MiB", "protocol/credit.ts", "BUDGET_BYTES", 48 * 1024 * 1024],
    ["This program keeps it for 30 s", "protocol/inbound_session.ts", "KEEP_TIMEOUT_MS", 30_000],
    ["allows itself 10 s for that", "connect/lane_upgrade.ts", "REDIAL_TIMEOUT_MS", 10_000],
    [
      "20 s if the session has a lane",
      "connect/lane_upgrade.ts",
      "REDIAL_WITH_LANE_TIMEOUT_MS",
      20_000,
    ],
    ["at most 5 s), and resets", "listener/connection_pool.ts", "GIVE_UP_TIMEOUT_MS", 5_000],
    ["the session has moved 256 KiB", "connect/lane_demand.ts", "LANE_AFTER_BYTES", 256 * 1024],
    ["or has had 256 exchanges", "connect/lane_demand.ts", "LANE_AFTER_EXCHANGES", 256],
    ["exchanges within 8 s", "connect/lane_demand.ts", "EXCHANGES_WITHIN_MS", 8_000],
    ["pauses 30 s, then twice", "connect/lane_upgrade.ts", "FAILED_PAUSE_MS", 30_000],
    ["up to 10 min", "connect/lane_upgrade.ts", "MAX_PAUSE_MS", 600_000],
    ["it pauses 1 s", "connect/lane_upgrade.ts", "LOST_PAUSE_MS", 1_000],
    ["then four times as long", "connect/lane_upgrade.ts", "LOST_PAUSE_GROWTH", 4],
    [
      "This program waits 5 s for that, and then answers NONE",
      "protocol/lane_answerer.ts",
      "AUTH_TIMEOUT_MS",
      5_000,
    ],
    ["no offer within 15 s", "lane/negotiation.ts", "OFFER_TIMEOUT_MS", 15_000],
    ["It waits at most 30 s for that", "lane/negotiation.ts", "MADE_TIMEOUT_MS", 30_000],
    ["the secret within 2 s", "lane/connectivity.ts", "VERIFY_TIMEOUT_MS", 2_000],
    ["dials QUIC after 300 ms", "lane/gathering.ts", "TLS_HEAD_START_MS", 300],
    ["give up after 8 s", "lane/gathering.ts", "CHECKS_TIMEOUT_MS", 8_000],
    ["or 25 s by the clock", "lane/gathering.ts", "CONTROLLING_CLOCK_TIMEOUT_MS", 25_000],
    ["waits 30 s by the clock", "lane/gathering.ts", "CLOCK_TIMEOUT_MS", 30_000],
    ["none if it knows a round trip of less than 2 ms", "lane/striping.ts", "NEAR_MS", 2],
    ["at most 2 s of running time for the pairs", "lane/striping.ts", "STRIPES_TIMEOUT_MS", 2_000],
    ["pairs, 10 s by the clock", "lane/striping.ts", "CLOCK_TIMEOUT_MS", 10_000],
    [
      "at most 15 s of running time for a message",
      "lane/striping.ts",
      "MESSAGE_TIMEOUT_MS",
      15_000,
    ],
    [
      "in UTF-8 of at most 4096 bytes",
      "pairing/messages.ts",
      "MAX_PAIRING_BYTES",
      4096,
    ],
    [
      "calls its repository, at most 100 characters",
      "pairing/messages.ts",
      "MAX_NAME_CHARACTERS",
      100,
    ],
    ["A stranger has 4 tries", "listener/pairing_server.ts", "MAX_TRIES", 4],
    ["requests of at most 16 strangers", "listener/pairing_server.ts", "MAX_UNPROVEN", 16],
    ["each for at most 10 s", "listener/pairing_server.ts", "REQUEST_TIMEOUT_MS", 10_000],
    ["ends its own, or after 5 s", "listener/pairing_server.ts", "END_TIMEOUT_MS", 5_000],
    ["looks each half second", "protocol/lane_watch.ts", "LOOK_MS", 500],
    ["stays silent for 2 s", "protocol/lane_watch.ts", "STALL_MS", 2_000],
    ["no hint answers within 2 s", "dial/dialer.ts", "LAN_CONNECT_TIMEOUT_MS", 2_000],
    ["none answers within another 500 ms", "dial/dialer.ts", "LAN_FULL_TIMEOUT_MS", 500],
    ["first dialed in 16 groups", "dial/isolated_attempts.ts", "GROUPS", 16],
    ["At most 64 sockets are open", "dial/isolated_attempts.ts", "MAX_SLOTS", 64],
    ["each for at least 1 s", "dial/isolated_attempts.ts", "SLOT_TIMEOUT_MS", 1_000],
  ];

Deno.test("protocol.md: times and sizes of this program are those of the code", async () => {
  const text = page.replaceAll(/\s+/g, " ");
  for (const [words, module, constant, value] of FIGURES) {
    assert(text.includes(words), words);
    const code = await Deno.readTextFile(new URL(`../lib/${module}`, import.meta.url));
    const [, set] = new RegExp(`\\b${constant} = ([^,;]+)[,;]`).exec(code) ?? [];
    assert.equal(valueOf(set ?? ""), value, `${module}: ${constant}, "${words}"`);
  }
});

/** Returns the value of a number, a product, or a number that is shifted. */
function valueOf(expression: string): number {
  const [product, shift = "0"] = expression.replaceAll("_", "").split("<<");
  return product!.split("*").map(Number).reduce((a, b) => a * b) * 2 ** Number(shift);
}

Deno.test("protocol.md: its table of lane messages has those of the code", async () => {
  const rows = table("Messages on a lane stream", "kind");
  assert.deepEqual(
    Object.fromEntries(rows.map(([kind, name]) => [name, Number(kind)])),
    SignalingKind,
  );
  assert.match(rows[0]![2]!, /at most 8 KiB/);
  assert.equal(MAX_OFFER_BYTES, 8 * 1024);
  const [, hex] = /`([\da-f ]+)` is NONE/.exec(page)!;
  const sent = await written((stream) => new SignalingStream(stream).send({ kind: "none" }));
  assert.deepEqual(sent, bytesOf(hex!));
});

Deno.test("protocol.md: its table of pairing messages has those of the code", () => {
  const rows = table("Pairing", "kind");
  assert.deepEqual(
    Object.fromEntries(rows.map(([kind, name]) => [name, Number(kind)])),
    PairingKind,
  );
});

Deno.test("protocol.md: its example of an invitation has the key and the secret that it says", () => {
  const [, text] = /^ {4}(annexinvite\w+)$/m.exec(page)!;
  const count = (from: number, length: number) => Uint8Array.from({ length }, (_, i) => from + i);
  assert.match(page, /the key `00 01 02 … 1f` and the secret `20 21 … 2f`/);
  const invitation = { publicKey: count(0, 32), secret: count(32, 16), relay: undefined };
  assert.deepEqual(decodeInvitation(text!), invitation);
  assert.equal(encodeInvitation(invitation), text);
});

Deno.test("protocol.md: an offer has the fields of its table, and others are ignored", async () => {
  const fields = table("Messages on a lane stream", "field").map(([field]) => plain(field!));
  const { der: certificate } = await makeCertificate();
  const offer = {
    certificate,
    secret: new Uint8Array(SECRET_BYTES),
    tcp: ["192.168.7.2:40123"],
    udp: [],
  };
  const sent = JSON.parse(new TextDecoder().decode(encodeOffer(offer)));
  assert.deepEqual(Object.keys(sent), fields);
  const json = (value: object) => new TextEncoder().encode(JSON.stringify(value));
  assert.deepEqual(decodeOffer(json({ ...sent, later: [1] })), offer);
  for (const field of fields) {
    const { [field]: _, ...others } = sent;
    assert.throws(() => decodeOffer(json(others)), { name: "InvalidOffer" }, field);
  }
});

Deno.test("protocol.md: it names the protocols, the hello and the server name of the code", async () => {
  for (const alpn of [DUMBPIPE_ALPN, MUX_ALPN, LANE_ALPN]) assert(page.includes(`\`${alpn}\``));
  assert(page.includes(`\`${SERVER_NAME}\``));
  const [, text, hex] = /the five bytes `(\w+)` \(`([\da-f ]+)`\)/.exec(page)!;
  const hello = await written(sendHandshake);
  assert.deepEqual([new TextDecoder().decode(hello), hello], [text, bytesOf(hex!)]);
});

Deno.test("protocol.md: its example of an address has the key and the address that it says", () => {
  const [, address] = /^ {4}(endpoint[a-z2-7]+)$/m.exec(page)!;
  const [, socket] = /the socket address\s+`([\d.:]+)`/.exec(page)!;
  assert.match(page, /has the key `00 01 02 … 1f`/);
  assert.deepEqual(decodeTicket(address!), {
    publicKey: Uint8Array.from({ length: 32 }, (_, i) => i),
    relays: [],
    direct: [socket],
  });
});

/** Returns the rows of a table, without its header. @param column Name of the first column. */
function table(heading: string, column: string): string[][] {
  const start = page.search(new RegExp(`^#+ ${heading}$`, "m"));
  assert.notEqual(start, -1, `no section ${heading}`);
  const section = page.slice(start).split(/^#/m)[1]!;
  const tables = section.split(/\n{2,}/).filter((block) => block.startsWith("|"));
  const found = tables.map((block) => block.trimEnd().split("\n").map(cellsOf))
    .find(([header]) => header![0] === column);
  assert(found, `no table with the column ${column} in ${heading}`);
  return found.slice(2);
}

function cellsOf(row: string): string[] {
  return row.split("|").slice(1, -1).map((cell) => cell.trim());
}

/** Returns a cell without the marks of code. */
function plain(cell: string): string {
  return cell.replaceAll("`", "");
}

function bytesOf(hex: string): Bytes {
  return Uint8Array.fromHex(hex.replaceAll(" ", ""));
}

/** Returns the frame that the code sends for the example of that name. */
function encoded(name: string): Bytes {
  const frames = new FrameWriter(100);
  ENCODED[name]!(frames);
  return frames.take()!.slice();
}

/** Returns the frames in these bytes, in the words of the page. */
function decoded(bytes: Bytes): string[] {
  const frames: string[] = [];
  const handler: FrameHandler = {
    start: (generation) => frames.push(`START generation ${generation}`),
    data: (offset, data) => frames.push(`DATA offset ${offset}, bytes ${data.toHex()}`),
    end: (total) => frames.push(`END total ${total}`),
    ack: (received, limit) => frames.push(`ACK received ${received}, limit ${limit}`),
    stop: () => frames.push("STOP"),
    probe: (id) => frames.push(`PROBE id ${id}`),
    echo: (id) => frames.push(`ECHO id ${id}`),
  };
  new FrameReader(handler).push(bytes);
  return frames;
}

/** Returns what a function writes on a stream. */
async function written(write: (stream: Duplex) => Promise<void>): Promise<Bytes> {
  const [near, far] = pipe();
  const reader = far.readable.getReader();
  const [{ value }] = await Promise.all([reader.read(), write(near)]);
  return Uint8Array.from(value!);
}
