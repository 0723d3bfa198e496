/** What a release contains beside the program works with the programs that it is for. */

import assert from "node:assert/strict";
import { dirname, join } from "node:path";
import config from "../deno.json" with { type: "json" };
import { CALLS, OPTIONS, SETTINGS } from "../lib/console/manual.ts";
import { PROGRAM } from "../lib/console/program.ts";
import { extras } from "../tasks/extras.ts";
import { thirdPartyLicenses } from "../tasks/licenses.ts";
import { scenario, type TestEnv } from "./testenv.ts";

const COMMANDS = ["address", "doctor", "invite", "join", "ping", "status", "up"];

/** Writes one of the extras. @returns Its path. */
async function written(env: TestEnv, name: string): Promise<string> {
  const path = join((await env.host("host")).dir, name);
  await Deno.mkdir(dirname(path), { recursive: true });
  await Deno.writeTextFile(path, extras().get(name)!);
  return path;
}

scenario("the man page is valid, and explains every call, option and setting", {
  needs: ["groff"],
}, async (env) => {
  const page = await written(env, `${PROGRAM}.1`);
  const run = await env.run(["groff", "-man", "-ww", "-Tascii", "-P-cbou", page]);
  assert.deepEqual([run.code, run.stderr], [0, ""]);
  const text = run.stdout.replaceAll(/\s+/g, " ");
  for (const { term } of [...CALLS, ...OPTIONS, ...SETTINGS]) assert(text.includes(term), term);
});

scenario("completion in bash", { needs: ["bash"] }, async (env) => {
  const file = await written(env, `completions/${PROGRAM}.bash`);
  const complete = async (...words: string[]) => {
    const script = `. "$0"; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _git_annex_p2p_iroh
      printf '%s\\n' "\${COMPREPLY[@]}"`;
    const out = await env.ok(["bash", "-c", script, file, PROGRAM, ...words]);
    return out.split("\n").filter((line) => line).toSorted();
  };
  assert.deepEqual(await complete(""), COMMANDS);
  assert.deepEqual(await complete("do"), ["doctor"]);
  assert.deepEqual(await complete("ping", "--c"), ["--count"]);
  for (const first of ["endpointx", "join"]) { // a file in the folder
    assert((await complete(first, "comp")).includes("completions"));
  }
});

scenario("completion in fish", { needs: ["fish"] }, async (env) => {
  const file = await written(env, `completions/${PROGRAM}.fish`);
  const complete = async (line: string) => {
    const out = await env.ok(["fish", "-c", `source $argv[1]; complete -C $argv[2]`, file, line]);
    return out.split("\n").filter((line) => line).map((line) => line.split("\t")[0]).toSorted();
  };
  assert.deepEqual(await complete(`${PROGRAM} `), COMMANDS);
  assert.deepEqual(await complete(`${PROGRAM} --h`), ["--help"]);
  assert((await complete(`${PROGRAM} join comp`)).includes("completions/"));
});

scenario("completion in zsh", { needs: ["zsh"] }, async (env) => {
  const file = await written(env, `completions/_${PROGRAM}`);
  // Completes on a pseudo-terminal, and prints the line that comes of it.
  const script = `
    zmodload zsh/zpty
    zpty z zsh -f -i
    zpty -w z 'PS1=; unsetopt zle_bracketed_paste; fpath=('\${(q)1:h}' $fpath); autoload -U compinit; compinit -u -D; print READY'
    zpty -r z line '*READY*READY*'
    zpty -n -w z '${PROGRAM} do'$'\\t'
    zpty -r z line '*doctor*'
    print -r -- "$line"`;
  const run = await env.run(["zsh", "-f", "-c", script, "zsh", file]);
  assert.match(run.stdout, /doctor/);
});

Deno.test("a release contains the license of every package that the program imports", async () => {
  const text = await thirdPartyLicenses();
  const ofTests = ["fast-check", "@cfworker/json-schema", "jsqr"];
  for (const name of Object.keys(config.imports)) {
    assert.equal(text.includes(`${name} `) || text.includes(`(${name})`), !ofTests.includes(name));
  }
  assert.match(text, /^thunky \d[\d.]*, MIT\n-+\n\n.*MIT.*\n\nCopyright.* Mathias Buus/m);
  assert.match(text, /^Copyright .* the Deno authors\n\nPermission is hereby granted/m);
  assert.match(text, /^Copyright .* N0, INC\.\n\nPermission is hereby granted/m);
  assert.doesNotMatch(text, /undefined|\r/);
});
