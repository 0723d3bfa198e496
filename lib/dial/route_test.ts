import assert from "node:assert/strict";
import { describeRoute, knownRoutes, type Route, routeName, routeOf } from "./route.ts";

const ticket = {
  publicKey: new Uint8Array(32),
  relays: ["https://a.example/", "https://b.example/"],
  direct: ["10.0.0.1:1", "[fd00::1]:2"],
};
const address: Route = { kind: "address", direct: ["127.0.0.1:4711"] };
const lan: Route = { kind: "local-network", direct: ["10.0.0.1:1", "10.0.0.1:2"] };
const relay: Route = { kind: "relay", relay: "https://a.example/" };
const lookup: Route = { kind: "lookup" };

Deno.test("knownRoutes lists same host, addresses, relays and look-up, as the settings allow", () => {
  const names = (...args: Parameters<typeof knownRoutes>) => knownRoutes(...args).map(routeName);
  const direct = ["10.0.0.1:1", "[fd00::1]:2"];
  const none = { relay: { kind: "none" }, lookup: false } as const;
  assert.deepEqual(names(ticket, none, []), direct);
  assert.deepEqual(names(ticket, none, ["127.0.0.1:1"]), ["the same host", ...direct]);
  assert.deepEqual(names(ticket, { relay: { kind: "n0" }, lookup: true }, []), [
    ...direct,
    "relay https://a.example/",
    "relay https://b.example/",
    "the look-up at iroh's DNS",
  ]);
  const urls = ["https://b.example/", "https://c.example/"];
  assert.deepEqual(names(ticket, { relay: { kind: "custom", urls }, lookup: false }, []), [
    ...direct,
    "relay https://a.example/",
    "relay https://b.example/",
    "relay https://c.example/",
  ]);
});

Deno.test("routeOf finds the route that leads to a connection's path", () => {
  const sameHost: Route = { kind: "same-host", direct: ["127.0.0.1:9"] };
  const routes = [sameHost, address, relay, lookup, lan];
  assert.equal(routeOf({ kind: "direct", address: "127.0.0.1:9" }, routes), sameHost);
  assert.equal(routeOf({ kind: "direct", address: "127.0.0.1:4711" }, routes), address);
  assert.equal(routeOf({ kind: "direct", address: "10.0.0.1:2" }, routes), lan);
  assert.equal(routeOf({ kind: "relay", address: "https://a.example/" }, routes), relay);
});

Deno.test("routeOf names a likely route if iroh found the address of the path by itself", () => {
  const path = { kind: "direct", address: "[fd00::1]:99" } as const;
  assert.equal(routeOf(path, [address, relay, lookup, lan]), lookup);
  assert.equal(routeOf(path, [address, relay, lan]), relay);
  assert.equal(describeRoute(routeOf(path, [address, lan])), "its address"); // not 127.0.0.1:4711
  assert.equal(routeOf(undefined, [lan]), lan);
});

Deno.test("routes have names for people", () => {
  assert.equal(describeRoute(address), "its address");
  assert.equal(routeName(address), "127.0.0.1:4711"); // a failed dial may list several
  for (const route of [lan, relay, lookup]) assert.equal(routeName(route), describeRoute(route));
});
