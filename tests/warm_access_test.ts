/** Only processes of the same user and repository go through a listener. */

import assert from "node:assert/strict";
import { join } from "node:path";
import { Channel, MessageKind } from "../lib/control/channel.ts";
import { makeFriends } from "./friends.ts";
import { FakeAnnex } from "./pair.ts";
import { scenario } from "./testenv.ts";
import { exchange, folderOf, locatorFileOf, locatorOf, openSession } from "./warm.ts";

scenario("warm: a process refuses what another user has planted in the runtime folder", {
  needs: ["users"],
}, async (env) => {
  const [a, b] = await makeFriends(env);
  const address = await a.at(), { path, text } = await locatorFileOf(b);
  const otherUser = 12345;
  const listens = join(folderOf(b.host), "abcdef.control");
  let asked = 0;
  const trap = new FakeAnnex(env, listens, async (connection) => {
    asked++;
    await connection.read(new Uint8Array(100));
  });
  // A locator of this user that names a socket of another user.
  await Deno.chown(listens, otherUser, otherUser);
  await Deno.writeTextFile(path, text.replace(/"socket":"[^"]*"/, `"socket":"${listens}"`));
  assert.match((await exchange(b, address)).stderr, /its socket belongs to another user/);
  // A locator of another user, or a link to one.
  await Deno.writeTextFile(path, text);
  await Deno.chown(path, otherUser, otherUser);
  assert.equal((await exchange(b, address)).isWarm, false);
  await Deno.rename(path, `${path}.moved`);
  await Deno.symlink(`${path}.moved`, path);
  assert.equal((await exchange(b, address)).isWarm, false);
  await Deno.remove(path);
  await Deno.rename(`${path}.moved`, path);
  await Deno.chown(path, Deno.uid()!, Deno.gid()!);
  assert.equal((await exchange(b, address)).isWarm, true);
  // A runtime folder that other users may enter.
  await Deno.chmod(folderOf(b.host), 0o755);
  assert.equal((await exchange(b, address)).isWarm, false);
  await Deno.chmod(folderOf(b.host), 0o700);
  // A locator with a relative path, which each process would take for another one.
  await Deno.writeTextFile(path, text.replace(/"socket":"[^"]*"/, '"socket":"abcdef.control"'));
  assert.equal((await exchange(b, address)).isWarm, false);
  assert.equal(asked, 0);
  trap.close();
});

scenario(
  "warm: the listener closes a connection without the cookie or a valid request",
  {},
  async (env) => {
    const [a, b] = await makeFriends(env);
    const locator = locatorOf(b), address = await a.at();
    for (const cookie of ["", "00".repeat(32), locator.cookie.slice(1)]) {
      const asking = openSession({ ...locator, cookie }, address, env.signal);
      await assert.rejects(asking, { name: "ControlUnavailable" });
    }
    const times: number[] = [];
    // A listener that waits for the body closes each time after 2 s, a busy machine only now and then.
    while (times.every((time) => time >= 1_500) && times.length < 5) {
      const raw = await Deno.connect({ transport: "unix", path: locator.socketPath });
      const header = Uint8Array.of(0, 0, 0, 0x20, 1); // of a request of 8193 bytes
      await raw.write(header);
      const sent = performance.now();
      assert.equal(await raw.read(new Uint8Array(1)), null);
      times.push(performance.now() - sent);
      raw.close();
    }
    assert(Math.min(...times) < 1_500, `${times} ms`);
    const wrong = new Channel(await Deno.connect({ transport: "unix", path: locator.socketPath }));
    await wrong.sendJson(MessageKind.REQUEST, { want: "nonsense", cookie: locator.cookie });
    assert.equal(await wrong.receive(), undefined);
    wrong[Symbol.dispose]();
    await b.listener.says(/control: ChannelError: invalid request/);
    const silent = await Deno.connect({ transport: "unix", path: locator.socketPath });
    assert.equal(await silent.read(new Uint8Array(1)), null); // closed after a time limit
    silent.close();
    assert.equal((await exchange(b, address)).isWarm, true);
  },
);
