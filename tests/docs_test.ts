/** The documents describe the program as it is, and their links lead somewhere. */

import assert from "node:assert/strict";
import { dirname, join, relative } from "node:path";
import { SETTINGS } from "../lib/console/manual.ts";
import { HOMEPAGE, ISSUES_URL } from "../lib/console/program.ts";
import { parseSettings } from "../lib/repository/settings.ts";
import { extras } from "../tasks/extras.ts";
import { programCommand } from "../tasks/program.ts";

/** Maximum length of README.md, in words as wc(1) counts them: README.md is the invitation, not the manual. */
const MAX_README_WORDS = 1300;
/** Info string of a fenced block that holds the output of `--help`. */
const HELP_BLOCK = "help";

const root = dirname(import.meta.dirname!);

/** A fenced block of Markdown. */
interface Block {
  readonly info: string;
  readonly text: string;
}

/** Markdown without its fenced blocks, and these blocks. */
interface Markdown {
  readonly prose: string;
  readonly blocks: readonly Block[];
}

Deno.test("docs: each help text equals the output of --help", async () => {
  const help = await helpOutput();
  let found = 0;
  for (const [name, text] of await documents()) {
    const { prose, blocks } = parseMarkdown(text);
    for (const { info, text } of blocks) {
      if (info !== HELP_BLOCK && !isHelp(text)) continue;
      assert.equal(text, help, name);
      found++;
    }
    assert(!isHelp(prose), `${name}: the help text is not in a fenced block`);
  }
  assert(found > 0, `no fenced block marked as ${HELP_BLOCK}`);
});

Deno.test("docs: the man page has each command and option that --help lists", async () => {
  const help = await helpOutput();
  const page = extras().get("git-annex-p2p-iroh.1")!.replaceAll("\\-", "-");
  const bold = [...page.matchAll(/^\.B (.*)$/gm)].map(([, term]) => term!);
  const commands = [...help.matchAll(/^(?:Usage:| {6}) git-annex-p2p-iroh (.*)$/gm)]
    .map(([, usage]) => usage!);
  assert(commands.length > 0, "--help lists no commands");
  for (const usage of commands) {
    const command = usage.replaceAll(/ \[(?:OPTION|-.*?)\]/g, "");
    assert(bold.includes(command), `the man page does not explain the command ${command}`);
    assert(page.includes(`\ngit-annex-p2p-iroh ${usage}\n`), `not in its synopsis: ${usage}`);
  }
  const options = [...help.matchAll(/^ {2}(-\w, --\S+(?: [A-Z]+)?)(?: {2,}|$)/gm)]
    .map(([, option]) => option!);
  assert(options.length > 0, "--help lists no options");
  for (const option of options) {
    assert(bold.includes(option), `the man page does not explain the option ${option}`);
  }
});

Deno.test("docs: README.md is short", async () => {
  const words = (await Deno.readTextFile(join(root, "README.md"))).split(/\s+/).filter(Boolean);
  assert(words.length <= MAX_README_WORDS, `README.md has ${words.length} words`);
});

Deno.test("docs: each relative link leads to a file and a heading that exist", async () => {
  const problems: string[] = [];
  for (const [name, text] of await documents()) {
    const links = linksOf(parseMarkdown(text).prose).filter((link) => !/^[a-z]+:/i.test(link));
    for (const link of links) {
      const problem = await whatIsWrongWith(link, name);
      if (problem) problems.push(`${name}: ${link}: ${problem}`);
    }
  }
  assert.deepEqual(problems, []);
});

Deno.test("docs: README.md links to the issue tracker, and every link to the home is right", async () => {
  const [, home] = /^(https:\/\/[^/]+\/)[^/]+\/[^/]+$/.exec(HOMEPAGE)!;
  const [project] = HOMEPAGE.split("/").slice(-1);
  for (const [name, text] of await documents()) {
    const links = linksOf(parseMarkdown(text).prose);
    if (name === "README.md") assert(links.includes(ISSUES_URL), `${name} lacks ${ISSUES_URL}`);
    for (const link of links.filter((link) => link.startsWith(home!) && link.includes(project!))) {
      assert(`${link}/`.startsWith(`${HOMEPAGE}/`), `${name}: ${link} is not at ${HOMEPAGE}`);
    }
  }
});

