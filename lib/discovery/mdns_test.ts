import assert from "node:assert/strict";
import { eventLoopTurns } from "../../tests/event_loop.ts";
import type { Interface } from "../platform/network_interfaces.ts";
import { MdnsBrowser, MdnsResponder } from "./mdns.ts";
import {
  addressesOf,
  announcement,
  type DnsPacket,
  goodbye,
  isQuery,
  isQueryFor,
  queryFor,
} from "./mdns_records.ts";
import type { IpVersion, MulticastOptions } from "./mdns_sockets.ts";

const KEY = new Uint8Array(32).fill(7);
const SOCKETS = ["0.0.0.0:4711", "[::]:4712"];
const SERVICE_QUERY: DnsPacket = { questions: queryFor(KEY).questions!.slice(1) };
const ETH0: Interface = {
  name: "eth0",
  scope: "eth0",
  addresses: ["10.0.0.1"],
  networks: ["10.0.0.0/24"],
  ipv6: "fe80::1%eth0",
};
/** The announcement of `SOCKETS` on `ETH0`. */
const ANNOUNCED = ["10.0.0.1:4711"];
const NOT_SOON = { announceIntervalMs: 0, repeatAfterMs: 60_000 };

/** A multicast group on one interface, where the test is the other hosts. */
class FakeGroup implements Disposable {
  /** Addresses in each announcement. A goodbye has none. */
  readonly announced: string[][] = [];
  readonly versions: (IpVersion | undefined)[] = [];
  readonly queries: DnsPacket[] = [];
  isLeft = false;
  /** What becomes of a packet that is sent. */
  sending: Promise<void> = Promise.resolve();
  #options: MulticastOptions | undefined;

  readonly join = (options: MulticastOptions): FakeGroup => {
    this.#options = options;
    return this;
  };

  comeUp(): void {
    this.#options!.joined(ETH0);
  }

  send(packet: DnsPacket, from = "10.0.0.2"): void {
    this.#options!.received(packet, from);
  }

  query(packet: DnsPacket): void {
    this.queries.push(packet);
  }

  respond(
    packetFor: (networkInterface: Interface) => DnsPacket | undefined,
    version?: IpVersion,
  ): Promise<void> {
    const packet = packetFor(ETH0);
    if (packet) {
      this.announced.push(addressesOf(KEY, packet));
      this.versions.push(version);
    }
    return this.sending;
  }

  [Symbol.dispose](): void {
    this.isLeft = true;
  }

  async announcements(count: number): Promise<void> {
    while (this.announced.length < count) await eventLoopTurns(1);
  }
}

/** The announcement of another endpoint. */
function ofOther(byte: number): DnsPacket {
  return announcement(new Uint8Array(32).fill(byte), ["10.0.0.9:9"]);
}

Deno.test("MdnsResponder announces twice when an interface comes up, and says goodbye", async () => {
  const group = new FakeGroup();
  {
    await using _ = new MdnsResponder(KEY, SOCKETS, {
      join: group.join,
      announceIntervalMs: 0,
      repeatAfterMs: 5,
    });
    group.comeUp();
    await group.announcements(2);
    assert.deepEqual(group.announced, [ANNOUNCED, ANNOUNCED]);
    assert.deepEqual(group.versions, [undefined, undefined]); // IPv4 and IPv6
  }
  assert.deepEqual(group.announced.slice(2), [[]]);
  assert(group.isLeft);
});

Deno.test("MdnsResponder answers a query for its endpoint at once, many with one answer", async () => {
  const group = new FakeGroup();
  await using _ = new MdnsResponder(KEY, SOCKETS, { join: group.join, ...NOT_SOON });
  for (let i = 0; i < 10; i++) group.send(queryFor(KEY));
  await group.announcements(1);
  assert.deepEqual(group.announced, [ANNOUNCED]);
});

Deno.test("MdnsResponder takes a query for another endpoint as one for all", async () => {
  const group = new FakeGroup();
  await using _ = new MdnsResponder(KEY, SOCKETS, { join: group.join, ...NOT_SOON });
  group.send(queryFor(new Uint8Array(32).fill(8)));
  await group.announcements(1);
  assert.deepEqual(group.versions, ["IPv4"]);
});

