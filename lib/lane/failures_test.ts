import assert from "node:assert/strict";
import { join } from "node:path";
import { LaneFailures } from "./failures.ts";

const PEER = "ab".repeat(32), MINUTE_MS = 60_000;

Deno.test("LaneFailures remembers for 5 min which kind of lane to which host was lost", async () => {
  const folder = await Deno.makeTempDir();
  try {
    const load = (peer = PEER) => LaneFailures.load(peer, [folder]);
    await LaneFailures.note(PEER, { kind: "TLS", remote: "192.0.2.1:5" }, folder);
    assert(load().has("TLS", "192.0.2.1"));
    assert(!load().has("QUIC", "192.0.2.1"));
    assert(!load().has("TLS", "192.0.2.2"));
    assert(!load("cd".repeat(32)).has("TLS", "192.0.2.1"));
    const [{ name }] = [...Deno.readDirSync(folder)] as [Deno.DirEntry];
    const setAge = (ms: number) => {
      const lost = [{ kind: "TLS", host: "192.0.2.1", at: Date.now() - ms }];
      Deno.writeTextFileSync(join(folder, name), JSON.stringify(lost));
    };
    setAge(4.9 * MINUTE_MS);
    assert(load().has("TLS", "192.0.2.1"));
    setAge(5.1 * MINUTE_MS);
    assert(!load().has("TLS", "192.0.2.1"));
    for (const damaged of ["", "{}", "[null, 1]", '[{"kind":"TLS","host":"192.0.2.1"}]']) {
      Deno.writeTextFileSync(join(folder, name), damaged);
      assert(!load().has("TLS", "192.0.2.1"), damaged);
    }
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("LaneFailures remembers the last 16 of a peer", async () => {
  const folder = await Deno.makeTempDir();
  try {
    for (let i = 0; i <= 16; i++) {
      await LaneFailures.note(PEER, { kind: "TLS", remote: `192.0.2.${i}:5` }, folder);
    }
    const failures = LaneFailures.load(PEER, [folder]);
    assert(!failures.has("TLS", "192.0.2.0"));
    assert(failures.has("TLS", "192.0.2.1") && failures.has("TLS", "192.0.2.16"));
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});
