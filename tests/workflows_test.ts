/** The workflows of GitHub: what they run cannot change by itself, and they cover every target. */

import assert from "node:assert/strict";
import { dirname, join } from "node:path";
import { TARGETS } from "../tasks/targets.ts";

const folder = join(dirname(import.meta.dirname!), ".github", "workflows");

async function workflows(): Promise<Map<string, string>> {
  const found = new Map<string, string>();
  for await (const { name } of Deno.readDir(folder)) {
    found.set(name, await Deno.readTextFile(join(folder, name)));
  }
  return found;
}

Deno.test("workflows: each action is pinned by a commit, and its version stands beside it", async () => {
  for (const [name, text] of await workflows()) {
    for (const [, action] of text.matchAll(/uses: (.*)/g)) {
      if (action!.startsWith("./")) continue;
      assert.match(action!, /^[\w.-]+\/[\w.-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$/, name);
    }
  }
});

Deno.test("workflows: all use the same commit of an action", async () => {
  const pins = new Map<string, string>();
  for (const [, text] of await workflows()) {
    for (const [, action, pin] of text.matchAll(/uses: ([\w./-]+)@(.*)/g)) {
      assert.equal(pins.get(action!) ?? pin, pin, action);
      pins.set(action!, pin!);
    }
  }
});

Deno.test("workflows: no checkout leaves credentials, and no workflow has permissions by default", async () => {
  for (const [name, text] of await workflows()) {
    const checkouts = text.split(/^ {6}- /m).filter((step) => step.includes("actions/checkout@"));
    for (const step of checkouts) assert.match(step, /^ {10}persist-credentials: false$/m, name);
    assert.match(text, /^permissions: \{\}$/m, name);
  }
});

Deno.test("workflows: each target is compiled, inspected, and started on a machine", async () => {
  const all = await workflows(), ci = all.get("ci.yml")!, release = all.get("release.yml")!;
  const targets = Object.keys(TARGETS);
  assert(ci.includes(`target: [${targets.join(", ")}]`));
  for (const target of targets) {
    const { suffix } = TARGETS[target]!;
    const entry = new RegExp(
      `\\{ target: ${target}, (os: [\\w.-]+, )?suffix: "${suffix}" \\}`,
      "g",
    );
    const found = [...release.matchAll(entry)].map(([, os]) => os);
    assert(found.includes(undefined) && found.some((os) => os), target);
  }
  for (const text of [ci, release]) assert.match(text, /deno task inspect --target "\$TARGET"/);
});

Deno.test("workflows: every file that is published is attested", async () => {
  const release = (await workflows()).get("release.yml")!;
  const attested = release.indexOf("subject-path: dist/*"),
    published = release.indexOf("dist/*\n        env");
  assert(attested > 0 && published > attested);
});
