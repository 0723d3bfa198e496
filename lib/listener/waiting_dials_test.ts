import assert from "node:assert/strict";
import { abortable } from "../async/abort.ts";
import { NotWaiting, WaitingDials } from "./waiting_dials.ts";

const never = new AbortController().signal;

/** Dials that wait for peers which a test makes come. */
function makeDials(): { dials: WaitingDials; come: (key: string) => void } {
  const peers = new Map<string, PromiseWithResolvers<void>>();
  const untilHere = (key: string, signal: AbortSignal) => {
    if (!peers.has(key)) peers.set(key, Promise.withResolvers());
    return abortable(peers.get(key)!.promise, signal);
  };
  return { dials: new WaitingDials({ untilHere }), come: (key) => peers.get(key)!.resolve() };
}

Deno.test("WaitingDials: all dials to a peer go on when it is there", async () => {
  const { dials, come } = makeDials();
  const one = dials.wait(1, "ab", never), other = dials.wait(2, "ab", never);
  come("ab");
  await Promise.all([one, other]);
});

Deno.test("WaitingDials: a newer dial of the same remotedaemon to the same peer ends the older", async () => {
  const { dials, come } = makeDials();
  const older = dials.wait(1, "ab", never), unrelated = dials.wait(1, "cd", never);
  const newer = dials.wait(1, "ab", never);
  await assert.rejects(older, new NotWaiting("a newer dial waits"));
  come("ab");
  come("cd");
  await Promise.all([newer, unrelated]);
});

Deno.test("WaitingDials: at most eight wait, and another one when one of them has ended", async () => {
  const { dials, come } = makeDials(), cancel = new AbortController();
  const first = dials.wait(1, "00", cancel.signal);
  const others = Array.from({ length: 7 }, (_, i) => dials.wait(1, `${i + 1}`, never));
  await assert.rejects(dials.wait(1, "8", never), new NotWaiting("8 dials already wait"));
  const again = dials.wait(1, "7", never); // in place of an older one
  await assert.rejects(others.pop()!, NotWaiting);
  cancel.abort(new Error("the process is gone"));
  await assert.rejects(first, /the process is gone/);
  const last = dials.wait(1, "8", never);
  for (let i = 1; i <= 8; i++) come(`${i}`);
  await Promise.all([...others, again, last]);
});
