/** lib/ has the structure that docs/architecture.md describes. */

import assert from "node:assert/strict";
import { dirname, join, relative } from "node:path";

const root = dirname(import.meta.dirname!);
const PAGES = ["docs/architecture.md", "docs/control-socket.md", "CONTRIBUTING.md"];
const MAX_TERMS = 15;

/** Matches what is loaded with a module: what it imports, but not on demand, nor for its types alone. */
const LOADED_AT_ONCE = /^(?:import|export) (?!type\b)[^;"]*\bfrom "([^"]+)";/gm;

/** The module that only one room may import. */
const IROH_JS = "@number0/iroh", IROH_ROOM = "iroh";

/** Imports of each module of the program, without its unit tests, by path from the root. */
const imports: ReadonlyMap<string, readonly string[]> = await importsOf("lib");
const page = await text("docs/architecture.md");

Deno.test("lib/ holds folders and no module", async () => {
  const entries = await Array.fromAsync(Deno.readDir(join(root, "lib")));
  assert.deepEqual(entries.filter(({ isDirectory }) => !isDirectory).map(({ name }) => name), []);
});

Deno.test("docs/architecture.md: its table has every room of lib/, and no other room", async () => {
  const entries = await Array.fromAsync(Deno.readDir(join(root, "lib")));
  const rooms = entries.filter(({ isDirectory }) => isDirectory).map(({ name }) => name);
  assert.deepEqual(roomsOf(page).toSorted(), rooms.toSorted());
});

Deno.test("a room of lib/ imports only from rooms below it", () => {
  const rooms = roomsOf(page), upward: string[] = [];
  for (const [from, targets] of imports) {
    for (const to of targets.filter((target) => target.startsWith("lib/"))) {
      if (rooms.indexOf(roomOf(from)) > rooms.indexOf(roomOf(to))) upward.push(`${from} → ${to}`);
    }
  }
  assert.deepEqual(upward, []);
});

Deno.test("rooms of lib/ have no import cycle", () => {
  const graph = new Map<string, string[]>();
  for (const [from, targets] of imports) {
    const others = targets.filter((to) => to.startsWith("lib/")).map(roomOf)
      .filter((room) => room !== roomOf(from));
    graph.set(roomOf(from), [...graph.get(roomOf(from)) ?? [], ...others]);
  }
  assert.equal(cycleIn(graph), undefined);
});

Deno.test("files of lib/ have no import cycle", () => {
  assert.equal(cycleIn(imports), undefined);
});

Deno.test("of the project, modules of lib/ import only other modules of lib/ and deno.json", () => {
  const outside = [...new Set([...imports.values()].flat())]
    .filter((target) => !target.startsWith("lib/") && !isPackage(target) && target !== "deno.json");
  assert.deepEqual(outside, []);
});

Deno.test(`only lib/${IROH_ROOM}/ imports ${IROH_JS}`, () => {
  const importers = [...imports].filter(([, targets]) => targets.includes(IROH_JS));
  assert.notEqual(importers.length, 0);
  const rooms = new Set(importers.map(([from]) => roomOf(from)));
  assert.deepEqual([...rooms], [IROH_ROOM]);
});

/** What only one file of lib/console/ does, since each call needs the same care. */
const ONLY_THERE: [file: string, does: string, call: RegExp][] = [
  // Deno throws if a value is not UTF-8.
  ["environment.ts", "reads variables of the environment", /\bDeno\.env\.(get|has)\(/],
  // Parts of a text may come from a peer, or be the name of a folder.
  ["stderr.ts", "writes to stderr", /\bDeno\.stderr\.write/],
  ["stdout.ts", "writes to stdout", /\bDeno\.stdout\.write/],
];

for (const [file, does, call] of ONLY_THERE) {
  Deno.test(`only lib/console/${file} ${does}`, async () => {
    const found: string[] = [];
    for (const path of imports.keys()) if (call.test(await text(path))) found.push(path);
    assert.deepEqual(found, [`lib/console/${file}`]);
  });
}

// Test files are threads of one process. A test that emptied PATH for a moment made another one fail to find git.
Deno.test("no test changes the environment, the folder or the umask, which all test files share", async () => {
  const files = (await Promise.all(["lib", "tasks", "tests"].map(testModules))).flat();
  assert(files.length > 100, `${files.length} files`);
  const change = /\b(?:Deno\.(?:env\.(?:set|delete)|chdir|umask)|process\.(?:chdir|umask))\(/;
  const found: string[] = [];
  for (const path of files) if (change.test(await text(path))) found.push(path);
  assert.deepEqual(found, []);
});

Deno.test("a dial on dumbpipe's protocol loads neither sessions nor lanes", async () => {
  const loaded = await loadedWith("lib/connect/pipe.ts", "lib/connect/standalone.ts");
  assert(loaded.has("lib/protocol/dumbpipe.ts"));
  const others = [...loaded].filter((path) => /lane|session|carrier|listener\//.test(path));
  assert.deepEqual(others, []);
});

Deno.test("a connect through the listener loads no module that takes long to load", async () => {
  const loaded = await loadedWith(
    "main.ts",
    "lib/connect/pipe.ts",
    "lib/connect/via_listener.ts",
  );
  assert(loaded.has("lib/protocol/session.ts"));
  const others = [...loaded].filter((target) => !/^(?:main\.ts|lib\/|deno\.json)/.test(target));
  // With others, such as node:net and node:process, Deno sleeps for 3 ms to measure the speed of a clock.
  assert.deepEqual(others.toSorted(), ["node:os", "node:path"]);
});

for (const name of PAGES) {
  Deno.test(`${name}: every module it names exists`, async () => {
    const named = [...(await text(name)).matchAll(/(?:[\w.-]+\/)*\w+\.ts\b/g)].map(([path]) =>
      path
    );
    assert.notEqual(named.length, 0);
    const missing = new Set(named.filter((path) => !exists(path) && !exists(join("lib", path))));
    assert.deepEqual([...missing], []);
  });
}

Deno.test(`docs/architecture.md: its glossary has at most ${MAX_TERMS} terms`, () => {
  const terms = [...section(page, "Glossary").matchAll(/^- \*\*(.+?)\*\*: /gm)].map(([, term]) =>
    term
  );
  assert.notEqual(terms.length, 0);
  assert(terms.length <= MAX_TERMS, `${terms.length} terms`);
});

/** Returns the rooms in the order of the page's table, the highest first. */
function roomsOf(page: string): string[] {
  return [...section(page, "Rooms").matchAll(/^\| `lib\/(\w+)\/`/gm)].map(([, room]) => room!);
}

/** Returns the text of a page under a heading of the second level. */
function section(page: string, heading: string): string {
  const part = page.split(/^## /m).find((part) => part.startsWith(`${heading}\n`));
  assert(part, `no section ${heading}`);
  return part;
}

/** Returns what is loaded with modules: files by their paths from the root, packages by name. */
async function loadedWith(...paths: readonly string[]): Promise<Set<string>> {
  const loaded = new Set<string>();
  const load = async (path: string) => {
    if (loaded.has(path)) return;
    loaded.add(path);
    if (!path.endsWith(".ts")) return;
    for (const [, specifier] of (await text(path)).matchAll(LOADED_AT_ONCE)) {
      await load(resolved(specifier!, dirname(path)));
    }
  };
  for (const path of paths) await load(path);
  return loaded;
}

function roomOf(path: string): string {
  return path.split("/")[1]!;
}

function isPackage(target: string): boolean {
  return /^(node:|@?[a-z0-9-]+(\/|$))/.test(target) && !exists(target);
}

/**
 * Returns what each module in a folder imports, statically, dynamically or as a type: files by their paths
 * from the root, packages by name.
 */
async function importsOf(folder: string): Promise<Map<string, string[]>> {
  const found = new Map<string, string[]>();
  for await (const { name, isDirectory } of Deno.readDir(join(root, folder))) {
    const path = `${folder}/${name}`;
    if (isDirectory) {
      for (const [inner, targets] of await importsOf(path)) found.set(inner, targets);
    } else if (name.endsWith(".ts") && !name.endsWith("_test.ts")) {
      const specifiers = (await text(path)).matchAll(/\b(?:from|import)\s*\(?\s*"([^"]+)"/g);
      found.set(path, [...specifiers].map(([, specifier]) => resolved(specifier!, folder)));
    }
  }
  return found;
}

/** Returns the paths of what runs in the process of the tests: test files, and modules of tests/. */
async function testModules(folder: string): Promise<string[]> {
  const entries = await Array.fromAsync(Deno.readDir(join(root, folder)));
  const found = await Promise.all(entries.map(({ name, isDirectory }) => {
    const path = `${folder}/${name}`;
    if (isDirectory) return testModules(path);
    return path.startsWith("tests/") && path.endsWith(".ts") || path.endsWith("_test.ts")
      ? [path]
      : [];
  }));
  return found.flat();
}

function resolved(specifier: string, folder: string): string {
  if (!specifier.startsWith(".")) return specifier;
  return relative(root, join(root, folder, specifier)).replaceAll("\\", "/");
}

/** Returns a cycle of a graph as text, or undefined if it has none. */
function cycleIn(graph: ReadonlyMap<string, readonly string[]>): string | undefined {
  const done = new Set<string>();
  const follow = (node: string, path: readonly string[]): string | undefined => {
    if (path.includes(node)) return [...path.slice(path.indexOf(node)), node].join(" → ");
    if (done.has(node)) return undefined;
    for (const next of graph.get(node) ?? []) {
      const cycle = follow(next, [...path, node]);
      if (cycle) return cycle;
    }
    done.add(node);
    return undefined;
  };
  for (const node of graph.keys()) {
    const cycle = follow(node, []);
    if (cycle) return cycle;
  }
  return undefined;
}

function exists(path: string): boolean {
  try {
    return Deno.statSync(join(root, path)).isFile;
  } catch {
    return false; // not there
  }
}

async function text(path: string): Promise<string> {
  return await Deno.readTextFile(join(root, path));
}
