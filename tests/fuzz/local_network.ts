/** Random packets from the local network, for a listener that announces itself and for a dialer that searches. */

import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import dnsPacket from "dns-packet";
import fc from "fast-check";
import { MdnsBrowser, type MdnsOptions, MdnsResponder } from "../../lib/discovery/mdns.ts";
import {
  announcement,
  type DnsPacket,
  goodbye,
  queryFor,
} from "../../lib/discovery/mdns_records.ts";
import type { MulticastOptions } from "../../lib/discovery/mdns_sockets.ts";
import { parseSocketAddress } from "../../lib/platform/socket_address.ts";
import { damaged, type FuzzTarget } from "./target.ts";

const KEYS = [new Uint8Array(32), new Uint8Array(32).fill(9)] as const;
/** The part of dns-packet that is used here; the package has no types. */
const dns = dnsPacket as unknown as {
  encode(packet: object): Uint8Array;
  decode(bytes: Buffer): DnsPacket;
};

const key = fc.constantFrom(...KEYS);
const address = fc.oneof(
  fc.tuple(fc.ipV4(), fc.nat(0xffff)).map(([host, port]) => `${host}:${port}`),
  fc.tuple(fc.ipV6(), fc.nat(0xffff)).map(([host, port]) => `[${host}]:${port}`),
  fc.tuple(fc.nat(255), fc.constantFrom(0, 4433)).map(([host, port]) =>
    `192.168.7.${host}:${port}`
  ),
);
const packet = fc.oneof(
  key.map(queryFor),
  key.map(goodbye),
  fc.tuple(key, fc.array(address, { maxLength: 20 })).map(([key, all]) => announcement(key, all)),
  fc.tuple(key, key, fc.array(address, { maxLength: 3 })).map(([asked, key, all]) => ({
    ...announcement(key, all),
    ...queryFor(asked),
  })),
  fc.tuple(key, fc.string({ unit: "binary", maxLength: 40 })).map(([key, text]) => ({
    ...announcement(key, ["192.168.7.1:1"]),
    answers: [{ type: "TXT", name: "_irohv1._udp.local", data: [text] }],
  })),
);
const packets = fc.array(
  fc.record({
    bytes: damaged(packet.map((packet) => dns.encode({ type: "response", ...packet }))),
    from: fc.oneof(fc.nat(255).map((host) => `192.168.7.${host}`), fc.ipV4(), fc.ipV6()),
  }),
  { maxLength: 80 },
);

/** A network in memory. What is sent must be a packet that can be encoded. */
class FakeNetwork {
  #members: MulticastOptions[] = [];
  readonly options: MdnsOptions = {
    join: (options) => {
      this.#members.push(options);
      return {
        query: (packet) => void dns.encode(packet),
        respond: async (packetFor) => {
          await Promise.resolve();
          const addresses = ["192.168.7.2", "fd00::2"];
          const made = packetFor({
            name: "eth0",
            scope: "eth0",
            addresses,
            networks: [],
            ipv6: "fd00::2",
          });
          if (made) assert(dns.encode({ type: "response", ...made }).length <= 1472);
        },
        [Symbol.dispose]() {},
      };
    },
    localNetwork: () => (address) => address.startsWith("192.168.7."),
    announceIntervalMs: 0,
    repeatAfterMs: 0,
    goodbyeTimeoutMs: 100,
  };

  /** Gives a packet to all members, as the socket does: one that cannot be decoded is dropped. */
  receive(bytes: Uint8Array, from: string): void {
    let packet: DnsPacket;
    try {
      packet = dns.decode(Buffer.from(bytes));
    } catch {
      return; // multicast-dns drops it, too
    }
    for (const member of this.#members) member.received(packet, from);
  }
}

const mdns = fc.asyncProperty(packets, async (packets) => {
  const network = new FakeNetwork();
  await using _responder = new MdnsResponder(KEYS[0], ["0.0.0.0:1", "[::]:2"], network.options);
  using browser = new MdnsBrowser(KEYS[1], network.options);
  for (const { bytes, from } of packets) network.receive(bytes, from);
  let hints = 0;
  for (let hint; (hint = browser.next()) !== undefined; hints++) {
    assert.equal(parseSocketAddress(hint), hint);
    assert(hint.startsWith("192.168.7.") && !hint.endsWith(":0"), hint);
  }
  assert(hints <= 64 * 8);
});

export const localNetworkTargets: readonly FuzzTarget[] = [
  { name: "mdns", property: mdns, inputs: 50 },
];
