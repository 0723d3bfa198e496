import assert from "node:assert/strict";
import dnsPacket from "dns-packet";
import fc from "fast-check";
import {
  addressesOf,
  announcement,
  type DnsPacket,
  type DnsRecord,
  goodbye,
  isQuery,
  isQueryFor,
  othersAnnounced,
  queryFor,
} from "./mdns_records.ts";

const KEY = new Uint8Array(32).map((_, i) => i);
const LABEL = "aaaqeayeaudaocajbifqydiob4ibceqtcqkrmfyydenbwha5dypq"; // KEY in base32
const IN = 1, PTR = 12, A = 1, AAAA = 28, SRV = 33, TXT = 16;

/** Encodes a packet byte by byte, as the format is described, without a DNS library. */
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

Deno.test("addressesOf reads the addresses that iroh announces", () => {
  assert.deepEqual(addressesOf(KEY, decode(bytesOf(byIroh))), there);
});

Deno.test("addressesOf accepts a TTL of 0 and capitals, as older versions send", () => {
  const answers = byIroh.answers!.map((rr) => ({ ...rr, ttl: 0, name: rr.name.toUpperCase() }));
  assert.deepEqual(addressesOf(KEY, decode(bytesOf({ ...byIroh, answers }))), there);
});

Deno.test("addressesOf ignores records of other keys, and records in the wrong section", () => {
  const read = (packet: Parameters<typeof bytesOf>[0], key = KEY) =>
    addressesOf(key, decode(bytesOf(packet)));
  assert.deepEqual(read(byIroh, new Uint8Array(32)), []);
  // A packet with a question is only that question.
  assert.deepEqual(read({ ...byIroh, questions: [["_irohv1._udp.local", PTR]] }), []);
  // Addresses among the answers, records of another class, port 0.
  assert.deepEqual(
    read({ answers: [...byIroh.answers!, ...byIroh.additionals!], additionals: [] }),
    [],
  );
  const flushed = byIroh.answers!.map((rr) => ({ ...rr, class_: 3 }));
  assert.deepEqual(read({ ...byIroh, answers: flushed }), []);
  const port0 = [{ name: instance, type: SRV, data: srv(0, `${LABEL}-4711.local`) }];
  assert.deepEqual(read({ ...byIroh, answers: port0 }), []);
});

Deno.test("addressesOf takes at most 16 addresses from one packet", () => {
  const additionals = Array.from({ length: 50 }, (_, i) => ({
    name: `${LABEL}-4711.local`,
    type: A,
    data: [10, 0, 0, i],
  }));
  assert.equal(addressesOf(KEY, decode(bytesOf({ ...byIroh, additionals }))).length, 16);
});

Deno.test("announcement has the records that iroh expects", () => {
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

Deno.test("goodbye is no announcement to iroh", () => {
  const packet = decode(encode(goodbye(KEY)));
  assert.deepEqual(packet.answers!.map(({ type, ttl }) => [type, ttl]), [["PTR", 0]]);
  assert.deepEqual(addressesOf(KEY, packet), []);
});

Deno.test("isQuery accepts iroh's question, also in capitals, and no other", () => {
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

Deno.test("othersAnnounced returns other endpoints, not this one", () => {
  assert.deepEqual(othersAnnounced(KEY, decode(bytesOf(byIroh))), []);
  assert.deepEqual(othersAnnounced(new Uint8Array(32), decode(bytesOf(byIroh))), [instance]);
  assert.deepEqual(othersAnnounced(new Uint8Array(32), decode(encode(goodbye(KEY)))), []);
});

// Captured on a network: iroh-mdns-address-lookup 0.6.1 (swarm-discovery 0.6.5) of iroh 1.4.1.
const CAPTURED_QUERY = "000000000001000000000000075f69726f687631045f756470056c6f63616c00000c0001";
const CAPTURED_KEY = "ea4a6c63e29c520abef5507b132ec5f9954776aebebe7b92421eea691446d22c";
const CAPTURED_ANNOUNCEMENT =
  "000084000000000400000003075f69726f687631045f756470056c6f63616c00000c00010000007800373435" +
  "6a66677979376374726a61767078766b623572676c776637676b756f35766f78323768786573636433766773" +
  "66636732697761c00cc02a0021000100000078004700000000126739356a66677979376374726a6176707876" +
  "6b623572676c776637676b756f35766f78323768786573636433766773666367326977612d34373131056c6f" +
  "63616c00c02a0021000100000078004700000000126839356a66677979376374726a61767078766b62357267" +
  "6c776637676b756f35766f78323768786573636433766773666367326977612d34373132056c6f63616c00c0" +
  "2a0010000100000078002f1c72656c61793d68747470733a2f2f72656c61792e6578616d706c652f11757365" +
  "722d646174613d736f6d656f6e65c073000100010000007800040a000001c07300010001000000780004c0a8" +
  "0709c0c6001c0001000000780010fd000000000000000000000000000009";
const captured = (hex: string) => decode(Uint8Array.fromHex(hex));

Deno.test("packets captured from iroh programs are understood", () => {
  const key = Uint8Array.fromHex(CAPTURED_KEY);
  assert(isQuery(captured(CAPTURED_QUERY)));
  assert(!isQueryFor(key, captured(CAPTURED_QUERY)));
  assert.deepEqual(addressesOf(key, captured(CAPTURED_QUERY)), []);
  const announced = captured(CAPTURED_ANNOUNCEMENT);
  assert(!isQuery(announced));
  const there = ["10.0.0.1:4711", "192.168.7.9:4711", "[fd00::9]:4712"];
  assert.deepEqual(addressesOf(key, announced), there);
  assert.equal(othersAnnounced(KEY, announced).length, 1);
  assert.deepEqual(othersAnnounced(key, announced), []);
});

Deno.test("announcement equals that of iroh programs, except for the TXT record", () => {
  const key = Uint8Array.fromHex(CAPTURED_KEY), theirs = captured(CAPTURED_ANNOUNCEMENT);
  const ours = decode(encode(announcement(key, addressesOf(key, theirs))));
  const whole = ({ name, type, class: class_, ttl, data }: DnsRecord) => ({
    name,
    type,
    class: class_,
    ttl,
    data,
  });
  const without = (records: readonly DnsRecord[] = []) =>
    records.filter(({ type }) => type !== "TXT").map(whole);
  assert.deepEqual(without(ours.answers), without(theirs.answers));
  assert.deepEqual(without(ours.additionals), without(theirs.additionals));
});

Deno.test("property: addressesOf returns what announcement contains, for any key, addresses and ports", () => {
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

Deno.test("property: reading a damaged packet does not throw", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 300 }), fc.nat(400), (noise, at) => {
      const bytes = bytesOf(byIroh);
      bytes.set(noise.subarray(0, Math.max(bytes.length - at, 0)), Math.min(at, bytes.length));
      let packet: DnsPacket;
      try {
        packet = decode(bytes);
      } catch {
        return; // multicast-dns emits a warning
      }
      isQuery(packet);
      for (const address of addressesOf(KEY, packet)) assert.match(address, /:\d+$/);
    }),
    { numRuns: 500 },
  );
});
