import assert from "node:assert/strict";
import { isPrintable } from "../console/printable.ts";
import { eventJson, eventText } from "./event.ts";

Deno.test("eventText() and eventJson() let no control characters of a name through", () => {
  const remote = "a\x1b[31mb\u009b2Jc\u202ed", url = "p2p-annex::iroh:x";
  const event = { event: "here", remote, url } as const;
  assert(isPrintable(eventText(event)));
  assert(isPrintable(eventJson(event)));
  assert.equal(JSON.parse(eventJson(event)).remote, remote);
});
