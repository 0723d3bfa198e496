/**
 * The messages of a pairing, on a stream of type PAIR (protocol/mux.ts). The joiner opens a stream for each request,
 * and the inviter's listener answers it there. Each request has the invitation's secret in it, so that the joiner
 * can go on with the next one on any connection of the same key.
 *
 * docs/protocol.md describes them.
 */

import { printable } from "../console/printable.ts";
import type { Duplex } from "../streams/duplex.ts";
import { MessageFormat } from "../streams/message_format.ts";
import { ProtocolError, readExactly, StreamType } from "../protocol/mux.ts";
import { type AnnexLine, parseAnnexLine } from "./annex_line.ts";

/** Kinds of messages. The joiner sends the first four, the inviter the others. */
export const PairingKind = {
  /** Asks what is needed to join. The first use of an invitation; a repeated one has the same effect. */
  JOIN: 1,
  /** Gives the joiner's line, so that the inviter makes the joiner a remote. */
  LINK: 2,
  /** The joiner has made the inviter a remote. The invitation is then over. */
  DONE: 3,
  /** The joiner gives up. The inviter removes the remote again. */
  CANCEL: 4,
  /** Answers JOIN. */
  WELCOME: 16,
  /** Answers LINK. */
  LINKED: 17,
  /** Answers DONE and CANCEL. */
  OVER: 18,
  /** The secret is of no invitation that this joiner can use. */
  REFUSED: 19,
  /** The inviter cannot do it now. Only a joiner with the secret gets this. */
  FAILED: 20,
} as const;

/** Maximum length of a body: a line with the longest address and as much again. */
export const MAX_PAIRING_BYTES = 4096;
/** Maximum length of a repository's name. git's names of remotes become file names. */
export const MAX_NAME_CHARACTERS = 100;
/** Maximum length of a branch's name, which is a file name, too. */
const MAX_BRANCH_CHARACTERS = 255;
/** Maximum length of a message for people. */
const MAX_TEXT_CHARACTERS = 500;

/** What the joiner asks. */
export type PairingRequest =
  & { readonly secret: Uint8Array }
  & (
    /** @param name What the joiner calls its repository. The inviter makes a name of a remote of it. */
    | { readonly kind: "join"; readonly name: string }
    | { readonly kind: "link"; readonly line: AnnexLine }
    | { readonly kind: "done" }
    /** @param reason Why, for people. */
    | { readonly kind: "cancel"; readonly reason: string }
  );

/** What the joiner needs to join. */
export interface Welcome {
  /** What the inviter calls its repository: printable, and no name of a remote yet. */
  readonly name: string;
  /** git-annex's UUID of the inviter's repository. */
  readonly uuid: string;
  /** The inviter's line. Its token is this joiner's from now on. */
  readonly line: AnnexLine;
  /**
   * Branch that the inviter's HEAD names, without refs/heads/: of an adjusted branch, the one that it adjusts. It may
   * have no commit. Undefined if HEAD names none. The joiner checks it with git check-ref-format.
   */
  readonly branch: string | undefined;
}

/** What has become of the joiner at the inviter. */
export interface Linked {
  /** Name of the remote there. */
  readonly remote: string;
  /** Whether the joiner was linked there before. */
  readonly wasLinked: boolean;
}

/** What the inviter answers. */
export type PairingAnswer =
  | ({ readonly kind: "welcome" } & Welcome)
  | ({ readonly kind: "linked" } & Linked)
  | { readonly kind: "over" }
  | { readonly kind: "refused" }
  /** @param message Why, for people. */
  | { readonly kind: "failed"; readonly message: string };

/** A body, not checked yet. */
type Fields = Readonly<Record<string, unknown>>;

const FORMAT = new MessageFormat(2);

/** Sends a request on a new stream, of which it is the first. */
export async function sendRequest(stream: Duplex, request: PairingRequest): Promise<void> {
  await send(stream, Uint8Array.of(StreamType.PAIR, ...encodeRequest(request)));
}

/** Sends the answer. */
export async function sendAnswer(stream: Duplex, answer: PairingAnswer): Promise<void> {
  await send(stream, encodeAnswer(answer));
}

async function send(stream: Duplex, bytes: Uint8Array): Promise<void> {
  const writer = stream.writable.getWriter();
  await writer.write(bytes);
  writer.releaseLock();
}

function encodeRequest(request: PairingRequest): Uint8Array<ArrayBuffer> {
  const secret = request.secret.toHex();
  switch (request.kind) {
    case "join":
      return encode(PairingKind.JOIN, {
        secret,
        name: printable(request.name, MAX_NAME_CHARACTERS),
      });
    case "link":
      return encode(PairingKind.LINK, { secret, line: request.line.line });
    case "done":
      return encode(PairingKind.DONE, { secret });
    case "cancel":
      return encode(PairingKind.CANCEL, {
        secret,
        reason: printable(request.reason, MAX_TEXT_CHARACTERS),
      });
  }
}

