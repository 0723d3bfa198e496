import assert from "node:assert/strict";
import { join } from "node:path";
import { AbsenceMemory } from "./absence_memory.ts";
import { AWAY_ALONE_LIMITS, DIAL_LIMITS } from "./dial_limits.ts";
import { Away, Unreachable } from "./unreachable.ts";

const TICKET = { publicKey: new Uint8Array(32).fill(7), relays: [], direct: ["10.0.0.1:1"] };
const SETTINGS = { relay: { kind: "none" }, lookup: false, lan: true } as const;
const SILENT = new Unreachable("cannot reach the peer; tried its address", { hint: "try again" });
const REASON = "cannot reach the peer; tried its address";

/** Runs a test with a folder in which the peer has just failed to answer. */
async function withFailure(
  body: (load: (ticket?: typeof TICKET) => Promise<AbsenceMemory>, path: string) => Promise<void>,
): Promise<void> {
  const folder = await Deno.makeTempDir();
  try {
    const load = (ticket = TICKET) => AbsenceMemory.load(ticket, SETTINGS, [folder]);
    const before = await load();
    assert.deepEqual([before.isAway, before.failure, before.limits], [
      false,
      undefined,
      DIAL_LIMITS,
    ]);
    assert.equal((await before.failed(SILENT, undefined)).message, REASON);
    const [{ name }] = [...Deno.readDirSync(folder)] as [Deno.DirEntry];
    await body(load, join(folder, name));
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

async function change(path: string, changes: Record<string, unknown>): Promise<void> {
  const entry = { ...JSON.parse(await Deno.readTextFile(path)), ...changes };
  await Deno.writeTextFile(path, JSON.stringify(entry));
}

Deno.test("AbsenceMemory: dials fail at once for 10 s after a failed one, and are short for a minute", async () => {
  await withFailure(async (load, path) => {
    const { failure, limits } = await load();
    assert(failure instanceof Away);
    assert.deepEqual([failure.message, failure.hint, limits], [
      REASON,
      "try again",
      AWAY_ALONE_LIMITS,
    ]);
    await change(path, { at: Date.now() - 10_000 });
    const later = await load();
    assert.deepEqual([later.failure, later.limits], [undefined, AWAY_ALONE_LIMITS]);
    await later.failed(SILENT, undefined); // a short dial does not prolong the time of short dials
    assert(later.isAway && (await load()).failure);
    await change(path, { dialedAt: Date.now() - 60_000 });
    assert.equal((await load()).isAway, false);
  });
});

Deno.test("AbsenceMemory: a later failure keeps the time of the first", async () => {
  await withFailure(async (load, path) => {
    const since = Date.now() - 15_000, lastSeen = new Date(2026, 10, 28, 12);
    await change(path, { at: since, since });
    const away = await (await load()).failed(SILENT, lastSeen);
    assert.deepEqual(away.absence, { since: new Date(since), lastSeen });
    assert.deepEqual((await load()).failure?.absence, away.absence);
    assert.match(away.message, /^the peer is away, last seen 2026-11-28 12:00:00; tried/);
  });
});

Deno.test("AbsenceMemory tells nothing of other routes, another network, or another time", async () => {
  await withFailure(async (load, path) => {
    assert.equal((await load({ ...TICKET, direct: ["10.0.0.2:1"] })).isAway, false);
    assert.equal((await load({ ...TICKET, publicKey: new Uint8Array(32) })).isAway, false);
    const text = await Deno.readTextFile(path);
    const other = { routes: "00".repeat(32) }; // as on a host with other addresses
    for (const changes of [other, { at: Date.now() + 60_000 }, { since: Date.now() + 60_000 }]) {
      await change(path, changes);
      assert.equal((await load()).isAway, false);
      await Deno.writeTextFile(path, text);
    }
    assert.equal((await load()).isAway, true);
    await AbsenceMemory.forget(TICKET, [join(path, "..")]);
    assert.equal((await load()).isAway, false);
    await AbsenceMemory.forget(TICKET, [join(path, "..")]);
  });
});

Deno.test("AbsenceMemory ignores a damaged file, and shows no control character of one", async () => {
  await withFailure(async (load, path) => {
    const text = await Deno.readTextFile(path);
    await change(path, { message: "a\x1b[2J\nb", hint: "\x07" });
    assert.equal((await load()).failure?.message, "a [2J b");
    for (const damaged of ["", "null", "[]", "{}", '{"at":1}', "x".repeat(10_000)]) {
      await Deno.writeTextFile(path, damaged);
      assert.equal((await load()).isAway, false, damaged);
    }
    for (const changes of [{ message: 5 }, { lastSeen: "x" }, { hint: 1 }, { at: "1" }]) {
      await Deno.writeTextFile(path, text);
      assert.equal((await load()).isAway, true);
      await change(path, changes);
      assert.equal((await load()).isAway, false);
    }
  });
});
