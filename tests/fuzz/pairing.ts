/** Random invitations, and random messages between a joiner and a listener. */

import assert from "node:assert/strict";
import fc from "fast-check";
import { PairingServer } from "../../lib/listener/pairing_server.ts";
import { MAX_LINE_CHARACTERS, parseAnnexLine } from "../../lib/pairing/annex_line.ts";
import { parseRecord } from "../../lib/pairing/invitation_store.ts";
import {
  decodeInvitation,
  encodeInvitation,
  InvitationError,
} from "../../lib/pairing/invitation.ts";
import {
  isName,
  type PairingAnswer,
  PairingKind,
  readAnswer,
  readRequest,
  sendRequest,
} from "../../lib/pairing/messages.ts";
import { ProtocolError, StreamType } from "../../lib/protocol/mux.ts";
import { MuxConnection } from "../../lib/protocol/peer_connection.ts";
import { parseRelayUrl } from "../../lib/repository/settings.ts";
import { StreamError } from "../../lib/streams/duplex.ts";
import { MessageFormat } from "../../lib/streams/message_format.ts";
import { MemoryConnection } from "../memory_connection.ts";
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

const FORMAT = new MessageFormat(2);
const SECRET = "07".repeat(16);
const ADDRESS = "endpointaaaacaqdaqcqmbyibefawdanbyhraeiscmkbkfqxdamrugy4dupb6aibadaaaaqb2era";
const LINE = `p2p-annex::iroh:${ADDRESS}:token`;
const UUID = "01234567-89ab-cdef-0123-456789abcdef";

const invitationText = fc.record({
  publicKey: fc.uint8Array({ minLength: 32, maxLength: 32 }),
  secret: fc.uint8Array({ minLength: 16, maxLength: 16 }),
  relay: fc.oneof(fc.constant(undefined), fc.webUrl().map(parseRelayUrl)),
}).map(encodeInvitation);
const invitations = fc.property(
  fc.oneof(damagedText(invitationText), fc.string({ unit: "binary" })),
  (text) => {
    const invitation = throwsOnly(() => decodeInvitation(text), InvitationError);
    if (invitation) assert.deepEqual(decodeInvitation(encodeInvitation(invitation)), invitation);
  },
);

const body = fc.oneof(
  fc.record({
    secret: fc.oneof(fc.constant(SECRET), fc.string(), fc.jsonValue()),
    name: fc.oneof(fc.string({ unit: "binary" }), fc.jsonValue()),
    line: fc.oneof(fc.constant(LINE), damagedText(fc.constant(LINE)), fc.jsonValue()),
    uuid: fc.oneof(fc.constant(UUID), fc.jsonValue()),
    branch: fc.oneof(fc.string({ unit: "binary" }), fc.jsonValue()),
    remote: fc.oneof(fc.string({ unit: "binary" }), fc.jsonValue()),
    reason: fc.oneof(fc.string({ unit: "binary" }), fc.jsonValue()),
    message: fc.oneof(fc.string({ unit: "binary" }), fc.jsonValue()),
    wasLinked: fc.oneof(fc.boolean(), fc.jsonValue()),
  }, { requiredKeys: ["secret"] }),
  fc.jsonValue(),
).map((value) => new TextEncoder().encode(JSON.stringify(value)).subarray(0, FORMAT.maxLength));
const kinds = fc.oneof(fc.constantFrom(...Object.values(PairingKind)), fc.nat(255));
const messageBytes = damaged(
  fc.tuple(kinds, body).map(([kind, body]) => FORMAT.encode(kind, body)),
);

/** Whatever comes, no text with control characters and no line of another network is passed on. */
const messages = fc.asyncProperty(messageBytes, cuts, async (bytes, at) => {
  for (const read of [readRequest, readAnswer]) {
    const message = await rejectsOnly<object | undefined>(
      read(streamOf(pieces(bytes, at))),
      ProtocolError,
      StreamError,
    );
    for (const [field, value] of Object.entries(message ?? {})) {
      if (field === "line") assert.deepEqual(parseAnnexLine(value.line), value);
      else if (field === "name" || field === "remote") assert(isName(value));
      else if (typeof value === "string") assert.doesNotMatch(value, /[\p{Cc}\p{Cf}]/u);
    }
  }
});

