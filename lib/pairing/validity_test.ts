import assert from "node:assert/strict";
import { UsageError } from "../console/failure.ts";
import { parseValidity, validityText } from "./validity.ts";

Deno.test("parseValidity() and validityText() agree on times of at most a day", () => {
  for (
    const [text, words, seconds] of [
      ["15m", "15 minutes", 900],
      ["1h", "1 hour", 3600],
      ["60m", "1 hour", 3600],
      ["1d", "1 day", 86400],
      ["24h", "1 day", 86400],
      ["90s", "90 seconds", 90],
    ] as const
  ) {
    assert.equal(parseValidity(text), seconds * 1000);
    assert.equal(validityText(seconds * 1000), words);
  }
  for (const text of ["", "0m", "1", "m", "2d", "25h", "1w", "-1h", "1.5h", "99999h", "1 h"]) {
    assert.throws(() => parseValidity(text), UsageError, text);
  }
});
