import assert from "node:assert/strict";
import * as Iroh from "@number0/iroh";
import { Endpoint, Incoming } from "./endpoint.ts";

/** Returns a connection that is asked for from there. */
function incoming(kind: string, addr: string, isValidated: boolean, endpointId?: string): Incoming {
  return new Incoming({
    remoteAddr: () => Promise.resolve({ kind, addr, endpointId }),
    remoteAddrValidated: () => Promise.resolve(isValidated),
  } as unknown as Iroh.Incoming, {} as Endpoint);
}

Deno.test("Incoming: all addresses of 64 bits of IPv6 are one source", async () => {
  const sources = ["[2001:db8:1:2::1]:7", "[2001:db8:1:2:ffff::9]:8"].map((addr) =>
    incoming("ip", addr, true).source()
  );
  const name = "2001:db8:1:2::/64", source = { name, dialer: name, isProven: true };
  assert.deepEqual(await Promise.all(sources), [source, source]);
});

Deno.test("Incoming: an address is proven if QUIC has validated it, or a relay vouches for it", async () => {
  const unproven = { name: "192.0.2.1", dialer: "192.0.2.1 unproven", isProven: false };
  assert.deepEqual(await incoming("ip", "192.0.2.1:7", false).source(), unproven);
  const name = "https://relay.example/", relay = { name, dialer: `${name} key`, isProven: true };
  assert.deepEqual(await incoming("relay", name, false, "key").source(), relay);
});

Deno.test("Endpoint: its close ends although iroh's does not", async () => {
  const { promise, resolve } = Promise.withResolvers<void>();
  const { close } = Iroh.Endpoint.prototype;
  const closed: Iroh.Endpoint[] = [];
  Iroh.Endpoint.prototype.close = function () {
    closed.push(this);
    return promise;
  };
  try {
    const options = { relay: { kind: "none" }, lookup: false, bind: "127.0.0.1:0" } as const;
    const endpoint = await Endpoint.bind({ ...options, closeTimeoutMs: 10 });
    await endpoint[Symbol.asyncDispose]();
  } finally {
    Iroh.Endpoint.prototype.close = close;
    resolve();
    for (const endpoint of closed) await endpoint.close();
  }
  assert.equal(closed.length, 1);
});
