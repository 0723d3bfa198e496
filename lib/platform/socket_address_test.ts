import assert from "node:assert/strict";
import fc from "fast-check";
import {
  networkOf,
  parseSocketAddress,
  socketAddress,
  splitSocketAddress,
  withAnyPort,
} from "./socket_address.ts";

Deno.test("parseSocketAddress() accepts every IPv4 and IPv6 address with a port", () => {
  const hosts = fc.oneof(fc.ipV4(), fc.ipV6().map((ip) => `[${ip}]`));
  fc.assert(fc.property(hosts, fc.nat(0xffff), (host, port) => {
    assert.equal(parseSocketAddress(`${host}:${port}`), `${host}:${port}`);
  }));
  fc.assert(fc.property(fc.string(), (text) => {
    const parsed = parseSocketAddress(text);
    assert(parsed === undefined || parsed === text);
  }));
});

Deno.test("socketAddress() is the inverse of splitSocketAddress()", () => {
  fc.assert(fc.property(fc.oneof(fc.ipV4(), fc.ipV6()), fc.nat(0xffff), (host, port) => {
    assert.deepEqual(splitSocketAddress(socketAddress(host, port)), { host, port });
  }));
});

Deno.test("withAnyPort() keeps the IP address", () => {
  assert.equal(withAnyPort("127.0.0.1:7777"), "127.0.0.1:0");
  assert.equal(withAnyPort("[::1]:7777"), "[::1]:0");
});

Deno.test("networkOf() keeps an IPv4 address, and 64 bits of an IPv6 address however it is written", () => {
  fc.assert(fc.property(fc.ipV4(), (host) => {
    assert.equal(networkOf(host), host);
    assert.equal(networkOf(`::ffff:${host}`), host);
  }));
  const groups = fc.array(fc.constantFrom(0, 0, 1, 0xabc, 0xffff), { minLength: 8, maxLength: 8 });
  fc.assert(fc.property(groups, (groups) => {
    const long = groups.map((group) => group.toString(16)).join(":");
    const short = new URL(`http://[${long}]`).hostname.slice(1, -1);
    const network = `${groups.slice(0, 4).map((group) => group.toString(16)).join(":")}::/64`;
    for (const host of [long, short, `${short}%eth0`]) assert.equal(networkOf(host), network);
  }));
  assert.equal(networkOf("64:ff9b::192.0.2.1"), "64:ff9b:0:0::/64");
});
