import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { join } from "node:path";
import { eventLoopTurns } from "../../tests/event_loop.ts";
import { thisHost } from "../platform/host.ts";
import {
  findOnSameHost,
  HEARTBEAT_INTERVAL_MS,
  LocalRegistration,
  registrationsOnSameHost,
} from "./same_host.ts";
import { withFolder } from "../../tests/temporary_folder.ts";

const container = { ...thisHost(), pidNamespace: "pid:[1]" };
const key = new Uint8Array(32).fill(7);
const sockets = ["0.0.0.0:1234", "[::]:5678", "10.1.2.3:99"];
const addresses = ["127.0.0.1:1234", "[::1]:5678", "10.1.2.3:99"];

function registrationPath(dir: string, publicKey = key): string {
  return join(dir, `${Buffer.from(publicKey).toString("hex")}.json`);
}

async function files(dir: string): Promise<string[]> {
  return (await Array.fromAsync(Deno.readDir(dir))).map(({ name }) => name);
}

/** Returns the id of a process that has ended. */
async function deadPid(): Promise<number> {
  const child = new Deno.Command(Deno.execPath(), { args: ["--version"], stdout: "null" }).spawn();
  await child.status;
  return child.pid;
}

async function writeRegistration(dir: string, change: Record<string, unknown>): Promise<void> {
  const registration = {
    id: "another",
    pid: Deno.pid,
    host: thisHost(),
    direct: addresses,
    ...change,
  };
  // At once, as a listener does: it would restore a file that it finds empty.
  await Deno.writeTextFile(join(dir, "next"), JSON.stringify(registration));
  await Deno.rename(join(dir, "next"), registrationPath(dir));
}

Deno.test("findOnSameHost() finds the addresses that a listener has published, until it stops", async () => {
  await withFolder(async (dir) => {
    {
      await using _ = await LocalRegistration.publish(key, sockets, { folder: dir });
      assert.deepEqual(await findOnSameHost(key, [dir]), addresses);
      assert.deepEqual(await findOnSameHost(new Uint8Array(32), [dir]), []);
      assert.equal((await Deno.stat(registrationPath(dir))).mode! & 0o777, 0o600);
    }
    assert.deepEqual(await findOnSameHost(key, [dir]), []);
    assert.deepEqual(await files(dir), []);
  });
});

Deno.test("findOnSameHost() ignores and removes the registration of a dead listener", async () => {
  await withFolder(async (dir) => {
    await writeRegistration(dir, { pid: await deadPid() });
    assert.deepEqual(await findOnSameHost(key, [dir]), []);
    assert.deepEqual(await files(dir), []);
  });
});

Deno.test("findOnSameHost() goes by the age of a registration from another process namespace", async () => {
  await withFolder(async (dir) => {
    await writeRegistration(dir, { pid: await deadPid(), host: container });
    assert.deepEqual(await findOnSameHost(key, [dir]), addresses);
    const old = new Date(Date.now() - 4 * HEARTBEAT_INTERVAL_MS);
    await Deno.utime(registrationPath(dir), old, old);
    assert.deepEqual(await findOnSameHost(key, [dir]), []);
  });
});

Deno.test("findOnSameHost() ignores registrations of other hosts, and of this one before its start", async () => {
  await withFolder(async (dir) => {
    const boot = "another";
    await writeRegistration(dir, { host: { ...thisHost(), boot, name: "nas" } });
    assert.deepEqual(await findOnSameHost(key, [dir]), []);
    assert.equal((await files(dir)).length, 1); // it may be in use there
    await writeRegistration(dir, { host: { ...thisHost(), boot } });
    assert.deepEqual(await findOnSameHost(key, [dir]), []);
    assert.deepEqual(await files(dir), []);
  });
});

Deno.test("findOnSameHost() goes by the process, not the age, if the process can be seen", async () => {
  await withFolder(async (dir) => {
    await writeRegistration(dir, {});
    const old = new Date(Date.now() - 100 * HEARTBEAT_INTERVAL_MS);
    await Deno.utime(registrationPath(dir), old, old);
    assert.deepEqual(await findOnSameHost(key, [dir]), addresses);
    await using _ = await LocalRegistration.publish(new Uint8Array(32), sockets, { folder: dir });
    assert.deepEqual(await findOnSameHost(key, [dir]), addresses);
  });
});

