import assert from "node:assert/strict";
import { base32crockford } from "@scure/base";
import { createHash } from "node:crypto";
import fc from "fast-check";
import { parseRelayUrl } from "../repository/settings.ts";
import {
  decodeInvitation,
  encodeInvitation,
  hashOfSecret,
  type Invitation,
  INVITATION_PREFIX,
  InvitationError,
  type InvitationProblem,
  inviterRelay,
  isCutShort,
  newInvitationSecret,
} from "./invitation.ts";

/** The same inputs in each run of the tests; `deno task fuzz` tries random ones. */
const SEED = { seed: 21 };

const bytes = (length: number) => fc.uint8Array({ minLength: length, maxLength: length });
const relays = fc.oneof(
  fc.constant(undefined),
  fc.webUrl({ validSchemes: ["http", "https"] }).map(parseRelayUrl),
);
const invitations: fc.Arbitrary<Invitation> = fc.record({
  publicKey: bytes(32),
  secret: bytes(16),
  relay: relays,
}, { noNullPrototype: true });

/** Returns what is wrong with a text; undefined if it is an invitation. */
function problemOf(text: string): InvitationProblem | undefined {
  try {
    decodeInvitation(text);
    return undefined;
  } catch (error) {
    assert(error instanceof InvitationError, `${error}`);
    assert.equal(error.exitStatus, 2);
    return error.problem;
  }
}

/** Returns an invitation with other bytes before a checksum that is right. */
function withContent(content: Uint8Array): string {
  const checksum = createHash("sha256").update(content).digest().subarray(0, 4);
  const text = base32crockford.encode(Uint8Array.from([...content, ...checksum]));
  return INVITATION_PREFIX + text.toLowerCase();
}

Deno.test("decodeInvitation() returns what encodeInvitation() was given", () => {
  fc.assert(
    fc.property(invitations, (invitation) => {
      const text = encodeInvitation(invitation);
      assert.match(text, /^annexinvite[0-9a-hjkmnp-tv-z]+$/);
      assert.deepEqual(decodeInvitation(text), invitation);
    }),
    SEED,
  );
});

Deno.test("an invitation has at most 100 characters, and 1.6 more for each byte of its relay", () => {
  fc.assert(
    fc.property(invitations, (invitation) => {
      const relayBytes = new TextEncoder().encode(invitation.relay ?? "").length;
      assert(encodeInvitation(invitation).length <= 100 + 1.6 * relayBytes);
    }),
    SEED,
  );
});

Deno.test("decodeInvitation() takes other case, spaces, line breaks, and letters for digits", () => {
  const looks: Readonly<Record<string, string>> = { "0": "0oO", "1": "1iIlL" };
  const gaps = fc.constantFrom("", "", "", " ", "\n", "\r\n", "\t", "-", "\u00a0", "\u200b");
  fc.assert(
    fc.property(
      invitations,
      fc.array(fc.tuple(fc.nat(), gaps), { minLength: 1 }),
      (invitation, changes) => {
        const text = [...encodeInvitation(invitation)].map((letter, i) => {
          const [choice, gap] = changes[i % changes.length]!;
          const same = looks[letter] ?? letter + letter.toUpperCase();
          return gap + same[choice % same.length];
        }).join("");
        assert.deepEqual(decodeInvitation(` ${text}\n`), invitation);
      },
    ),
    SEED,
  );
});

Deno.test("decodeInvitation() tells one typing mistake as one, wherever it is", () => {
  const letters = [..."abcdefghijklmnopqrstuvwxyz0123456789"];
  fc.assert(
    fc.property(
      invitations,
      fc.constantFrom("replace", "remove", "insert", "swap"),
      fc.nat(),
      fc.constantFrom(...letters),
      (invitation, mistake, place, letter) => {
        const text = encodeInvitation(invitation), at = place % text.length;
        const [before, after] = [text.slice(0, at), text.slice(at)];
        const typed = mistake === "replace"
          ? before + letter + after.slice(1)
          : mistake === "remove"
          ? before + after.slice(1)
          : mistake === "insert"
          ? before + letter + after
          : before + after.slice(1, 2) + after.slice(0, 1) + after.slice(2);
        const isSame = normal(typed) === normal(text);
        assert.equal(problemOf(typed), isSame ? undefined : "mistyped", typed);
      },
    ),
    { ...SEED, numRuns: 1000 },
  );
});

/** Returns a text as it is read: letters that look like a digit are that. */
function normal(text: string): string {
  return text.replaceAll("o", "0").replace(/[il]/g, "1");
}

Deno.test("decodeInvitation() tells an invitation that is cut short as mistyped", () => {
  const text = encodeInvitation({
    publicKey: new Uint8Array(32),
    secret: new Uint8Array(16),
    relay: undefined,
  });
  for (let end = INVITATION_PREFIX.length; end < text.length; end++) {
    assert.equal(problemOf(text.slice(0, end)), "mistyped");
    assert(isCutShort(text.slice(0, end)));
  }
  for (const whole of [text, "hello", ""]) assert(!isCutShort(whole));
});

Deno.test("decodeInvitation() tells what is no invitation, and shows none of it", () => {
  const others = [
    "",
    "hello",
    "7-crossover-clockwork",
    "endpointaaaacaqdaqcqmbyibefawdanbyhraeiscmkbkfqxdamrugy4dupb6aibadaaaaqb2era",
    "p2p-annex::iroh:endpointaaaacaqdaqcqmbyibefawdanbyhraeisc:token",
    "x".repeat(5000),
  ];
  for (const text of others) {
    assert.equal(problemOf(text), "not-an-invitation", text);
    if (text === "") continue;
    assert.throws(() => decodeInvitation(text), ({ message }) => !message.includes(text));
  }
  assert.throws(() => decodeInvitation(others[3]!), /is an address/);
});

Deno.test("decodeInvitation() tells an invitation of a newer version, whatever is in it", () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 2, max: 255 }),
      fc.uint8Array({ minLength: 48 }),
      (version, rest) => {
        assert.equal(problemOf(withContent(Uint8Array.of(version, ...rest))), "newer");
      },
    ),
    SEED,
  );
});

Deno.test("decodeInvitation() takes no relay that is not the URL of one", () => {
  for (const relay of ["ftp://relay.example/", "https://a:b@relay.example/", "relay", "\xff"]) {
    const content = Uint8Array.from([1, ...new Uint8Array(48), ...new TextEncoder().encode(relay)]);
    assert.equal(problemOf(withContent(content)), "mistyped", relay);
  }
});

Deno.test("newInvitationSecret() gives 128 bits, and hashOfSecret() their SHA-256", () => {
  assert.equal(newInvitationSecret().length, 16);
  assert.notDeepEqual(newInvitationSecret(), newInvitationSecret());
  assert.equal(
    hashOfSecret(new Uint8Array(16)),
    "374708fff7719dd5979ec875d56cd2286f6d3cf7ec317a3b25632aab28ec37bb",
  );
});

Deno.test("inviterRelay() names the relay at which the listener is, unless that is iroh's", () => {
  const [a, b] = ["https://a.example/", "https://b.example/"];
  assert.equal(inviterRelay({ kind: "n0" }, [a]), undefined);
  assert.equal(inviterRelay({ kind: "none" }, [a]), undefined);
  assert.equal(inviterRelay({ kind: "custom", urls: [a] }, [b]), a);
  assert.equal(inviterRelay({ kind: "custom", urls: [a, b] }, []), a);
  assert.equal(inviterRelay({ kind: "custom", urls: [a, b] }, [b]), b);
});
