import assert from "node:assert/strict";
import { dialableHosts, isPeerAddress } from "./dialable.ts";

const OWN = ["192.168.7.2", "fd00::2", "fe80::2"];

Deno.test("isPeerAddress(): not the unspecified address, multicast, what is reserved, or port 0", () => {
  const wrong = [
    "0.0.0.0:1",
    "0.1.2.3:1",
    "224.0.0.1:1",
    "239.255.255.255:1",
    "240.0.0.1:1",
    "255.255.255.255:1",
    "[::]:1",
    "[0:0::0]:1",
    "[::ffff:0.0.0.0]:1",
    "[::ffff:224.0.0.1]:1",
    "[ff02::fb]:1",
    "[ff0e::1]:1",
    "192.0.2.1:0",
    "[2001:db8::1]:0",
  ];
  for (const address of wrong) assert(!isPeerAddress(address), address);
  const right = ["1.0.0.0:1", "223.255.255.255:65535", "[2001:db8::1]:1", "[::ffff:192.0.2.1]:1"];
  for (const address of right) assert(isPeerAddress(address), address);
});

const LOCAL = [
  "127.0.0.1",
  "127.255.255.255",
  "169.254.169.254",
  "::1",
  "0:0:0:0:0:0:0:1",
  "::ffff:127.0.0.1",
  "::ffff:7f00:1",
  "::ffff:169.254.1.2",
  "fe80::1",
  "febf:ffff::1",
  ...OWN,
  "::ffff:192.168.7.2",
  "fd00:0:0::2",
];

Deno.test("dialableHosts(): not loopback, link-local, or an address of this host", () => {
  for (const observed of [undefined, "203.0.113.9", "2001:db8::9"]) {
    const isDialable = dialableHosts(observed, OWN);
    for (const host of LOCAL) assert(!isDialable(host), `${host}, seen at ${observed}`);
    for (const host of ["126.255.255.255", "128.0.0.1", "169.253.0.1", "192.168.7.3", "fec0::1"]) {
      assert(isDialable(host), host);
    }
  }
});

Deno.test("dialableHosts(): where iroh sees the peer, and at no other address of that kind", () => {
  for (const observed of LOCAL) {
    const isDialable = dialableHosts(observed, OWN);
    assert(isDialable(observed), observed);
    assert(!isDialable("127.9.9.9") && !isDialable("fe80::9") && !isDialable("169.254.9.9"));
  }
  assert(dialableHosts("fe80::1%eth0", OWN)("fe80::1"));
  assert(dialableHosts("no address", OWN)("192.0.2.1"));
});

Deno.test("dialableHosts(): knows the addresses of this host", () => {
  const own = Deno.networkInterfaces().map(({ address }) => address);
  const isDialable = dialableHosts(undefined);
  for (const address of own) assert(!isDialable(address), address);
});

Deno.test("dialableHosts(): a peer on this host, whichever version of IP either end sees", () => {
  for (const observed of ["127.0.0.1", "::1", "::ffff:127.0.0.1"]) {
    const isDialable = dialableHosts(observed, OWN);
    assert(isDialable("127.0.0.1") && isDialable("::1"), observed);
    assert(!isDialable("192.168.7.2") && !isDialable("127.0.0.2"), observed);
  }
  assert(!dialableHosts("192.168.7.2", OWN)("::1"));
});
