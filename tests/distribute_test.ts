/** The files of a release: they install what they say, and nothing else than what was built. */

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { dirname, join } from "node:path";
import config from "../deno.json" with { type: "json" };
import { PROGRAM } from "../lib/console/program.ts";
import { archivedFiles, writeTarXz } from "../tasks/distribute/archives.ts";
import { containerFiles } from "../tasks/distribute/container.ts";
import { companions, PLACES } from "../tasks/distribute/files.ts";
import { formula } from "../tasks/distribute/homebrew.ts";
import { DOWNLOADS, installer } from "../tasks/distribute/installer.ts";
import { nfpmConfig } from "../tasks/distribute/nfpm.ts";
import { sbom } from "../tasks/distribute/sbom.ts";
import { releaseText } from "../tasks/release_text.ts";
import { hostTarget, TARGETS } from "../tasks/targets.ts";
import { killQuietly, scenario, type TestEnv } from "./testenv.ts";

const root = dirname(import.meta.dirname!);
const ARCHIVE = `${PROGRAM}-${hostTarget()}.tar.xz`;
/** In place of a compiled program. */
const STAND_IN = new TextEncoder().encode(`#!/bin/sh\necho ${PROGRAM} ${config.version}\n`);

async function sha256(path: string): Promise<string> {
  return createHash("sha256").update(await Deno.readFile(path)).digest("hex");
}

/** Writes an archive for this machine, and the installer for it. @returns Its checksum. */
async function makeRelease(folder: string): Promise<string> {
  await Deno.mkdir(folder);
  const path = join(folder, ARCHIVE);
  await writeTarXz(path, archivedFiles(STAND_IN, "", await companions()));
  const sum = await sha256(path);
  await Deno.writeTextFile(join(folder, "install.sh"), installer(new Map([[hostTarget(), sum]])));
  return sum;
}

/** Runs the installer. @param tools Scripts that it finds first on PATH, by name. */
async function install(env: TestEnv, folder: string, tools: Record<string, string> = {}) {
  const on = await env.host(`host ${crypto.randomUUID()}`);
  const bin = join(on.dir, "tools"), prefix = join(on.dir, "its prefix");
  await Deno.mkdir(bin);
  for (const [name, script] of Object.entries(tools)) {
    await Deno.writeTextFile(join(bin, name), `#!/bin/sh\n${script}\n`, { mode: 0o755 });
  }
  const server = Deno.serve(
    { port: 0, hostname: "127.0.0.1", onListen() {} },
    async ({ url }) => {
      const name = new URL(url).pathname.slice(1);
      return name === ARCHIVE
        ? new Response(await Deno.readFile(join(folder, name)))
        : new Response("no such file", { status: 404 });
    },
  );
  try {
    const run = await env.run(["sh", join(folder, "install.sh"), prefix], {
      on,
      env: {
        PATH: `${bin}:${on.env.PATH}`,
        [DOWNLOADS]: `http://127.0.0.1:${server.addr.port}`,
      },
    });
    const installed = await Array.fromAsync(Deno.readDir(prefix)).catch(() => []);
    return { ...run, prefix, isInstalled: installed.length > 0 };
  } finally {
    await server.shutdown();
  }
}

const onLinux = { needs: ["namespaces"] } as const; // GNU tar

scenario("install.sh installs the program and what goes with it", onLinux, async (env) => {
  const folder = join(env.dir, "release");
  await makeRelease(folder);
  const { code, stdout, stderr, prefix } = await install(env, folder);
  assert.deepEqual([code, stderr], [0, ""]);
  assert.match(stdout, new RegExp(`^${PROGRAM} ${config.version}\n.*/bin is not on PATH`));
  const { mode } = await Deno.stat(join(prefix, "bin", PROGRAM));
  assert.equal(mode! & 0o777, 0o755);
  for (const [name, text] of await companions()) {
    const place = PLACES[name];
    if (place) assert.equal(await Deno.readTextFile(join(prefix, place)), text, place);
  }
});

