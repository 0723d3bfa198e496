import assert from "node:assert/strict";
import { join } from "node:path";
import { listenerFolder } from "../repository/listener_folder.ts";
import { type InvitationRecord, InvitationStore, parseRecord } from "./invitation_store.ts";

const onUnix = { ignore: Deno.build.os === "windows" };
const URL = "p2p-annex::iroh:endpointaaaa";
const OPEN: InvitationRecord = {
  hash: "ab".repeat(32),
  name: undefined,
  expires: 1_800_000_000_000,
  isDetached: true,
  state: "open",
  joiner: undefined,
  link: undefined,
};
const USED: InvitationRecord = {
  ...OPEN,
  hash: "cd".repeat(32),
  name: "ann",
  state: "joining",
  joiner: { key: "ef".repeat(32), name: "ann's laptop" },
  link: { remote: "ann", url: URL, wasLinked: false, isMade: true },
};

async function withFolder(
  body: (store: InvitationStore, folder: string) => Promise<void>,
): Promise<void> {
  const gitDir = await Deno.makeTempDir();
  try {
    await Deno.mkdir(listenerFolder({ gitDir }), { recursive: true });
    await body(new InvitationStore({ gitDir }), join(listenerFolder({ gitDir }), "invitations"));
  } finally {
    await Deno.remove(gitDir, { recursive: true });
  }
}

Deno.test("InvitationStore loads what was saved, and not what was removed", async () => {
  await withFolder(async (store) => {
    assert.deepEqual(await store.load(), []);
    for (const record of [OPEN, USED]) await store.save(record);
    const loaded = await store.load();
    assert.deepEqual(loaded.toSorted((a, b) => a.hash < b.hash ? -1 : 1), [OPEN, USED]);
    await store.save({ ...OPEN, state: "over" });
    await store.remove(USED.hash);
    await store.remove(USED.hash);
    assert.deepEqual(await store.load(), [{ ...OPEN, state: "over" }]);
  });
});

Deno.test("InvitationStore: only the user can read its files", onUnix, async () => {
  await withFolder(async (store, folder) => {
    await store.save(OPEN);
    assert.equal((await Deno.stat(folder)).mode! & 0o777, 0o700);
    assert.equal((await Deno.stat(join(folder, OPEN.hash))).mode! & 0o777, 0o600);
    await Deno.chmod(folder, 0o755);
    await assert.rejects(store.save(OPEN), /^Failure: cannot keep the invitation, .* is open to/);
  });
});

Deno.test("InvitationStore removes damaged files, and leaves others alone", async () => {
  await withFolder(async (store, folder) => {
    await store.save(OPEN);
    await Deno.writeTextFile(join(folder, USED.hash), '{"hash":');
    await Deno.writeTextFile(join(folder, "ef".repeat(32)), JSON.stringify(USED)); // of another name
    await Deno.writeTextFile(join(folder, "note"), "");
    await Deno.mkdir(join(folder, "01".repeat(32))); // it cannot be read
    assert.deepEqual(await store.load(), [OPEN]);
    const left = (await Array.fromAsync(Deno.readDir(folder))).map(({ name }) => name);
    assert.deepEqual(left.toSorted(), ["01".repeat(32), OPEN.hash, "note"]);
  });
});

const DAMAGED: [what: string, record: unknown][] = [
  ["nothing", null],
  ["a hash that is a path", { ...OPEN, hash: "../../x" }],
  ["an unknown state", { ...OPEN, state: "frob" }],
  ["a name with control characters", { ...OPEN, name: "a\nb" }],
  ["a date that is no number", { ...OPEN, expires: "tomorrow" }],
  ["a key that is none", { ...USED, joiner: { key: "ef", name: "ann" } }],
  ["a URL of something else", { ...USED, link: { ...USED.link, url: "ext::sh" } }],
  ["a link without its name", { ...USED, link: { ...USED.link, remote: undefined } }],
];
for (const [what, record] of DAMAGED) {
  Deno.test(`parseRecord() takes no record with ${what}`, () => {
    assert.equal(parseRecord(JSON.stringify(record)), undefined);
  });
}
