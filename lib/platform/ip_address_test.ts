import assert from "node:assert/strict";
import * as net from "node:net";
import fc from "fast-check";
import { isIP, isIPv4, isIPv6 } from "./ip_address.ts";

function assertLikeNode(text: string): void {
  assert.deepEqual(
    [isIP(text), isIPv4(text), isIPv6(text)],
    [net.isIP(text), net.isIPv4(text), net.isIPv6(text)],
    text,
  );
}

Deno.test("isIP() recognises the same addresses as node:net", () => {
  const texts = [
    ..."1.2.3.4 255.255.255.255 256.1.1.1 01.2.3.4 1.2.3 1.2.3.4.5 1.2.3.4. 0x1.2.3.4".split(" "),
    ...":: ::1 1:: 1::8 1:2:3:4:5:6:7:8 1:2:3:4:5:6:7:8:9 1:2:3:4:5:6:7 :: 1::2::3 ::ffff".split(
      " ",
    ),
    ..."::ffff:1.2.3.4 ::1.2.3 ::1.2.3.256 1:2:3:4:5:6:1.2.3.4 1:2:3:4:5:6:7:1.2.3.4".split(" "),
    ..."fe80::1%eth0 fe80::1%25 fe80::1% fe80::1%a_b 12345:: g:: ::1] [::1] ::1/64".split(" "),
    ..."1::2:3:4:5:6:7 ::2:3:4:5:6:7:8 1:2:3:4:5:6:7:: 1:2:3:4:5:6:: : ::: 1: :1 1.2.3.4::".split(
      " ",
    ),
    "",
    " ::1",
    "::1 ",
    "1.2.3.4\n",
  ];
  for (const text of texts) assertLikeNode(text);
  fc.assert(fc.property(fc.ipV4(), assertLikeNode));
  fc.assert(fc.property(fc.ipV6(), assertLikeNode));
  const almost = fc.string({ unit: fc.constantFrom(..."0123456789abf:.%".split("")) });
  fc.assert(fc.property(almost, assertLikeNode), { numRuns: 2_000 });
});
