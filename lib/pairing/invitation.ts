/**
 * The text of an invitation. It is the word "annexinvite", then in Crockford's base32
 * (https://www.crockford.com/base32.html), in lower case:
 *
 * - the version, 01
 * - the inviter's public key, 32 bytes
 * - the secret, 16 bytes
 * - the URL of a relay in UTF-8; nothing if the inviter uses iroh's public relays, or none
 * - the checksum, the first 4 bytes of the SHA-256 of all before it
 *
 * That alphabet lacks I, L, O and U. So a reader can take O for 0, and I and L for 1. Checksum and version are at
 * these places in each version, so that a mistake is told from an invitation of a newer version.
 */

import { createHash } from "node:crypto";
import { base32crockford } from "@scure/base";
import { Failure } from "../console/failure.ts";
import { homeRelay } from "../iroh/home_relay.ts";
import { parseRelayUrl, type RelaySetting } from "../repository/settings.ts";
import { PUBLIC_KEY_BYTES } from "../repository/ticket.ts";

/** What an invitation says. */
export interface Invitation {
  /** The inviter's Ed25519 public key, 32 bytes. */
  readonly publicKey: Uint8Array;
  /** Proves that the joiner was invited, {@linkcode SECRET_BYTES}. Never shown but in the invitation itself. */
  readonly secret: Uint8Array;
  /** URL of the inviter's own relay; undefined if it uses iroh's public relays, or none. */
  readonly relay: string | undefined;
}

/** The word with which an invitation begins. */
export const INVITATION_PREFIX = "annexinvite";
/** Length of the secret: 128 bits, which are not guessed. */
export const SECRET_BYTES = 16;

const VERSION = 1;
const VERSION_BYTES = 1, CHECKSUM_BYTES = 4;
const FIXED_BYTES = VERSION_BYTES + PUBLIC_KEY_BYTES + SECRET_BYTES + CHECKSUM_BYTES;
/** Maximum length of a text that is read: several times an invitation with the longest URL, and spaces in it. */
const MAX_CHARACTERS = 4096;
/** What a mail program or a reader may put between the letters: spaces, line breaks, hyphens, invisible characters. */
const IGNORED = /[\s\p{Cf}\p{Pd}]+/gu;
/** The prefix in the letters that {@linkcode lettersOf} returns. */
const PREFIX = lettersOf(INVITATION_PREFIX);

/** Why a text is not an invitation that can be used. */
export type InvitationProblem =
  /** There is a typing mistake in it, or it is cut short. */
  | "mistyped"
  /** It is something else. */
  | "not-an-invitation"
  /** A newer version of this program has made it. */
  | "newer";

/** A text is not an invitation that can be used. The message has no part of it: it may be a secret. */
export class InvitationError extends Failure {
  override readonly name = "InvitationError";

  constructor(readonly problem: InvitationProblem, message: string, hint: string) {
    super(message, { hint, exitStatus: 2 });
  }
}

/** Returns a new secret. */
export function newInvitationSecret(): Uint8Array<ArrayBuffer> {
  return crypto.getRandomValues(new Uint8Array(SECRET_BYTES));
}

/** Returns the SHA-256 of a secret in hex, by which the listener knows it. */
export function hashOfSecret(secret: Uint8Array): string {
  return createHash("sha256").update(secret).digest("hex");
}

/**
 * Returns the relay for the invitations of a repository: the one at which its listener is, unless that is iroh's.
 *
 * @param named URLs of relays in the repository's address.
 */
export function inviterRelay(setting: RelaySetting, named: readonly string[]): string | undefined {
  if (setting.kind !== "custom") return undefined;
  return homeRelay(setting, named)?.home ?? setting.urls[0];
}

/** Returns the text of an invitation, in one line. */
export function encodeInvitation({ publicKey, secret, relay }: Invitation): string {
  const url = new TextEncoder().encode(relay ?? "");
  const content = Uint8Array.from([VERSION, ...publicKey, ...secret, ...url]);
  const bytes = Uint8Array.from([...content, ...checksumOf(content)]);
  return INVITATION_PREFIX + base32crockford.encode(bytes).toLowerCase();
}