const lines = fc.property(damagedText(fc.constant(LINE)), (text) => {
  const line = parseAnnexLine(text);
  if (!line) return;
  assert.match(line.line, /^p2p-annex::iroh:endpoint[a-z2-7]+:[^\s:]+$/);
  assert(line.line.length <= MAX_LINE_CHARACTERS && line.line.startsWith(`${line.url}:`));
});

/** Whatever strangers send, none of them is let in, and a joiner is answered. */
const server = fc.asyncProperty(
  fc.array(fc.tuple(messageBytes, cuts), { minLength: 1, maxLength: 6 }),
  async (strangers) => {
    const secret = crypto.getRandomValues(new Uint8Array(16));
    const answer: PairingAnswer = { kind: "linked", remote: "ann", wasLinked: false };
    const pairing = new PairingServer({
      use: (request) =>
        request.secret.toHex() === secret.toHex() ? () => Promise.resolve(answer) : undefined,
    }, { endTimeoutMs: 100 });
    const stop = new AbortController(), served: Promise<unknown>[] = [];
    const connect = () => {
      const connection = new MemoryConnection();
      const mux = new MuxConnection(connection.asConnection, {
        isDialed: false,
        bind: undefined,
        pair: (...request) => pairing.serve(...request),
        serve: () => Promise.resolve(),
      });
      served.push(mux.serve(stop.signal).catch(() => {})); // strangers are turned away
      return { connection, mux };
    };
    const peers = strangers.map(([bytes, at]) => {
      const { connection, mux } = connect();
      const writer = connection.openAsPeer().writable.getWriter();
      writer.closed.catch(() => {}); // it is turned away
      writer.write(Uint8Array.of(StreamType.PAIR)).catch(() => {}); // it is turned away
      for (const piece of pieces(bytes, at)) writer.write(piece).catch(() => {}); // the same
      return mux;
    });
    const joiner = connect();
    const stream = joiner.connection.openAsPeer();
    await sendRequest(stream, { kind: "done", secret });
    assert.deepEqual(await readAnswer(stream), answer);
    assert.deepEqual(peers.filter(({ isAuthenticated }) => isAuthenticated), []);
    stop.abort(new Error("stopped"));
    await Promise.all(served);
  },
);

const record = fc.oneof(
  fc.record({
    hash: fc.oneof(fc.constant("ab".repeat(32)), fc.jsonValue()),
    name: fc.oneof(fc.string(), fc.jsonValue()),
    expires: fc.oneof(fc.integer(), fc.jsonValue()),
    isDetached: fc.oneof(fc.boolean(), fc.jsonValue()),
    state: fc.oneof(fc.constantFrom("open", "joining", "joined", "over"), fc.jsonValue()),
    joiner: fc.oneof(
      fc.record({ key: fc.constant("cd".repeat(32)), name: fc.string() }),
      fc.jsonValue(),
    ),
    link: fc.oneof(
      fc.record({
        remote: fc.string(),
        url: fc.constant(`p2p-annex::iroh:${ADDRESS}`),
        wasLinked: fc.boolean(),
        isMade: fc.boolean(),
      }),
      fc.jsonValue(),
    ),
  }, { requiredKeys: ["hash", "expires", "isDetached", "state"] }),
  fc.jsonValue(),
).map((value) => JSON.stringify(value));
const files = fc.property(damagedText(record), (text) => {
  const record = parseRecord(text);
  if (!record) return;
  assert.match(record.hash, /^[0-9a-f]{64}$/);
  for (const name of [record.name, record.joiner?.name, record.link?.remote]) {
    assert(name === undefined || isName(name));
  }
});

export const pairingTargets: readonly FuzzTarget[] = [
  { name: "invitations", property: invitations, inputs: 300 },
  { name: "pairing-messages", property: messages, inputs: 200 },
  { name: "annex-lines", property: lines, inputs: 200 },
  { name: "pairing-server", property: server, inputs: 20 },
  { name: "invitation-files", property: files, inputs: 200 },
];
