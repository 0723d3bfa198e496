/** Random input for what is decoded at once: tickets, settings, offers, frames, and the beginnings of streams. */

import assert from "node:assert/strict";
import { join } from "node:path";
import { base32nopad, base64 } from "@scure/base";
import fc from "fast-check";
import { locateControlSocket } from "../../lib/control/locator.ts";
import { servingOf } from "../../lib/listener/listener_file.ts";
import { thisHost } from "../../lib/platform/host.ts";
import { listenerFolder } from "../../lib/repository/listener_folder.ts";
import config from "../../deno.json" with { type: "json" };
import { findOnSameHost } from "../../lib/discovery/same_host.ts";
import { isPeerAddress } from "../../lib/lane/dialable.ts";
import { AbsenceMemory } from "../../lib/dial/absence_memory.ts";
import { Unreachable } from "../../lib/dial/unreachable.ts";
import { LaneFailures } from "../../lib/lane/failures.ts";
import { LaneError } from "../../lib/lane/lane.ts";
import { decodeOffer, InvalidOffer } from "../../lib/lane/offer.ts";
import { SignalingKind, SignalingStream } from "../../lib/lane/signaling.ts";
import { AuthWatch } from "../../lib/listener/auth_watch.ts";
import { parseSocketAddress } from "../../lib/platform/socket_address.ts";
import { HandshakeError, receiveHandshake } from "../../lib/protocol/dumbpipe.ts";
import { FrameError, FrameReader, FrameWriter } from "../../lib/protocol/frames.ts";
import {
  answerPing,
  ProtocolError,
  readStreamHeader,
  UnsupportedStream,
} from "../../lib/protocol/mux.ts";
import { parseSecretKey } from "../../lib/repository/identity.ts";
import { parseSettings, SettingError } from "../../lib/repository/settings.ts";
import { decodeTicket, TicketError } from "../../lib/repository/ticket.ts";
import { StreamError } from "../../lib/streams/duplex.ts";
import { MessageFormat } from "../../lib/streams/message_format.ts";
import {
  cuts,
  damaged,
  damagedText,
  type FuzzTarget,
  pieces,
  rejectsOnly,
  streamOf,
  throwsOnly,
} from "./target.ts";

/** Characters that must not reach a terminal. */
const UNPRINTABLE = /[\p{Cc}\p{Cf}]/u;

const publicKey = fc.uint8Array({ minLength: 32, maxLength: 32 });
const varint = fc.oneof(
  fc.nat(40).map((value) => [value]),
  fc.uint8Array({ minLength: 1, maxLength: 6 }).map((bytes) => [...bytes]),
);
const ticketAddress = fc.oneof(
  fc.webUrl().map((url) => [0, url.length, ...new TextEncoder().encode(url)]),
  fc.tuple(fc.uint8Array({ minLength: 4, maxLength: 4 }), varint)
    .map(([ip, port]) => [1, 0, ...ip, ...port]),
  fc.tuple(fc.uint8Array({ minLength: 16, maxLength: 16 }), varint)
    .map(([ip, port]) => [1, 1, ...ip, ...port]),
);
const ticketBytes = fc.tuple(publicKey, varint, fc.array(ticketAddress, { maxLength: 50 }))
  .map(([key, count, addresses]) => {
    const counts = count.length === 1 ? [addresses.length] : count;
    return Uint8Array.from([0, ...key, ...counts, ...addresses.flat()]);
  });
const ticketText = fc.oneof(
  damaged(ticketBytes).map((bytes) => `endpoint${base32nopad.encode(bytes).toLowerCase()}`),
  damagedText(ticketBytes.map((bytes) => `endpoint${base32nopad.encode(bytes).toLowerCase()}`)),
  fc.string({ unit: "binary" }),
);

const tickets = fc.property(ticketText, (text) => {
  let ticket;
  try {
    ticket = decodeTicket(text);
  } catch (error) {
    assert(error instanceof TicketError, `${error}`);
    assert.doesNotMatch(error.message, UNPRINTABLE);
    return;
  }
  assert.equal(ticket.publicKey.length, 32);
  assert(ticket.relays.length <= 8 && ticket.direct.length <= 32);
  for (const relay of ticket.relays) assert.match(new URL(relay).protocol, /^https?:$/);
  for (const address of ticket.direct) assert.equal(parseSocketAddress(address), address);
});

