import assert from "node:assert/strict";
import { pipe } from "../../tests/pipe.ts";
import { Candidate } from "./candidate.ts";
import { Nomination } from "./nomination.ts";
import type { Transport } from "./lane.ts";

const SECRET = new Uint8Array(32);
const never = new AbortController().signal;

/** Returns a candidate at the end that controls. Its writes do not resolve before they are released. */
async function candidate() {
  const [ours, theirs] = pipe();
  const held = Promise.withResolvers<void>();
  let isClosed = false, holds = false;
  const transport = ({ readable, writable }: typeof ours): Transport => {
    const reader = readable.getReader(), writer = writable.getWriter();
    return {
      kind: "TLS",
      remote: "127.0.0.1:1",
      read: async () => (await reader.read()).value,
      async write(bytes) {
        await writer.write(bytes);
        if (holds) await held.promise;
      },
      close: () => void (isClosed = true),
    };
  };
  const [controlling, other] = await Promise.all([
    Candidate.verify(transport(ours), SECRET, never).then((candidate) => candidate.prove(never)),
    Candidate.authenticate(transport(theirs), SECRET, never),
  ]);
  holds = true;
  return { controlling, other, release: held.resolve, isClosed: () => isClosed };
}

Deno.test("Nomination: takes a candidate if the other end was told of it before the time was over", async () => {
  const { controlling, other, release, isClosed } = await candidate();
  const limit = new AbortController();
  const nomination = new Nomination(true, limit.signal);
  nomination.add(Promise.resolve(controlling));
  await other.awaitNomination();
  limit.abort(new Error("late"));
  release();
  assert.equal(await nomination.nominated, controlling);
  assert.equal(isClosed(), false);
});

Deno.test("Nomination: takes no candidate once the time is over, and closes it", async () => {
  const { controlling, isClosed } = await candidate();
  const limit = new AbortController();
  const nomination = new Nomination(true, limit.signal);
  const late = new Error("late");
  limit.abort(late);
  await nomination.add(Promise.resolve(controlling));
  await assert.rejects(nomination.nominated, late);
  assert.equal(isClosed(), true);
});
