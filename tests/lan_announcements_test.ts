/** What a listener announces on the local network, and to whom it answers. */

import assert from "node:assert/strict";
import { join } from "node:path";
import {
  changeAddress,
  hearsNext,
  LAN,
  LAN_TOOLS,
  listenToMulticast,
  makeNeighbours,
  untilQuiet,
} from "./lan.ts";
import { makeNetwork } from "./network.ts";
import { echo, FakeAnnex, makeRepository, unknownAddress } from "./pair.ts";
import { scenario, type Started } from "./testenv.ts";
import { python } from "./tools.ts";

const needs = LAN_TOOLS;

scenario(
  "lan: a repository with lan = false neither asks nor is announced",
  { waits: true, needs },
  async (env) => {
    const { a, b } = await makeNetwork(env, "lan");
    const ear = await listenToMulticast(env, b);
    const cwd = await makeRepository(env, a, "repository");
    const fakeAnnex = new FakeAnnex(env, join(a.dir, "socket"), echo);
    const address = (await env.ok(["git-annex-p2p-iroh", "address"], { on: a, cwd })).trim();
    const off = await env.start(["git-annex-p2p-iroh", address, fakeAnnex.path], { on: a, cwd });
    await off.says(/serving endpoint/);
    const run = await env.iroh([unknownAddress()], { on: a, stdin: "" });
    assert.match(run.stderr, /no route to it is known/);
    assert.equal(ear.stdout, "ready\n");

    // The same with lan = true shows that the ear hears.
    const on = await env.start(["git-annex-p2p-iroh", address, fakeAnnex.path], {
      on: a,
      cwd,
      env: LAN,
    });
    await ear.says(/response from 10\.77\.0\.1/);
    const before = ear.stdout;
    await env.iroh([unknownAddress()], { on: a, stdin: "", env: LAN });
    await ear.says(/query from 10\.77\.0\.1/);

    // At its end the listener says goodbye, and sends nothing afterwards.
    on.kill("SIGTERM");
    await on.ended;
    await ear.says(/goodbye from 10\.77\.0\.1/);
    assert(!before.includes("goodbye"));
    const count = ear.stdout.length;
    await env.iroh([unknownAddress()], { on: b, stdin: "", env: LAN }); // asks, and gets no answer
    assert.doesNotMatch(ear.stdout.slice(count), /response/);
  },
);

scenario("lan: a listener answers an iroh program that asks for endpoints and nothing else", {
  waits: true,
  needs,
}, async (env) => {
  const { b } = await makeNeighbours(env);
  const ear = await listenToMulticast(env, b);
  const ask = () => env.ok(python("mdns_ask.py"), { on: b });
  for (let i = 0; i < 2; i++) {
    const heard = await hearsNext(env, ear, /query from 10\.77\.0\.2\n(response .*)\n/, ask);
    assert.match(heard, /\nresponse from 10\.77\.0\.1 10\.77\.0\.1\n$/);
  }
});

scenario("lan: a listener announces a changed network unasked", {
  waits: true,
  needs,
  limitMs: 120_000,
}, async (env) => {
  const { a, b, third, listener } = await makeNeighbours(env);
  const ear = await listenToMulticast(env, b);
  const moved = /response from 10\.77\.0\.11 .*\n/;
  const change = () => changeAddress(env, a, "10.77.0.1", "10.77.0.11");
  assert.match(await hearsNext(env, ear, moved, change), / 10\.77\.0\.11\n/);

  await hearsNext(env, ear, moved, async () => {
    await env.ok(["ip", "link", "set", "eth0", "down"], { on: a });
    await untilQuiet(env, ear); // long enough for the listener to notice
    await env.ok(["ip", "link", "set", "eth0", "up"], { on: a });
  });

  // On each of two networks, the listener announces its address on that network.
  const far = third.prefix.at(-1)!; // its namespace
  await env.ok(["ip", "link", "add", "eth1", "type", "veth", "peer", "name", "far1"], { on: a });
  await env.ok(["ip", "link", "set", "far1", "netns", far], { on: a });
  await env.ok(["ip", "addr", "add", "10.78.0.254/24", "dev", "far1"], { on: third });
  await env.ok(["ip", "link", "set", "far1", "up"], { on: third });
  const farEar = await listenToMulticast(env, third, "10.78.0.254");
  const second = await hearsNext(env, ear, moved, async () => {
    await env.ok(["ip", "addr", "add", "10.78.0.1/24", "dev", "eth1"], { on: a });
    await env.ok(["ip", "link", "set", "eth1", "up"], { on: a });
  });
  assert.equal(second, "response from 10.77.0.11 10.77.0.11\n");
  await farEar.says(/response/);
  await untilQuiet(env, farEar);
  listener.kill("SIGTERM");
  await farEar.says(/goodbye/);
  const lines = (ear: Started) => [...new Set(ear.stdout.trim().split("\n").slice(1))].sort();
  assert.deepEqual(lines(farEar), [
    "goodbye from 10.78.0.1",
    "response from 10.78.0.1 10.78.0.1",
  ]);
  assert.doesNotMatch(ear.stdout, /query|10\.78/);
});

scenario("lan, IPv6: a listener announces itself, and says goodbye", { needs }, async (env) => {
  const { b, listener } = await makeNeighbours(env, "lan, IPv6");
  const ear = await listenToMulticast(env, b, "eth0");
  await ear.says(/response from [0-9a-f:]+\S* fd77::1\n/);
  assert.doesNotMatch(ear.stdout, /goodbye/);
  listener.kill("SIGTERM");
  assert.equal((await listener.ended).code, 0);
  await ear.says(/goodbye from [0-9a-f:]+/);
  await untilQuiet(env, ear);
  assert.match(ear.stdout, /goodbye.*\n$/); // nothing after it
});