const KEYS = [
  "relay",
  "lookup",
  "lan",
  "lane",
  "warm",
  "bind",
  "external",
  "max-connections",
] as const;
const settingValue = fc.oneof(
  fc.constantFrom("n0", "none", "true", "FALSE", "1", "", "0.0.0.0:7", "[::]:0", "65536"),
  damagedText(fc.webUrl()),
  damagedText(
    fc.oneof(fc.ipV4(), fc.ipV6()).map((host) => host.includes(":") ? `[${host}]:1` : `${host}:1`),
  ),
  fc.array(fc.webUrl(), { maxLength: 10 }).map((urls) => urls.join(" ")),
  fc.string({ unit: "binary" }),
);
const settings = fc.property(
  fc.array(fc.tuple(fc.constantFrom(...KEYS), settingValue), { maxLength: 6 }),
  fc.dictionary(fc.constantFrom(...KEYS), settingValue, { maxKeys: 2 }),
  fc.string({ unit: "binary" }),
  (entries, environment, junk) => {
    const config = entries.map(([key, value]) => `p2p-iroh.${key}\n${value}\0`).join("") + junk;
    const variable = (key: string) =>
      `GIT_ANNEX_P2P_IROH_${key.toUpperCase().replaceAll("-", "_")}`;
    const values = new Map(
      Object.entries(environment).map(([key, value]) => [variable(key), value]),
    );
    try {
      const { relay, maxConnections } = parseSettings(config, (name) => values.get(name));
      assert(Number.isInteger(maxConnections) && maxConnections > 0 && maxConnections <= 10_000);
      if (relay.kind === "custom") assert(relay.urls.length > 0 && relay.urls.length <= 8);
    } catch (error) {
      if (error instanceof assert.AssertionError) throw error;
      assert(error instanceof SettingError, `${error}`);
      assert.doesNotMatch(error.message, UNPRINTABLE);
    }
  },
);

const socketAddress = fc.oneof(
  fc.tuple(fc.ipV4(), fc.nat(70_000)).map(([host, port]) => `${host}:${port}`),
  fc.tuple(fc.ipV6(), fc.nat(70_000)).map(([host, port]) => `[${host}]:${port}`),
);
const offerAddresses = fc.oneof(
  fc.array(fc.oneof(damagedText(socketAddress), fc.jsonValue()), { maxLength: 20 }),
  fc.jsonValue(),
);
const offerField = (length: number) =>
  fc.oneof(
    fc.uint8Array({ minLength: length, maxLength: length }).map((bytes) => base64.encode(bytes)),
    fc.jsonValue(),
  );
const offerBytes = fc.record({
  certificate: offerField(300),
  secret: offerField(32),
  tcp: offerAddresses,
  udp: offerAddresses,
}, { requiredKeys: [] }).map((offer) => new TextEncoder().encode(JSON.stringify(offer)));

function checkOffer(bytes: Uint8Array): void {
  const offer = throwsOnly(() => decodeOffer(bytes), InvalidOffer);
  if (!offer) return;
  assert(offer.certificate.length <= 2048 && offer.secret.length === 32);
  for (const list of [offer.tcp, offer.udp]) {
    assert(list.length <= 16);
    for (const address of list) {
      assert.equal(parseSocketAddress(address), address);
      assert(isPeerAddress(address), address);
    }
  }
}

const offers = fc.property(damaged(offerBytes), checkOffer);

const FORMAT = new MessageFormat(2);
const signalingBytes = fc.array(
  fc.oneof(
    offerBytes.map((body) => FORMAT.encode(SignalingKind.OFFER, body)),
    fc.constantFrom(SignalingKind.NONE, SignalingKind.MADE, 0, 4).map((kind) =>
      FORMAT.encode(kind, new Uint8Array())
    ),
  ),
  { maxLength: 3 },
).map((messages) => Uint8Array.from(messages.flatMap((message) => [...message])));

const signaling = fc.asyncProperty(damaged(signalingBytes), cuts, async (bytes, at) => {
  const messages = new SignalingStream(streamOf(pieces(bytes, at)));
  for (let i = 0; i < 10; i++) {
    if (!await rejectsOnly(messages.receive(), LaneError, InvalidOffer)) return;
  }
});

