import assert from "node:assert/strict";
import dnsPacket from "dns-packet";
import fc from "fast-check";
import {
  addressesOf,
  announcement,
  type DnsPacket,
  type DnsRecord,
  goodbye,
  isAnnouncementOfAnother,
  isQuery,
  isQueryFor,
  queryFor,
} from "./mdns_records.ts";

const KEY = new Uint8Array(32).map((_, i) => i);
const LABEL = "aaaqeayeaudaocajbifqydiob4ibceqtcqkrmfyydenbwha5dypq"; // KEY in base32
const IN = 1, PTR = 12, A = 1, AAAA = 28, SRV = 33, TXT = 16;

/** Packets as the description of the format has them, byte by byte and without a DNS library. */
function bytesOf(
  { flags = 0x8400, questions = [], answers = [], additionals = [] }: {
    flags?: number;
    questions?: [name: string, type: number, class_?: number][];
    answers?: Rr[];
    additionals?: Rr[];
  },
): Uint8Array {
  const bytes: number[] = [0, 0, ...u16(flags)];
  bytes.push(...u16(questions.length), ...u16(answers.length), 0, 0, ...u16(additionals.length));
  for (const [name, type, class_ = IN] of questions) {
    bytes.push(...nameBytes(name), ...u16(type), ...u16(class_));
  }
  for (const { name, type, data, class_ = IN, ttl = 120 } of [...answers, ...additionals]) {
    bytes.push(...nameBytes(name), ...u16(type), ...u16(class_), 0, 0, ...u16(ttl));
    bytes.push(...u16(data.length), ...data);
  }
  return Uint8Array.from(bytes);
}

interface Rr {
  name: string;
  type: number;
  data: number[];
  class_?: number;
  ttl?: number;
}

const u16 = (value: number) => [value >> 8, value & 0xff];

function nameBytes(name: string): number[] {
  const labels = name.split(".").map((label) => [...new TextEncoder().encode(label)]);
  return [...labels.flatMap((label) => [label.length, ...label]), 0];
}

const srv = (port: number, target: string) => [0, 0, 0, 0, ...u16(port), ...nameBytes(target)];
const decode = (bytes: Uint8Array) => dnsPacket.decode(Buffer.from(bytes)) as DnsPacket;
const encode = (packet: DnsPacket) =>
  dnsPacket.encode({ type: "response", flags: 0x400, ...packet });

const essence = ({ name, type, data }: DnsRecord) => [name, type, data];

const instance = `${LABEL}._irohv1._udp.local`;
const byIroh: Parameters<typeof bytesOf>[0] = {
  answers: [
    { name: "_irohv1._udp.local", type: PTR, data: nameBytes(instance) },
    { name: instance, type: SRV, data: srv(4711, `${LABEL}-4711.local`) },
    { name: instance, type: SRV, data: srv(4712, `${LABEL}-4712.local`) },
    { name: instance, type: TXT, data: [6, ...new TextEncoder().encode("relay=")] },
  ],
  additionals: [
    { name: `${LABEL}-4711.local`, type: A, data: [192, 168, 7, 9] },
    { name: `${LABEL}-4711.local`, type: A, data: [10, 0, 0, 1] },
    {
      name: `${LABEL}-4712.local`,
      type: AAAA,
      data: [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9],
    },
  ],
};
const there = ["192.168.7.9:4711", "10.0.0.1:4711", "[fd00::9]:4712"];

Deno.test("addressesOf reads what iroh says of an endpoint", () => {
  assert.deepEqual(addressesOf(KEY, decode(bytesOf(byIroh))), there);
});

Deno.test("addressesOf takes a TTL of 0 and capitals for what older versions mean by them", () => {
  const answers = byIroh.answers!.map((rr) => ({ ...rr, ttl: 0, name: rr.name.toUpperCase() }));
  assert.deepEqual(addressesOf(KEY, decode(bytesOf({ ...byIroh, answers }))), there);
});

Deno.test("addressesOf takes nothing that is not said of this key, or not in the right place", () => {
  const said = (packet: Parameters<typeof bytesOf>[0], key = KEY) =>
    addressesOf(key, decode(bytesOf(packet)));
  assert.deepEqual(said(byIroh, new Uint8Array(32)), []);
  // With a question it counts as that question.
  assert.deepEqual(said({ ...byIroh, questions: [["_irohv1._udp.local", PTR]] }), []);
  // Addresses among the answers, records of another class, port 0.
  assert.deepEqual(
    said({ answers: [...byIroh.answers!, ...byIroh.additionals!], additionals: [] }),
    [],
  );
  const flushed = byIroh.answers!.map((rr) => ({ ...rr, class_: 3 }));
  assert.deepEqual(said({ ...byIroh, answers: flushed }), []);
  const port0 = [{ name: instance, type: SRV, data: srv(0, `${LABEL}-4711.local`) }];
  assert.deepEqual(said({ ...byIroh, answers: port0 }), []);
});

