import assert from "node:assert/strict";
import {
  defaultRoutesIn,
  hostAddresses,
  type Interface,
  interfaces,
  lostAddressDetector,
  onLocalNetwork,
  routesIn,
} from "./network_interfaces.ts";

function named(name: string, ...networks: string[]): Interface {
  const addresses = networks.map((network) => network.replace(/\/.*/, ""));
  return { name, scope: name, addresses, networks, ipv6: undefined };
}

const CONTAINERS = Array.from({ length: 50 }, (_, i) => named(`veth${i}`, `172.18.${i}.1/24`));
const ETH0 = named("eth0", "192.168.7.2/24", "2001:db8::2/64");
const VPN = named("tun0", "10.8.0.5/24");
const ALL = [...CONTAINERS, VPN, ETH0];

Deno.test("hostAddresses(): those on the other host's network first, then those with a default route", () => {
  const likelyFor = (remote: string | undefined) => hostAddresses(remote, ALL, ["eth0"]).likely;
  assert.deepEqual(likelyFor(undefined), ETH0.addresses);
  assert.deepEqual(likelyFor("10.8.0.9"), [...VPN.addresses, ...ETH0.addresses]);
  assert.deepEqual(likelyFor("172.18.7.9"), ["172.18.7.1", ...ETH0.addresses]);
  assert.deepEqual(likelyFor("2001:db8::9"), ETH0.addresses);
  assert.deepEqual(likelyFor("203.0.113.9"), ETH0.addresses);
  const { likely, others } = hostAddresses(undefined, ALL, []);
  assert.deepEqual([likely.length, others.length], [0, 53]);
});

Deno.test("defaultRoutesIn() and routesIn() read the routing tables of Linux", () => {
  const ipv4 = `Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth0\t00000000\tFE00A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0
eth0\t0000A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0
tun0\t00000000\t00000000\t0001\t0\t0\t0\t00000080\t0\t0\t0
`;
  const zeros = "0".repeat(32), gateway = "fe800000000000000000000000000001";
  const ipv6 = `${zeros} 00 ${zeros} 00 ${gateway} 00000400 00000001 00000000 00000003 wlan0
fe800000000000000000000000000000 40 ${zeros} 00 ${zeros} 00000100 00000001 00000000 00000001 eth0
${zeros} 00 ${zeros} 00 ${zeros} ffffffff 00000001 00000000 00200200 lo
`;
  assert.deepEqual(defaultRoutesIn(ipv4), ["eth0"]);
  assert.deepEqual(defaultRoutesIn(ipv6), ["wlan0"]);
  assert.deepEqual(defaultRoutesIn(""), []);
  assert.deepEqual(routesIn(ipv4), ["eth0", "eth0", "tun0"]);
  assert.deepEqual(routesIn(ipv6), ["wlan0"]);
  assert.deepEqual(routesIn(""), []);
});

Deno.test("lostAddressDetector(): an address is not lost if the host still has it, or never had it", () => {
  const isLost = lostAddressDetector();
  assert.equal(isLost("127.0.0.1"), false);
  assert.equal(isLost(undefined), false); // none is
  assert.equal(isLost("192.0.2.1"), false);
});

Deno.test("interfaces(): each address is on a network of this host", () => {
  const isLocal = onLocalNetwork();
  for (const { addresses } of interfaces()) {
    for (const address of addresses) assert(isLocal(address), address);
  }
  assert(!isLocal("203.0.113.9") && !isLocal("127.0.0.1"));
});