const frameBytes = fc.array(
  fc.oneof(
    fc.tuple(fc.constant("start"), fc.nat(20)),
    fc.tuple(fc.constant("data"), fc.nat(1000)),
    fc.tuple(fc.constant("end"), fc.nat(1000)),
    fc.tuple(fc.constant("ack"), fc.nat(1000)),
    fc.tuple(fc.constantFrom("stop", "probe", "echo"), fc.nat(1000)),
  ),
  { maxLength: 10 },
).map((told) => {
  const frames = new FrameWriter(4096);
  for (const [kind, value] of told) {
    if (kind === "data") frames.data(value, new Uint8Array(value % 50));
    else if (kind === "ack") frames.ack(value, value + 262_144);
    else if (kind === "stop") frames.stop();
    else frames[kind as "start"](value);
  }
  return frames.take()?.slice() ?? new Uint8Array();
});

/** Returns what a reader says, with the parts of each data frame together. */
function framesOf(pieces: readonly Uint8Array<ArrayBuffer>[]): string[] {
  const told: string[] = [],
    tell = (name: string) => (...values: number[]) => void told.push(`${name} ${values}`);
  let end = -1;
  const reader = new FrameReader({
    start: tell("start"),
    end: tell("end"),
    ack: tell("ack"),
    stop: tell("stop"),
    probe: tell("probe"),
    echo: tell("echo"),
    data: (offset, data) => {
      const last = told.at(-1);
      if (end === offset && last?.startsWith("data")) told[told.length - 1] = last + data.toHex();
      else told.push(`data ${offset} ${data.toHex()}`);
      end = offset + data.length;
    },
  });
  try {
    for (const piece of pieces) reader.push(piece);
  } catch (error) {
    assert(error instanceof FrameError, `${error}`);
    told.push("error");
  }
  return told.filter((frame) => !/^data \d+ $/.test(frame));
}

const frames = fc.property(damaged(frameBytes), cuts, (bytes, at) => {
  assert.deepEqual(framesOf(pieces(bytes, at)), framesOf([bytes]));
});

const headerBytes = fc.oneof(
  fc.tuple(fc.constantFrom(1, 2, 3, 4, 5, 255), fc.uint8Array({ minLength: 20, maxLength: 20 }))
    .map(([type, rest]) => Uint8Array.of(type, ...rest)),
  fc.constant(new TextEncoder().encode("hello, and more")),
);
const headers = fc.asyncProperty(damaged(headerBytes), cuts, async (bytes, at) => {
  const stream = streamOf(pieces(bytes, at));
  const header = await rejectsOnly(
    readStreamHeader(stream),
    ProtocolError,
    UnsupportedStream,
    StreamError,
  );
  if (header?.type === 1) await rejectsOnly(answerPing(stream), ProtocolError, StreamError);
  const handshake = receiveHandshake(streamOf(pieces(bytes, at))).then(() => true);
  const isHello = new TextDecoder().decode(bytes.subarray(0, 5)) === "hello";
  assert.equal(await rejectsOnly(handshake, HandshakeError) ?? false, isHello);
});

const annexLines = fc.array(
  fc.oneof(
    fc.constantFrom("AUTH-SUCCESS 7", "AUTH-SUCCESS", "AUTH-FAILURE\n", "\n", "ERROR no\n"),
    fc.string(),
  ),
  { maxLength: 4 },
).map((lines) => new TextEncoder().encode(lines.join("")));
const authentication = fc.property(damaged(annexLines), cuts, (bytes, at) => {
  const seenIn = (pieces: readonly Uint8Array[]) => {
    let seen = 0;
    const watch = new AuthWatch(() => seen++);
    for (const piece of pieces) watch.see(piece);
    return seen;
  };
  const isLetIn = /(^|\n)AUTH-SUCCESS /.test(new TextDecoder("latin1").decode(bytes));
  assert.deepEqual([seenIn(pieces(bytes, at)), seenIn([bytes])], isLetIn ? [1, 1] : [0, 0]);
});

const secretKeys = fc.property(
  damaged(
    fc.uint8Array({ minLength: 32, maxLength: 32 })
      .map((key) => new TextEncoder().encode(`${key.toHex()}\n`)),
  ),
  (bytes) => {
    const key = parseSecretKey(bytes);
    assert(key === undefined || key.length === 32);
  },
);

