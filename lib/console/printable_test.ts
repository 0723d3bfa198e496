import assert from "node:assert/strict";
import fc from "fast-check";
import { isPrintable, printable, printableJson, printableLines } from "./printable.ts";

/** What terminals obey or show in another order, each with its name. */
const DANGEROUS: [name: string, text: string][] = [
  ["ESC", "\x1b[31m"],
  ["carriage return", "\r"],
  ["backspace", "\b"],
  ["DEL", "\x7f"],
  ["CSI, a C1 control character", "\x9b31m"],
  ["OSC, another", "\x9d0;title\x9c"],
  ["the first C1 control character", "\x80"],
  ["the last", "\x9f"],
  ["NEL", "\x85"],
  ["soft hyphen", "\xad"],
  ["right-to-left override", "\u202e"],
  ["left-to-right embedding", "\u202a"],
  ["right-to-left isolate", "\u2067"],
  ["pop directional isolate", "\u2069"],
  ["right-to-left mark", "\u200f"],
  ["Arabic letter mark", "\u061c"],
  ["zero-width space", "\u200b"],
  ["byte order mark", "\ufeff"],
  ["line separator", "\u2028"],
  ["paragraph separator", "\u2029"],
  ["tag character", "\u{e0041}"],
];

for (const [name, text] of DANGEROUS) {
  Deno.test(`printable() and its like let no ${name} through`, () => {
    const first = [...text][0]!;
    assert(!isPrintable(text));
    assert(!printable(`a${text}b`).includes(first));
    assert(!printableLines(`a${text}b\n`).includes(first));
    const json = printableJson({ [`k${text}`]: `v${text}` });
    assert(!json.includes(first));
    assert.deepEqual(JSON.parse(json), { [`k${text}`]: `v${text}` });
  });
}

Deno.test("printable() keeps other text, in one line that is not too long", () => {
  assert.equal(
    printable("relay \x1b]0;title\x07 und Größe 日本 🦀\r\n"),
    "relay ]0;title und Größe 日本 🦀",
  );
  assert.equal(printable("x".repeat(50), 10), "xxxxxxxxx…");
  assert(isPrintable("und Größe 日本 🦀  ~"));
});

Deno.test("printableLines() keeps lines and spaces", () => {
  assert.equal(printableLines("a  b\n  c\td\r\n"), "a  b\n  c d \n");
});

Deno.test("printable() and its like keep nothing that is not printable", () => {
  fc.assert(fc.property(fc.string({ unit: "binary" }), (text) => {
    assert(isPrintable(printable(text)));
    assert(printableLines(text).split("\n").every(isPrintable));
    const json = printableJson(text);
    assert(isPrintable(json));
    assert.equal(JSON.parse(json), text);
  }));
});