function encodeAnswer(answer: PairingAnswer): Uint8Array<ArrayBuffer> {
  switch (answer.kind) {
    case "welcome": {
      const { uuid, line: { line }, branch } = answer;
      const name = printable(answer.name, MAX_NAME_CHARACTERS);
      return encode(PairingKind.WELCOME, { name, uuid, line, branch });
    }
    case "linked":
      return encode(PairingKind.LINKED, { remote: answer.remote, wasLinked: answer.wasLinked });
    case "over":
      return encode(PairingKind.OVER, {});
    case "refused":
      return encode(PairingKind.REFUSED, {});
    case "failed":
      return encode(PairingKind.FAILED, {
        message: printable(answer.message, MAX_TEXT_CHARACTERS),
      });
  }
}

/** Reads the joiner's request. @throws {ProtocolError} if something else comes, or what the stream says. */
export async function readRequest(stream: Duplex): Promise<PairingRequest> {
  const { kind, fields } = await read(stream);
  const secret = secretOf(fields);
  switch (kind) {
    case PairingKind.JOIN:
      return { kind: "join", secret, name: textOf(fields, "name", MAX_NAME_CHARACTERS) };
    case PairingKind.LINK:
      return { kind: "link", secret, line: lineOf(fields) };
    case PairingKind.DONE:
      return { kind: "done", secret };
    case PairingKind.CANCEL:
      return { kind: "cancel", secret, reason: textOf(fields, "reason", MAX_TEXT_CHARACTERS) };
    default:
      throw new ProtocolError(`a request of kind ${kind}`);
  }
}

/** Reads the inviter's answer. @throws {ProtocolError} if something else comes, or what the stream says. */
export async function readAnswer(stream: Duplex): Promise<PairingAnswer> {
  const { kind, fields } = await read(stream);
  switch (kind) {
    case PairingKind.WELCOME: {
      const name = textOf(fields, "name", MAX_NAME_CHARACTERS);
      return {
        kind: "welcome",
        name,
        uuid: uuidOf(fields),
        line: lineOf(fields),
        branch: branchOf(fields),
      };
    }
    case PairingKind.LINKED: {
      const remote = textOf(fields, "remote", MAX_NAME_CHARACTERS);
      return { kind: "linked", remote, wasLinked: fields.wasLinked === true };
    }
    case PairingKind.OVER:
      return { kind: "over" };
    case PairingKind.REFUSED:
      return { kind: "refused" };
    case PairingKind.FAILED:
      return { kind: "failed", message: textOf(fields, "message", MAX_TEXT_CHARACTERS) };
    default:
      throw new ProtocolError(`an answer of kind ${kind}`);
  }
}

function encode(kind: number, fields: Fields): Uint8Array<ArrayBuffer> {
  const body = new TextEncoder().encode(JSON.stringify(fields));
  if (body.length > MAX_PAIRING_BYTES) throw new RangeError(`a message of ${body.length} bytes`);
  return FORMAT.encode(kind, body);
}

async function read(stream: Duplex): Promise<{ kind: number; fields: Fields }> {
  const { kind, length } = FORMAT.decodeHeader(await readExactly(stream, FORMAT.headerBytes));
  if (length > MAX_PAIRING_BYTES) throw new ProtocolError(`a message of ${length} bytes`);
  const body = length > 0 ? await readExactly(stream, length) : new Uint8Array();
  return { kind, fields: fieldsOf(body) };
}

function fieldsOf(body: Uint8Array): Fields {
  try {
    const value = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(body));
    if (value !== null && typeof value === "object" && !Array.isArray(value)) return value;
  } catch {
    // reported below
  }
  throw new ProtocolError("a message that is no JSON object");
}

function secretOf({ secret }: Fields): Uint8Array {
  if (typeof secret === "string" && /^[0-9a-f]{32}$/.test(secret)) {
    return Uint8Array.fromHex(secret);
  }
  throw new ProtocolError("a request without a secret");
}

/** Tells whether a value is a name for a repository, as a message has it. */
export function isName(value: unknown): value is string {
  return typeof value === "string" && printable(value, MAX_NAME_CHARACTERS) === value;
}

/** Returns a text for people: printable, of at most some characters. It may be empty. */
function textOf(fields: Fields, field: string, maxCharacters: number): string {
  const text = fields[field];
  if (typeof text === "string") return printable(text, maxCharacters);
  throw new ProtocolError(`a message without ${field}`);
}

function uuidOf({ uuid }: Fields): string {
  if (typeof uuid === "string" && /^[0-9a-f-]{36}$/.test(uuid)) return uuid;
  throw new ProtocolError("a message without a UUID");
}

function lineOf({ line }: Fields): AnnexLine {
  const parsed = typeof line === "string" ? parseAnnexLine(line) : undefined;
  if (parsed) return parsed;
  throw new ProtocolError("a message without a line of git annex p2p --gen-addresses");
}

function branchOf({ branch }: Fields): string | undefined {
  if (branch === undefined) return undefined;
  const isName = typeof branch === "string" && branch.length <= MAX_BRANCH_CHARACTERS &&
    /^[^-\s\p{C}][^\s\p{C}]*$/u.test(branch);
  if (isName) return branch;
  throw new ProtocolError("an invalid name of a branch");
}
