import assert from "node:assert/strict";
import iroh from "@number0/iroh";
import { base32nopad } from "@scure/base";
import fc from "fast-check";
import { publicKeyOf } from "./identity.ts";
import { decodeTicket, encodeTicket, type Ticket, TicketError } from "./ticket.ts";

const publicKeys = fc.uint8Array({ minLength: 32, maxLength: 32 }).map(publicKeyOf);
const relays = fc.webUrl({ validSchemes: ["http", "https"] }).map((url) => new URL(url).href);
const direct = fc.tuple(fc.oneof(fc.ipV4(), fc.ipV6().map((ip) => `[${ip}]`)), fc.nat(0xffff))
  .map(([host, port]) => `${new URL(`http://${host}`).hostname}:${port}`);

/** Returns a ticket that iroh itself encodes. */
function irohTicket(publicKey: Uint8Array, relay: string | undefined, direct: string[]): string {
  const id = iroh.EndpointId.fromBytes([...publicKey]);
  return iroh.EndpointTicket.fromAddr(new iroh.EndpointAddr(id, relay, direct)).toString();
}

function irohAccepts(text: string): boolean {
  try {
    iroh.EndpointTicket.fromString(text);
    return true;
  } catch {
    return false;
  }
}

function accepts(text: string): Ticket | TicketError {
  try {
    return decodeTicket(text);
  } catch (error) {
    assert(error instanceof TicketError, `not a TicketError: ${error}`);
    return error;
  }
}

Deno.test("encodeTicket() encodes as iroh does", () => {
  fc.assert(fc.property(publicKeys, fc.option(relays, { nil: undefined }), (publicKey, relay) => {
    const ours = encodeTicket({ publicKey, relays: relay ? [relay] : [] });
    assert.equal(ours, irohTicket(publicKey, relay, []));
  }));
});

Deno.test("decodeTicket() decodes what iroh encodes", () => {
  fc.assert(
    fc.property(
      publicKeys,
      fc.option(relays, { nil: undefined }),
      fc.array(direct),
      (key, relay, ips) => {
        const ticket = decodeTicket(irohTicket(key, relay, ips));
        assert.deepEqual(ticket.publicKey, key);
        assert.deepEqual(ticket.relays, relay ? [relay] : []);
        assert.deepEqual(new Set(ticket.direct), new Set(ips));
      },
    ),
  );
});

Deno.test("decodeTicket() accepts what iroh accepts, and refuses what iroh refuses", () => {
  const letters = fc.constantFrom(..."abcdefghijklmnopqrstuvwxyz234567018=A");
  const edits = fc.array(fc.tuple(fc.nat(), letters), { maxLength: 3 });
  let accepted = 0, refused = 0;
  fc.assert(
    fc.property(
      publicKeys,
      fc.option(relays, { nil: undefined }),
      fc.array(direct, { maxLength: 3 }),
      edits,
      fc.nat(8),
      (key, relay, ips, edits, cut) => {
        const letters = [...irohTicket(key, relay, ips)];
        // The edits are behind the key, since only iroh checks that it is a point of the curve.
        const first = "endpoint".length + Math.ceil(33 * 8 / 5);
        for (const [at, letter] of edits) {
          letters[first + at % (letters.length - first)] = letter;
        }
        const text = letters.join("").slice(0, letters.length - cut);
        const ours = accepts(text);
        // The form of the third kind of address depends on the version of iroh.
        fc.pre(!(ours instanceof TicketError && /unknown kind of address/.test(ours.message)));
        ours instanceof TicketError ? refused++ : accepted++;
        assert.equal(!(ours instanceof TicketError), irohAccepts(text), text);
      },
    ),
    { numRuns: 2000 },
  );
  assert(
    accepted > 100 && refused > 100,
    `${accepted} accepted, ${refused} refused: one side is not tested`,
  );
});

Deno.test("decodeTicket() throws no other error than a TicketError", () => {
  fc.assert(fc.property(fc.string(), (text) => void accepts(`endpoint${text}`)));
  fc.assert(fc.property(fc.string({ unit: "binary" }), (text) => void accepts(text)));
});

Deno.test("decodeTicket() says why a text is not an address", () => {
  const ticket = encodeTicket({ publicKey: publicKeyOf(new Uint8Array(32)), relays: [] });
  const cases: [text: string, says: RegExp][] = [
    ["", /"" is not an address/],
    ["hello", /"hello" is not an address/],
    [ticket.toUpperCase(), /is not an address/],
    [`blob${"a".repeat(60)}`, /is a blob ticket, not an address/],
    [ticket.replace("endpoint", "node"), /is a node ticket, not an address/],
    ["endpointaaaaaaaaaaaaaaaa", /is damaged, cut short/],
    [ticket.replace(/.$/, "1"), /is damaged, not base32/],
    ["endpoint" + "a".repeat(5000), /is too long/],
    [`evil\x1b[2J\n${ticket}`, /"evil \[2J endpoint/],
  ];
  for (const [text, says] of cases) {
    assert.throws(() => decodeTicket(text), (error: TicketError) => {
      assert.match(error.message, says);
      assert.match(error.hint!, /git-annex-p2p-iroh address/);
      assert.equal(error.exitStatus, 2);
      return true;
    });
  }
});

Deno.test("decodeTicket() uses 8 relays that are http or https, and 32 socket addresses", () => {
  const bytes = [0, ...new Uint8Array(32), 10 + 2 + 40];
  const addRelay = (url: string) => bytes.push(0, url.length, ...new TextEncoder().encode(url));
  addRelay("ws://relay.example/");
  for (let i = 0; i < 10; i++) addRelay(`${i % 2 ? "http" : "https"}://relay${i}.example/`);
  addRelay("file:///etc/passwd");
  for (let i = 0; i < 40; i++) bytes.push(1, 0, 192, 0, 2, i, 7);
  const text = base32nopad.encode(Uint8Array.from(bytes)).toLowerCase();
  const ticket = decodeTicket(`endpoint${text}`);
  assert.deepEqual(
    ticket.relays,
    Array.from({ length: 8 }, (_, i) => `${i % 2 ? "http" : "https"}://relay${i}.example/`),
  );
  assert.deepEqual(ticket.direct, Array.from({ length: 32 }, (_, i) => `192.0.2.${i}:7`));
});