Deno.test("MdnsResponder keeps the interval between two announcements", async () => {
  const group = new FakeGroup(), announceIntervalMs = 30;
  await using _ = new MdnsResponder(KEY, SOCKETS, { join: group.join, announceIntervalMs });
  const start = performance.now(); // not when the first is seen, which a busy host does late
  group.send(queryFor(KEY));
  await group.announcements(1);
  group.send(queryFor(KEY));
  await group.announcements(2);
  const waited = performance.now() - start;
  assert(waited > announceIntervalMs - 5, `${waited} ms`);
});

Deno.test("MdnsResponder answers a query for all endpoints, in the IP version of the query", async () => {
  const group = new FakeGroup();
  await using _ = new MdnsResponder(KEY, SOCKETS, { join: group.join, ...NOT_SOON });
  group.send(SERVICE_QUERY, "fe80::2%eth0");
  await group.announcements(1);
  assert.deepEqual(group.announced, [ANNOUNCED]);
  assert.deepEqual(group.versions, ["IPv6"]);
});

Deno.test("MdnsResponder leaves a query to two others that have answered it", async () => {
  const group = new FakeGroup();
  await using _ = new MdnsResponder(KEY, SOCKETS, { join: group.join, ...NOT_SOON });
  group.send(SERVICE_QUERY);
  group.send(ofOther(1));
  group.send(ofOther(2));
  group.send(SERVICE_QUERY, "fe80::2%eth0"); // what was said over IPv4 is no answer to it
  await group.announcements(1);
  assert.deepEqual(group.versions, ["IPv6"]);
});

Deno.test("MdnsResponder does not wait for a goodbye that cannot be sent", async () => {
  const group = new FakeGroup();
  const responder = new MdnsResponder(KEY, SOCKETS, { join: group.join, goodbyeTimeoutMs: 5 });
  group.sending = new Promise(() => {});
  await responder[Symbol.asyncDispose]();
  assert(group.isLeft);
});

Deno.test("MdnsBrowser asks when an interface comes up, at its times, and then again and again", async () => {
  const group = new FakeGroup();
  using _ = new MdnsBrowser(KEY, { join: group.join, queryTimesMs: [1, 2], queryIntervalMs: 5 });
  group.comeUp();
  assert.equal(group.queries.length, 1);
  while (group.queries.length < 5) await eventLoopTurns(1);
  for (const packet of group.queries) assert(isQuery(packet) && isQueryFor(KEY, packet));
});

Deno.test("MdnsBrowser stops when it is disposed of", () => {
  const group = new FakeGroup();
  new MdnsBrowser(KEY, { join: group.join })[Symbol.dispose]();
  assert(group.isLeft); // and Deno fails this test if a timer is left
});

Deno.test("MdnsBrowser ignores addresses and senders beyond the local network", () => {
  const group = new FakeGroup();
  const localNetwork = () => (address: string) => /^10\.0\.0\.|^fe80:/.test(address);
  using browser = new MdnsBrowser(KEY, { join: group.join, localNetwork });
  let found = 0;
  browser.onFound(() => found++);
  assert.equal(found, 1); // for what was found before
  group.send(announcement(KEY, ["10.0.0.1:1"]), "192.0.2.2");
  group.send(announcement(KEY, ["192.0.2.1:1", "[fe80::1]:2", "[fd00::1]:3"]));
  group.send(ofOther(1));
  assert.equal(browser.waiting, 0);
  assert.equal(found, 1);
  group.send(announcement(KEY, ["10.0.0.1:1", "192.0.2.1:1"]), "fe80::2%eth0");
  assert.equal(found, 2);
  group.send(announcement(KEY, ["10.0.0.1:1"])); // known already
  assert.equal(found, 2);
  assert.equal(browser.next(), "10.0.0.1:1");
  assert.equal(browser.waiting, 0);
  browser.resetTried();
  assert.equal(browser.next(), "10.0.0.1:1");
});

Deno.test("MdnsResponder tells of each endpoint that is announced, but not of one that says goodbye", async () => {
  const group = new FakeGroup(), heard: string[] = [], other = new Uint8Array(32).fill(8);
  const options = { ...NOT_SOON, join: group.join, heard: (key: string) => heard.push(key) };
  await using _responder = new MdnsResponder(KEY, SOCKETS, options);
  group.send(announcement(other, ANNOUNCED));
  group.send(announcement(KEY, ANNOUNCED));
  group.send(goodbye(other));
  const damaged = announcement(other, ANNOUNCED).answers!.map((answer) => ({
    ...answer,
    name: answer.name.replace(/^\w+(?=\._irohv1)/, "notakey"),
  }));
  group.send({ answers: damaged });
  assert.deepEqual(heard, [other.toHex()]);
});