const folder = Deno.makeTempDirSync({ prefix: "p2p-iroh-fuzz-" });
addEventListener("unload", () => Deno.removeSync(folder, { recursive: true }));
const repository = { gitDir: join(folder, "repository") };
const KEY = new Uint8Array(32);
const FILES = [
  join(folder, `${KEY.toHex()}.json`),
  join(folder, `${KEY.toHex()}.lanes`),
  join(folder, `${KEY.toHex()}.away`),
  join(listenerFolder(repository), "control"),
  join(listenerFolder(repository), "listener"),
];
const loadAbsence = () => {
  const settings = { relay: { kind: "none" }, lookup: false, lan: false } as const;
  return AbsenceMemory.load({ publicKey: KEY, relays: [], direct: [] }, settings, [folder]);
};
await (await loadAbsence()).failed(new Unreachable("cannot reach the peer"), undefined);
const { routes } = JSON.parse(await Deno.readTextFile(join(folder, `${KEY.toHex()}.away`)));
await Deno.mkdir(listenerFolder(repository), { recursive: true });

const host = fc.oneof(
  fc.constant(thisHost()),
  fc.constant({ ...thisHost(), pidNamespace: "elsewhere" }),
  fc.jsonValue(),
);

const runtimeFile = fc.oneof(
  fc.record({
    id: fc.oneof(fc.uuid(), fc.jsonValue()),
    pid: fc.oneof(fc.integer(), fc.jsonValue()),
    host,
    direct: fc.oneof(fc.array(socketAddress, { maxLength: 20 }), fc.jsonValue()),
  }, { requiredKeys: [] }),
  fc.record({
    version: fc.oneof(fc.constant(config.version), fc.jsonValue()),
    socket: fc.oneof(fc.constant(join(folder, "0123456789ab.control")), fc.jsonValue()),
    cookie: fc.oneof(fc.string(), fc.jsonValue()),
    settings: fc.oneof(fc.string(), fc.jsonValue()),
    host,
  }, { requiredKeys: [] }),
  fc.array(fc.record({
    kind: fc.oneof(fc.constantFrom("TLS", "QUIC"), fc.jsonValue()),
    host: fc.oneof(fc.ipV4(), fc.jsonValue()),
    at: fc.oneof(fc.constant(Date.now()), fc.jsonValue()),
  }, { requiredKeys: [] })),
  fc.record({
    at: fc.oneof(fc.constant(Date.now()), fc.jsonValue()),
    dialedAt: fc.oneof(fc.constant(Date.now()), fc.jsonValue()),
    since: fc.oneof(fc.constant(Date.now()), fc.jsonValue()),
    lastSeen: fc.oneof(fc.constant(null), fc.jsonValue()),
    routes: fc.oneof(fc.constant(routes), fc.jsonValue()),
    message: fc.oneof(fc.string(), fc.jsonValue()),
    hint: fc.oneof(fc.constant(null), fc.string(), fc.jsonValue()),
  }, { requiredKeys: [] }),
  fc.jsonValue(),
).map((value) => new TextEncoder().encode(JSON.stringify(value)));
const runtimeFiles = fc.asyncProperty(damaged(runtimeFile), async (bytes) => {
  for (const file of FILES) await Deno.writeFile(file, bytes);
  const found = await findOnSameHost(KEY, [folder]);
  for (const address of found) assert.equal(parseSocketAddress(address), address);
  const failures = LaneFailures.load(KEY.toHex(), [folder]);
  assert.equal(typeof failures.has("TLS", "192.0.2.1"), "boolean");
  const { failure } = await loadAbsence();
  if (failure) assert.doesNotMatch(failure.message, /\p{Cc}/u);
  assert.equal(locateControlSocket(repository), undefined);
  await servingOf(repository);
});

export const decoderTargets: readonly FuzzTarget[] = [
  { name: "tickets", property: tickets, inputs: 300 },
  { name: "settings", property: settings, inputs: 300 },
  { name: "offers", property: offers, inputs: 300 },
  { name: "signaling", property: signaling, inputs: 100 },
  { name: "frames", property: frames, inputs: 300 },
  { name: "headers", property: headers, inputs: 100 },
  { name: "authentication", property: authentication, inputs: 200 },
  { name: "secret-keys", property: secretKeys, inputs: 200 },
  { name: "runtime-files", property: runtimeFiles, inputs: 50 },
];