/**
 * Reads an invitation. Case, spaces, line breaks and hyphens do not matter, nor does O for 0, nor I or L for 1.
 *
 * @throws {InvitationError}
 */
export function decodeInvitation(text: string): Invitation {
  const letters = text.length <= MAX_CHARACTERS ? lettersOf(text) : "";
  if (!letters.startsWith(PREFIX)) {
    throw differsByOneMistake(letters) ? mistyped() : notAnInvitation(text);
  }
  const bytes = bytesOf(letters.slice(PREFIX.length));
  const content = bytes && contentOf(bytes);
  if (!content) throw mistyped();
  if (content[0]! > VERSION) {
    throw new InvitationError(
      "newer",
      "a newer version of git-annex-p2p-iroh has made this invitation",
      "update git-annex-p2p-iroh here",
    );
  }
  const invitation = invitationOf(content);
  if (!invitation) throw mistyped();
  return invitation;
}

/** Tells whether a text is only the begin of an invitation, such as the first of the lines in which mail has broken it. */
export function isCutShort(text: string): boolean {
  const letters = lettersOf(text);
  return letters.startsWith(PREFIX) &&
    letters.length < PREFIX.length + Math.ceil(FIXED_BYTES * 8 / 5);
}

/** Reads what is before the checksum. @returns Undefined if it is no invitation of this version. */
function invitationOf(content: Uint8Array): Invitation | undefined {
  if (content[0] !== VERSION) return undefined;
  const secretAt = VERSION_BYTES + PUBLIC_KEY_BYTES, relayAt = secretAt + SECRET_BYTES;
  const relay = parseRelayUrl(new TextDecoder().decode(content.subarray(relayAt)));
  if (!relay && content.length > relayAt) return undefined;
  return {
    publicKey: content.slice(VERSION_BYTES, secretAt),
    secret: content.slice(secretAt, relayAt),
    relay,
  };
}

/** Returns the letters and digits of a text in one form each. */
function lettersOf(text: string): string {
  return text.replace(IGNORED, "").toLowerCase().replaceAll("o", "0").replace(/[il]/g, "1");
}

/** Returns the bytes of base32; undefined if it is none. */
function bytesOf(letters: string): Uint8Array | undefined {
  try {
    return base32crockford.decode(letters.toUpperCase());
  } catch {
    return undefined;
  }
}

/** Tells whether a text begins with the prefix but for a letter that is wrong, missing, added or swapped. */
function differsByOneMistake(letters: string): boolean {
  let same = 0;
  while (letters[same] === PREFIX[same]) same++;
  const [text, prefix] = [letters.slice(same), PREFIX.slice(same)];
  return text.slice(1).startsWith(prefix.slice(1)) || text.startsWith(prefix.slice(1)) ||
    text.slice(1).startsWith(prefix) ||
    (text[0] === prefix[1] && text[1] === prefix[0] && text.slice(2).startsWith(prefix.slice(2)));
}

/** Returns what is before the checksum; undefined if that is wrong. */
function contentOf(bytes: Uint8Array): Uint8Array | undefined {
  if (bytes.length < FIXED_BYTES) return undefined;
  const content = bytes.subarray(0, -CHECKSUM_BYTES), given = bytes.subarray(-CHECKSUM_BYTES);
  return checksumOf(content).every((byte, i) => byte === given[i]) ? content : undefined;
}

function checksumOf(content: Uint8Array): Uint8Array {
  return createHash("sha256").update(content).digest().subarray(0, CHECKSUM_BYTES);
}

function mistyped(): InvitationError {
  return new InvitationError(
    "mistyped",
    "there is a typing mistake in the invitation, or a part of it is missing",
    "copy it again, as a whole",
  );
}

function notAnInvitation(text: string): InvitationError {
  const isAddress = /^\s*(endpoint|p2p-annex::)/i.test(text);
  return new InvitationError(
    "not-an-invitation",
    isAddress ? "that is an address, and not an invitation" : "that is not an invitation",
    `an invitation begins with ${INVITATION_PREFIX}, and the other side gets one with git-annex-p2p-iroh invite`,
  );
}
