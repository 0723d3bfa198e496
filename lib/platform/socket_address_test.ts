import assert from "node:assert/strict";
import fc from "fast-check";
import {
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
