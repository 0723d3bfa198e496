/** The version of Deno: `.tool-versions` names it, and no other place names another one. */

import assert from "node:assert/strict";
import { dirname, join } from "node:path";

const root = dirname(import.meta.dirname!);
/** The file that CI, releases and .ci/run read. asdf and mise know it, too. */
const VERSION_FILE = ".tool-versions";

/** Ways in which a command or a workflow, and a sentence, name a version of Deno. */
const COMMANDS = [/(?<![\w-])deno@v?([\w.-]*\w)/g, /\bdeno-version: *["']?v?([\w.-]+)/g];
const ALL = [...COMMANDS, /\bDeno\s+v?(\d+\.\d+\.\d+)/g];
/** The page whose sentences say with which version each figure was measured. */
const MEASUREMENTS = join("docs", "benchmarks.md");

Deno.test("version: each document and workflow names the Deno of .tool-versions", async () => {
  const version = await pinnedVersion(), others: string[] = [];
  let found = 0;
  for (const name of await places()) {
    for (const named of versionsIn(await text(name), name === MEASUREMENTS ? COMMANDS : ALL)) {
      found++;
      if (named !== version) others.push(`${name}: ${named}, not ${version}`);
    }
  }
  assert.deepEqual(others, []);
  assert(found > 0, "no place names a version");
});

Deno.test("version: another version is found in whatever way it is named", () => {
  const texts = [
    "npx -y deno@2.9.5 task",
    "deno@latest",
    "with: { deno-version: v2.x }",
    "Deno\n1.2.3",
  ];
  assert.deepEqual(texts.flatMap((text) => versionsIn(text)), ["2.9.5", "latest", "2.x", "1.2.3"]);
  assert.deepEqual(versionsIn("Deno 2.6 cannot; deno@$deno, setup-deno@v2"), []);
});

Deno.test("version: each workflow sets up the Deno of .tool-versions", async () => {
  for (const name of (await places()).filter((name) => name.endsWith(".yml"))) {
    const steps = (await text(name)).split(/^ {6}- /m);
    for (const step of steps.filter((step) => step.includes("setup-deno@"))) {
      assert.match(step, /^ {10}deno-version-file: \.tool-versions$/m, `${name}: ${step}`);
    }
  }
  assert.match(await text(".ci/run"), /\.tool-versions/);
});

Deno.test("version: the tasks of deno.json are those in CONTRIBUTING.md", async () => {
  const { tasks } = JSON.parse(await text("deno.json"));
  const rows = (await text("CONTRIBUTING.md")).matchAll(/^\| `deno task (\w+)` +\|/gm);
  assert.deepEqual([...rows].map(([, name]) => name).toSorted(), Object.keys(tasks).toSorted());
});

Deno.test("deno task ok stops at the first step that fails, with its exit status", async () => {
  const { tasks } = JSON.parse(await text("deno.json"));
  const cases = [
    [{ check: "exit 3", test: "echo tested" }, 3, ""],
    [{ check: "echo checked", test: "exit 4" }, 4, "checked\n"],
    [{ check: "echo checked", test: "echo tested" }, 0, "checked\ntested\n"],
  ] as const;
  for (const [steps, code, stdout] of cases) {
    const folder = await Deno.makeTempDir();
    try {
      const config = { tasks: { ok: tasks.ok, ...steps } };
      await Deno.writeTextFile(join(folder, "deno.json"), JSON.stringify(config));
      const command = new Deno.Command(Deno.execPath(), {
        args: ["task", "--quiet", "ok"],
        cwd: folder,
      });
      const output = await command.output();
      assert.deepEqual([output.code, new TextDecoder().decode(output.stdout)], [code, stdout]);
    } finally {
      await Deno.remove(folder, { recursive: true });
    }
  }
});

async function pinnedVersion(): Promise<string> {
  const [, version] = /^deno (\d+\.\d+\.\d+)$/m.exec(await text(VERSION_FILE)) ?? [];
  assert(version, `${VERSION_FILE} names no version of Deno`);
  return version;
}

/** Returns the versions that a text names. */
function versionsIn(text: string, patterns = ALL): string[] {
  return patterns.flatMap((pattern) => [...text.matchAll(pattern)].map(([, version]) => version!));
}

/** Returns the files that name a version, by their paths in the repository. */
async function places(): Promise<string[]> {
  const names = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", ".ci/run", ".ci/release"];
  for (const folder of ["docs", ".github/workflows"]) {
    for await (const { name } of Deno.readDir(join(root, folder))) {
      if (/\.(md|ya?ml)$/.test(name)) names.push(join(folder, name));
    }
  }
  return names;
}

function text(name: string): Promise<string> {
  return Deno.readTextFile(join(root, name));
}
