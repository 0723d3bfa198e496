import assert from "node:assert/strict";
import fc from "fast-check";
import { freeName, remoteName } from "./remote_name.ts";

Deno.test("remoteName() keeps what is usual, and cleans the rest", () => {
  for (
    const [text, name] of [
      ["bob", "bob"],
      ["Bob's laptop", "Bob-s-laptop"],
      ["bob@host:~/photos", "bob-host-photos"],
      ["my.host-2_x", "my.host-2_x"],
      ["Zoë", "Zoe"],
      ["../..", "peer"],
      ["--upload-pack=x", "upload-pack-x"],
      ["a..b", "a.b"],
      ["x.lock", "x"],
      ["x.lock.lock", "x"],
      ["HEAD", "peer"],
      ["Борис", "peer"],
      ["\x1b[31mred\x1b[0m", "31mred-0m"],
      ["", "peer"],
      ["a".repeat(1000), "a".repeat(40)],
    ]
  ) assert.equal(remoteName(text!), name, text);
});

Deno.test("remoteName() makes a name that git and git-annex leave as it is, of any text", () => {
  const texts = fc.oneof(
    fc.string({ unit: "binary", maxLength: 200 }),
    fc.array(fc.constantFrom("a", ".", "-", "_", "/", ".lock", "HEAD", " ", "\n", "é"), {
      maxLength: 20,
    }).map((parts) => parts.join("")),
  );
  fc.assert(fc.property(texts, (text) => {
    const name = remoteName(text);
    assert.match(name, /^[A-Za-z0-9]([A-Za-z0-9._-]{0,38}[A-Za-z0-9])?$/);
    assert.doesNotMatch(name, /\.\.|\.lock$|^HEAD$/);
    assert.equal(remoteName(name), name);
  }));
});

Deno.test("freeName() adds a number if the name is taken, in any case", () => {
  assert.equal(freeName("ann", new Set()), "ann");
  assert.equal(freeName("ann", new Set(["bob", "Ann", "ann2"])), "ann3");
});