Deno.test("addressesOf takes at most 16 addresses from one packet", () => {
  const additionals = Array.from({ length: 50 }, (_, i) => ({
    name: `${LABEL}-4711.local`,
    type: A,
    data: [10, 0, 0, i],
  }));
  assert.equal(addressesOf(KEY, decode(bytesOf({ ...byIroh, additionals }))).length, 16);
});

Deno.test("announcement has the bytes that iroh expects", () => {
  const packet = dnsPacket.decode(
    encode(announcement(KEY, ["192.168.7.9:4711", "[fd00::9]:4712"])),
  );
  assert.deepEqual(packet.answers!.map(essence), [
    ["_irohv1._udp.local", "PTR", instance],
    [instance, "SRV", { priority: 0, weight: 0, port: 4711, target: `${LABEL}-4711.local` }],
    [instance, "SRV", { priority: 0, weight: 0, port: 4712, target: `${LABEL}-4712.local` }],
  ]);
  assert.deepEqual(
    packet.additionals!.map(essence),
    [[`${LABEL}-4711.local`, "A", "192.168.7.9"], [`${LABEL}-4712.local`, "AAAA", "fd00::9"]],
  );
  for (const record of [...packet.answers!, ...packet.additionals!]) {
    assert.deepEqual([record.flush, record.class, record.ttl], [false, "IN", 120]);
  }
  assert.equal(packet.flag_aa, true);
  assert.equal(packet.id, 0);
});

Deno.test("goodbye says nothing that iroh takes for an announcement", () => {
  const packet = decode(encode(goodbye(KEY)));
  assert.deepEqual(packet.answers!.map(({ type, ttl }) => [type, ttl]), [["PTR", 0]]);
  assert.deepEqual(addressesOf(KEY, packet), []);
});

Deno.test("isQuery knows iroh's question, in capitals too, and no other", () => {
  const asked = (...question: [string, number, number?]) =>
    isQuery(decode(bytesOf({ flags: 0, questions: [question] })));
  assert(asked("_irohv1._udp.local", PTR));
  assert(asked("_IROHV1._UDP.LOCAL", PTR));
  assert(!asked("_irohv1._udp.local", PTR, 3));
  assert(!asked("_irohv1._udp.local", SRV));
  assert(!asked("_http._tcp.local", PTR));
  const query = decode(encode(queryFor(KEY)));
  assert(isQuery(query));
  assert(isQueryFor(KEY, query));
  assert(!isQueryFor(new Uint8Array(32), query));
  assert(!isQueryFor(KEY, decode(bytesOf({ flags: 0, questions: [["_irohv1._udp.local", PTR]] }))));
});

Deno.test("isAnnouncementOfAnother knows other endpoints from one's own", () => {
  assert(!isAnnouncementOfAnother(KEY, decode(bytesOf(byIroh))));
  assert(isAnnouncementOfAnother(new Uint8Array(32), decode(bytesOf(byIroh))));
  assert(!isAnnouncementOfAnother(new Uint8Array(32), decode(encode(goodbye(KEY)))));
});

Deno.test("property: what is announced is what is found, for any key, addresses and ports", () => {
  const port = fc.integer({ min: 1, max: 0xffff });
  const address = fc.oneof(
    fc.tuple(fc.ipV4(), port).map(([host, port]) => `${host}:${port}`),
    fc.tuple(fc.ipV6(), port).map(([host, port]) =>
      `[${new URL(`http://[${host}]`).hostname.slice(1, -1)}]:${port}`
    ),
  );
  const key = fc.uint8Array({ minLength: 32, maxLength: 32 });
  fc.assert(
    fc.property(key, fc.uniqueArray(address, { minLength: 1, maxLength: 8 }), (key, addresses) => {
      const packet = decode(encode(announcement(key, addresses)));
      const found = addressesOf(key, packet).map((found) => normal(found));
      assert.deepEqual(found.toSorted(), addresses.map(normal).toSorted());
    }),
  );
});

function normal(address: string): string {
  return new URL(`http://${address}`).host + address.slice(address.lastIndexOf(":"));
}

Deno.test("property: whatever is in a packet, reading it does not throw", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 300 }), fc.nat(400), (noise, at) => {
      const bytes = bytesOf(byIroh);
      bytes.set(noise.subarray(0, Math.max(bytes.length - at, 0)), Math.min(at, bytes.length));
      let packet: DnsPacket;
      try {
        packet = decode(bytes);
      } catch {
        return; // multicast-dns makes a warning of it
      }
      isQuery(packet);
      for (const address of addressesOf(KEY, packet)) assert.match(address, /:\d+$/);
    }),
    { numRuns: 500 },
  );
});
