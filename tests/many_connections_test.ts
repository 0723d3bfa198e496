/** Connections leave no open file and no memory behind. */

import assert from "node:assert/strict";
import { echo, makePair, ROUTES, toolsFor } from "./pair.ts";
import { memoryOf, openFilesOf, scenario } from "./testenv.ts";
import { deno } from "./tools.ts";

for (const route of ROUTES) {
  const needs = toolsFor(route);

  // To the protocols of the listener, a connection through a relay is the same as a direct one.
  for (const protocol of route === "direct" ? ["dumbpipe", "mux"] : ["dumbpipe"]) {
    scenario(
      `${route}: 1200 connections by the ${protocol} protocol leave no open file and no memory behind`,
      {
        needs: ["namespaces", "proc", ...needs],
        limitMs: 240_000,
      },
      async (env) => {
        const pair = await makePair(env, route, echo);
        // A JavaScript program grows in steps of up to 16 MiB at first, in all by 30 MiB within 800 connections,
        // and by 10 MiB within the next 800. So the test compares the memory after 800 and 1200. A leak once took
        // 150 kB each, which would be 57 MiB.
        const dialer = await env.start(
          deno("many_dials.ts", pair.dialed, pair.relay?.url ?? "none", "1200", protocol),
          {
            on: pair.network.b,
            stdin: "open",
          },
        );
        const measured: { files: number; memory: number }[] = [];
        for (let done = 100; done <= 1200; done += 100) {
          await dialer.says(new RegExp(`^${done} done`, "m"));
          await env.until("all to be closed", () => pair.fakeAnnex.open === 0);
          const { pid } = pair.listener;
          measured.push({ files: await openFilesOf(pid), memory: await memoryOf(pid) });
          await dialer.write("\n");
        }
        assert.equal((await dialer.ended).code, 0);
        const files = measured.map(({ files }) => files);
        assert(files.at(-1)! <= files[0]! + 2, `open files: ${files}`);
        const memory = measured.map(({ memory }) => Math.round(memory));
        assert(memory.at(-1)! - memory[7]! < 20, `memory: ${memory} MiB`);
      },
    );
  }
}