scenario("install.sh installs nothing whose checksum is another one", onLinux, async (env) => {
  const folder = join(env.dir, "release");
  await makeRelease(folder);
  const path = join(folder, ARCHIVE), bytes = await Deno.readFile(path);
  bytes[bytes.length >> 1]! ^= 1;
  await Deno.writeFile(path, bytes);
  const damaged = await install(env, folder);
  assert.equal(damaged.code, 1);
  assert.match(damaged.stderr, /^install\.sh: the checksum of .* is not that of the release/);
  assert(!damaged.isInstalled);
});

scenario("install.sh says on which machines there is no program", onLinux, async (env) => {
  const folder = join(env.dir, "release");
  await makeRelease(folder);
  const cases: [RegExp, Record<string, string>][] = [
    [/there is no program for Linux on riscv64/, {
      uname: "case $1 in -s) echo Linux ;; *) echo riscv64 ;; esac",
    }],
    [/this system is 32-bit; /, { getconf: "echo 32" }],
    [/this system has no glibc \(perhaps musl/, { getconf: "exit 1" }],
    [/this system has glibc 2\.31, and 2\.34 is needed: Debian 12, /, {
      getconf: "echo glibc 2.31",
    }],
    // wget says nothing by itself.
    [/cannot download http.*\.tar\.xz$/m, { curl: "exit 22" }],
    [/this release has no program for macos-arm64/, {
      uname: "case $1 in -s) echo Darwin ;; *) echo arm64 ;; esac",
    }],
  ];
  for (const [message, tools] of cases) {
    const run = await install(env, folder, tools);
    assert.equal(run.code, 1);
    assert.match(run.stderr, message);
    assert(!run.isInstalled);
  }
});

scenario("install.sh replaces a program that runs", onLinux, async (env) => {
  const folder = join(env.dir, "release");
  await makeRelease(folder);
  const { prefix } = await install(env, folder);
  const path = join(prefix, "bin", PROGRAM);
  await Deno.copyFile(await Deno.realPath("/bin/sleep"), path);
  const running = await env.start([path, "60"], { on: await env.host("other") });
  const script = `exec sh ${folder}/install.sh '${prefix}'`;
  const server = Deno.serve(
    { port: 0, hostname: "127.0.0.1", onListen() {} },
    async () => new Response(await Deno.readFile(join(folder, ARCHIVE))),
  );
  try {
    const url = `http://127.0.0.1:${server.addr.port}`;
    await env.ok(["sh", "-c", script], { env: { [DOWNLOADS]: url } });
  } finally {
    await server.shutdown();
    killQuietly(running.pid, "SIGKILL");
  }
  assert.deepEqual(await Deno.readFile(path), STAND_IN);
});

scenario("archives of the same files are identical", onLinux, async (env) => {
  const sums = [];
  for (const name of ["a", "b"]) sums.push(await makeRelease(join(env.dir, name)));
  assert.equal(sums[0], sums[1]);
});

Deno.test("release: each file that is installed is one of the companions", async () => {
  const names = [...(await companions()).keys()];
  for (const name of Object.keys(PLACES)) assert(names.includes(name), name);
});

Deno.test("release: packages have the version, the glibc and the places of everything", () => {
  const { version, overrides, contents } = nfpmConfig("amd64", "/folder") as {
    version: string;
    overrides: Record<string, { depends: string[] }>;
    contents: { src: string; dst: string }[];
  };
  assert.equal(version, config.version);
  assert.deepEqual(overrides.deb!.depends, ["libc6 (>= 2.34)"]);
  assert.deepEqual(overrides.rpm!.depends, ["glibc >= 2.34"]);
  assert(contents.some(({ dst }) => dst === `/usr/bin/${PROGRAM}`));
  assert.equal(contents.length, Object.keys(PLACES).length + 1);
});

Deno.test("release: the formula has an address and a checksum for each Unix system", async () => {
  const unix = Object.entries(TARGETS).filter(([, { format }]) => format !== "pe");
  const text = formula(new Map(unix.map(([target]) => [target, `${target}-sum`])));
  for (const [target] of unix) {
    const url = `releases/download/v${config.version}/${PROGRAM}-${target}.tar.xz"`;
    assert.match(text, new RegExp(`${RegExp.escape(url)}\n +sha256 "${target}-sum"`));
  }
  assert.match(text, /depends_on "git-annex"/);
  const archived = [PROGRAM, ...(await companions()).keys()];
  const installed = [...text.matchAll(/\w\.install (.*?)(?: =>.*)?$/gm)]
    .flatMap(([, names]) => JSON.parse(`[${names}]`) as string[]);
  assert(installed.length > 5, text);
  for (const name of installed) assert(archived.includes(name), name);
});

Deno.test("release: the container installs by install.sh, and each file that it copies is there", () => {
  const files = containerFiles("the installer");
  const copied = [...files.get("Dockerfile")!.matchAll(/^COPY (.*) \/opt\/$/gm)]
    .flatMap(([, names]) => names!.split(" "));
  assert.deepEqual(copied, ["install.sh", "serve.sh"]);
  for (const name of copied) assert(files.has(name), name);
  const compose = files.get("compose.yaml")!;
  for (const [, name] of compose.matchAll(/dockerfile: (.*)/g)) assert(files.has(name!), name);
  for (const [, name] of compose.matchAll(/- \.\/([^:]+):/g)) assert(files.has(name!), name);
  assert.match(compose, /network_mode: host/);
});

scenario("the container makes a repository once, and becomes the process that serves it", {
  needs: ["git-annex"],
}, async (env) => {
  const on = await env.host("container"), folder = join(on.dir, "annex");
  const bin = join(on.dir, "tools"), script = join(on.dir, "serve.sh");
  await Deno.mkdir(folder);
  await Deno.mkdir(bin);
  const fake = `#!/bin/sh\necho "$$ $*"\nexit 3\n`;
  await Deno.writeTextFile(join(bin, PROGRAM), fake, { mode: 0o755 });
  const text = containerFiles("").get("serve.sh")!;
  await Deno.writeTextFile(script, text.replaceAll("/annex", folder));
  const identities: string[] = [];
  for (let start = 0; start < 2; start++) {
    const options = { on, env: { PATH: `${bin}:${on.env.PATH}` } };
    const container = await env.start(["sh", script], options);
    const { code, stdout } = await container.ended;
    // Signals of the container's init go to this process.
    assert.deepEqual([code, stdout.split("\n").at(-2)], [3, `${container.pid} up`]);
    identities.push(await env.ok(["git", "config", "annex.uuid"], { on, cwd: folder }));
  }
  assert.equal(identities[0], identities[1]);
});

Deno.test("release: the list of parts has Deno, each package and the addon of each target", async () => {
  const { components } = JSON.parse(await sbom("1.2.3")) as {
    components: { name: string; version: string; hashes?: { alg: string; content: string }[] }[];
  };
  const names = components.map(({ name }) => name);
  for (const name of Object.keys(config.imports)) {
    const ofTests = ["fast-check", "@cfworker/json-schema", "jsqr"].includes(name);
    assert.equal(names.includes(name), !ofTests, name);
  }
  for (const { addon } of Object.values(TARGETS)) assert(names.includes(`@number0/iroh-${addon}`));
  for (const { name, version, hashes } of components) {
    if (name === "deno") assert.equal(version, "1.2.3");
    else assert.match(hashes![0]!.content, /^[0-9a-f]{128}$/, name);
  }
});

Deno.test("release: its text is the changelog's, names Deno, and says how to check the files", async () => {
  const changelog = await Deno.readTextFile(join(root, "CHANGELOG.md"));
  const text = releaseText(`v${config.version}`, changelog, "1.2.3");
  assert.match(text, /compiled with Deno 1\.2\.3\./);
  assert.match(text, /npx -y deno@1\.2\.3 task compile --target linux-x64/);
  assert.match(text, /SHA256SUMS/);
  assert(text.startsWith("The first version."));
  assert.throws(() => releaseText("v9.9.9", changelog, "1.2.3"), /no text under "## 9\.9\.9"/);
  assert.throws(() => releaseText("v2", "## 2\n\n## 1\n\nOne.\n", ""), /no text/);
  assert(!releaseText("v2", "## 2\n\nTwo.\n\n## 1\n\nOne.\n", "").includes("One."));
});
