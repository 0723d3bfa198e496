import assert from "node:assert/strict";
import fc from "fast-check";
import { AuthWatch } from "./auth_watch.ts";

/** Returns how often a watch fires on text that arrives in pieces of these lengths. */
function fires(text: string, cuts: number[] = []): number {
  let times = 0;
  const watch = new AuthWatch(() => times++);
  let bytes = new TextEncoder().encode(text);
  for (const cut of cuts) {
    watch.see(bytes.subarray(0, cut));
    bytes = bytes.subarray(cut);
  }
  watch.see(bytes);
  return times;
}

Deno.test("AuthWatch sees AUTH-SUCCESS at the start of a line, however the bytes are cut", () => {
  fc.assert(fc.property(fc.array(fc.nat(20)), (cuts) => {
    assert.equal(fires("AUTH-FAILURE\nERROR no\nAUTH-SUCCESS 1234-uuid\n", cuts), 1);
    assert.equal(fires("AUTH-SUCCESS a\nAUTH-SUCCESS b\n", cuts), 1);
    assert.equal(fires("ERROR AUTH-SUCCESS 1234\n", cuts), 0);
    assert.equal(fires("AUTH-SUCCESSFUL 1234\nAUTH-FAILURE\n", cuts), 0);
  }));
});

Deno.test("AuthWatch ignores AUTH-SUCCESS in an error message that quotes the peer", () => {
  // git-annex quotes an unknown line as a Haskell string, without a line feed.
  assert.equal(fires('ERROR protocol parse error: "\\nAUTH-SUCCESS x"\n'), 0);
});