Deno.test("docs: each setting of the program is in docs/settings.md, and no other", async () => {
  const keys = settingKeys();
  const text = await Deno.readTextFile(join(root, "docs", "settings.md"));
  const described = [...text.matchAll(/^## `p2p-iroh\.(\S+)`$/gm)].map(([, key]) => key!);
  assert.deepEqual(described.toSorted(), keys.toSorted());
  const inTable = [...text.matchAll(/^\| \[`p2p-iroh\.(\S+)`\]/gm)].map(([, key]) => key!);
  assert.deepEqual(inTable.toSorted(), keys.toSorted());
  const variables = [...text.matchAll(/^- Environment: `GIT_ANNEX_P2P_IROH_(\w+)`/gm)]
    .map(([, variable]) => keyOf(variable!));
  assert.deepEqual(variables, described);
  assert.deepEqual(SETTINGS.map(({ term }) => term).toSorted(), keys.toSorted());
});

Deno.test("docs: no document names a setting that the program does not know", async () => {
  const keys = settingKeys();
  for (const [name, text] of await documents()) {
    for (const [, key] of text.matchAll(/(?<![\w-])p2p-iroh\.([a-z][a-z-]*)/g)) {
      assert(keys.includes(key!), `${name}: p2p-iroh.${key}`);
    }
  }
});

/** Returns what the program prints. */
async function helpOutput(): Promise<string> {
  const [program, ...args] = programCommand();
  const command = new Deno.Command(program!, { args: [...args, "--help"], stderr: "inherit" });
  const { code, stdout } = await command.output();
  assert.equal(code, 0);
  return new TextDecoder().decode(stdout);
}

function isHelp(text: string): boolean {
  return /^\s*Usage: git-annex-p2p-iroh /m.test(text);
}

/** Returns the documents that users and contributors read, by their paths in the repository. */
async function documents(): Promise<Map<string, string>> {
  const names = ["README.md", "CHANGELOG.md", "CONTRIBUTING.md"];
  for await (const { name } of Deno.readDir(join(root, "docs"))) {
    if (name.endsWith(".md")) names.push(join("docs", name));
  }
  const found = new Map<string, string>();
  for (const name of names.toSorted()) {
    const text = await readIfPresent(join(root, name));
    if (text !== undefined) found.set(name, text);
  }
  return found;
}

async function readIfPresent(path: string): Promise<string | undefined> {
  try {
    return await Deno.readTextFile(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
}

function parseMarkdown(text: string): Markdown {
  const blocks: Block[] = [];
  const fence = /^( *)(`{3,})(.*)\n((?:.*\n)*?)\1\2 *$/gm;
  const prose = text.replaceAll(fence, (_all, _indent, _fence, info: string, text: string) => {
    blocks.push({ info: info.trim(), text });
    return "";
  });
  return { prose, blocks };
}

/** Returns where links and images lead: `[text](target)` and `[name]: target`, but not in code. */
function linksOf(prose: string): string[] {
  const text = prose.replaceAll(/^(?: {4}|\t).*$/gm, (line) => /^\s+[-*\d]/.test(line) ? line : "")
    .replaceAll(/`[^`\n]*`/g, "code");
  const inline = text.matchAll(/\]\(\s*<?([^\s<>()]+)>?(?:\s+"[^"]*")?\s*\)/g);
  const named = text.matchAll(/^ {0,3}\[[^\]]+\]:\s*<?([^\s<>]+)>?/gm);
  return [...inline, ...named].map(([, target]) => target!);
}

/** Looks at a link. @param from Path of the document that it is in. */
async function whatIsWrongWith(link: string, from: string): Promise<string | undefined> {
  const [file = "", anchor] = link.split("#", 2);
  const path = file === "" ? join(root, from) : join(root, dirname(from), decodeURIComponent(file));
  if (relative(root, path).startsWith("..")) return "outside of the repository";
  const isThere = await Deno.stat(path).then(() => true, () => false);
  if (!isThere) return "no such file";
  if (anchor === undefined || !path.endsWith(".md")) return undefined;
  const headings = anchorsOf(await Deno.readTextFile(path));
  return headings.has(decodeURIComponent(anchor)) ? undefined : "no such heading";
}

/** Returns the anchors that GitHub gives to headings. */
function anchorsOf(text: string): Set<string> {
  const anchors = new Set<string>();
  for (const [, heading] of parseMarkdown(text).prose.matchAll(/^#{1,6} +(.*?) *#*$/gm)) {
    const shown = heading!.replaceAll(/\[([^\]]*)\]\([^)]*\)/g, "$1");
    const anchor = shown.toLowerCase().replaceAll(/[^\p{L}\p{N}\p{M}\p{Pc} -]/gu, "")
      .replaceAll(" ", "-");
    let unique = anchor;
    for (let i = 1; anchors.has(unique); i++) unique = `${anchor}-${i}`;
    anchors.add(unique);
  }
  return anchors;
}

/** Returns the settings that the program looks up, without the section. */
function settingKeys(): string[] {
  const keys: string[] = [];
  parseSettings("", (variable) => {
    keys.push(keyOf(variable.replace(/^GIT_ANNEX_P2P_IROH_/, "")));
    return undefined;
  });
  return keys;
}

/** Returns the setting that an environment variable overrides. @param variable Without its prefix. */
function keyOf(variable: string): string {
  return variable.toLowerCase().replaceAll("_", "-");
}

Deno.test("docs: each test that docs/security.md names is there", async () => {
  const text = await Deno.readTextFile(join(root, "docs", "security.md"));
  const named = text.split("\n").filter((line) => line.startsWith("| ") && line.includes(".ts`"))
    .flatMap((row) => [...row.matchAll(/`((?:lib|tests)\/[^`]+\.ts)`: ([^;|]+)/g)]);
  assert(named.length > 30, `${named.length}`);
  for (const [, file, title] of named) {
    const source = await Deno.readTextFile(join(root, file!));
    const begin = title!.trim().replace(/ \(.*/, "");
    assert(["`", '"'].some((quote) => source.includes(quote + begin)), `${file} has no ${begin}`);
  }
});