Deno.test("findOnSameHost() ignores a file that is not a registration", async () => {
  const wrong: unknown[] = [
    { id: 1 },
    { pid: "1" },
    { host: 7 },
    { direct: "127.0.0.1:1" },
    { direct: ["relay.example:1"] },
    { direct: Array(17).fill("127.0.0.1:1") },
    { padding: "x".repeat(5000) },
  ];
  await withFolder(async (dir) => {
    for (const change of wrong) {
      await writeRegistration(dir, change as Record<string, unknown>);
      assert.deepEqual(await findOnSameHost(key, [dir]), [], JSON.stringify(change));
    }
    for (const text of ["", "null", "[]", "{", "\0"]) {
      await Deno.writeTextFile(registrationPath(dir), text);
      assert.deepEqual(await findOnSameHost(key, [dir]), [], text);
    }
  });
});

Deno.test("LocalRegistration.publish() removes what dead listeners have left, and nothing else", async () => {
  await withFolder(async (dir) => {
    await writeRegistration(dir, { pid: await deadPid() });
    await Deno.writeTextFile(join(dir, "other"), "");
    const old = new Date(Date.now() - 4 * HEARTBEAT_INTERVAL_MS);
    for (
      const name of [
        `${"05".repeat(32)}.json`,
        `${"06".repeat(32)}.away`,
        ".new-1",
        "socket-1",
        "other",
      ]
    ) {
      await Deno.writeTextFile(join(dir, name), "");
      await Deno.utime(join(dir, name), old, old);
    }
    await Deno.writeTextFile(join(dir, ".new-2"), ""); // another process is writing it
    const other = new Uint8Array(32).fill(9);
    await using _ = await LocalRegistration.publish(other, sockets, { folder: dir });
    assert.deepEqual(
      new Set(await files(dir)),
      new Set(["other", ".new-2", `${"09".repeat(32)}.json`]),
    );
  });
});

Deno.test("LocalRegistration: an earlier listener that stops keeps a later one's file", async () => {
  await withFolder(async (dir) => {
    const earlier = await LocalRegistration.publish(key, sockets, { folder: dir });
    await writeRegistration(dir, { pid: Deno.ppid });
    await earlier[Symbol.asyncDispose]();
    assert.deepEqual(await findOnSameHost(key, [dir]), addresses);
  });
});

Deno.test("LocalRegistration: a listener keeps its registration young, and restores it", async () => {
  await withFolder(async (dir) => {
    await using _ = await LocalRegistration.publish(key, sockets, {
      folder: dir,
      lookIntervalMs: 5,
    });
    const path = registrationPath(dir), old = new Date(0);
    await Deno.utime(path, old, old);
    while ((await Deno.stat(path)).mtime!.getTime() === 0) await eventLoopTurns(1);
    await Deno.remove(path); // by a clean-up of the folder
    while ((await findOnSameHost(key, [dir])).length === 0) await eventLoopTurns(1);
    assert.deepEqual(await findOnSameHost(key, [dir]), addresses);
  });
});

Deno.test("LocalRegistration: an earlier listener does not touch a later one's file", async () => {
  await withFolder(async (dir) => {
    const options = { folder: dir, lookIntervalMs: 5 };
    const heartbeats = () => new Promise((resolve) => setTimeout(resolve, 25));
    await using _ = await LocalRegistration.publish(key, sockets, options);
    await writeRegistration(dir, {});
    const path = registrationPath(dir), old = new Date(0);
    const isTouched = async () => (await Deno.stat(path)).mtime!.getTime() !== 0;
    do { // until a heartbeat that has read the earlier file is over
      await Deno.utime(path, old, old);
      await heartbeats();
    } while (await isTouched());
    await heartbeats();
    assert.equal(await isTouched(), false);
  });
});

Deno.test("registrationsOnSameHost() tells a listener from its successor", async () => {
  await withFolder(async (dir) => {
    const list = () => registrationsOnSameHost([dir, join(dir, "missing")]);
    assert.equal(list().size, 0);
    await using _first = await LocalRegistration.publish(key, sockets, { folder: dir });
    const first = list();
    assert.deepEqual([...first.keys()], [key.toHex()]);
    assert.deepEqual(list(), first);
    await using _second = await LocalRegistration.publish(key, sockets, { folder: dir });
    assert.notDeepEqual(list(), first);
  });
});
