/** What `deno task compile` puts into a program: only packages that deno.lock vouches for, and always the same. */

import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { createHash } from "node:crypto";
import { dirname, join } from "node:path";
import { packAddon, PackedAddon } from "../lib/iroh/packed_addon.ts";
import { denortWith } from "../tasks/denort.ts";
import { segmentsOf } from "../tasks/elf.ts";
import { installPackages } from "../tasks/packages.ts";
import { hostTarget, TARGETS } from "../tasks/targets.ts";
import { zip } from "../tasks/zip.ts";
import { withFolder } from "./temporary_folder.ts";

const root = dirname(import.meta.dirname!);
const ADDON = "some-machine", NAME = `@number0/iroh-${ADDON}`;
/** What a copy of the project needs to compile itself. */
const SOURCES = ["deno.json", "deno.lock", "main.ts", "lib", "tasks", "LICENSE"];

async function ok(program: string, args: string[], options: Deno.CommandOptions = {}) {
  const output = await new Deno.Command(program, { args, ...options }).output();
  const text = [output.stdout, output.stderr].map((bytes) => new TextDecoder().decode(bytes));
  assert(output.success, text.join(""));
}

/** A registry of npm packages on the loopback, which has two packages like iroh's. */
class Registry implements AsyncDisposable {
  readonly #packages = new Map<string, Uint8Array>();
  readonly #server = Deno.serve(
    { port: 0, hostname: "127.0.0.1", onListen() {} },
    (request) => this.#answer(new URL(request.url)),
  );

  readonly url = `http://127.0.0.1:${this.#server.addr.port}/`;

  /** Adds a package. @returns The integrity of its archive. */
  async add(folder: string, name: string, files: Record<string, string>): Promise<string> {
    const content = join(folder, "package");
    await Deno.mkdir(content);
    const all = { "package.json": JSON.stringify({ name, version: "1.0.0" }), ...files };
    for (const [name, text] of Object.entries(all)) {
      await Deno.writeTextFile(join(content, name), text);
    }
    const archive = join(folder, "package.tgz");
    await ok("tar", ["-czf", archive, "-C", folder, "package"]);
    await Deno.remove(content, { recursive: true });
    const bytes = await Deno.readFile(archive);
    this.#packages.set(name, bytes);
    return integrityOf(bytes);
  }

  #answer({ pathname }: URL): Response {
    const path = decodeURIComponent(pathname).slice(1);
    for (const [name, archive] of this.#packages) {
      if (path.startsWith(`${name}/-/`)) return new Response(new Blob([archive.slice()]));
      if (path !== name) continue;
      const tarball = `${this.url}${name}/-/package-1.0.0.tgz`;
      const dist = { tarball, integrity: integrityOf(archive) };
      const versions = { "1.0.0": { name, version: "1.0.0", dist } };
      return Response.json({ name, versions, "dist-tags": { latest: "1.0.0" } });
    }
    return new Response("no such package", { status: 404 });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#server.shutdown();
  }
}

function integrityOf(bytes: Uint8Array): string {
  return `sha512-${createHash("sha512").update(bytes).digest("base64")}`;
}

/** Installs an addon from a registry. @param locked Returns what deno.lock has as its integrity. */
async function install(locked: (integrity: string) => string | undefined): Promise<string[]> {
  let names: string[] = [];
  await withFolder(async (folder) => {
    await using registry = new Registry();
    const iroh = await registry.add(folder, "@number0/iroh", {});
    const addon = await registry.add(folder, NAME, { "iroh.node": "addon" });
    const integrity = locked(addon);
    const lock = {
      version: "5",
      specifiers: { "npm:@number0/iroh@1.0.0": "1.0.0" },
      npm: {
        "@number0/iroh@1.0.0": { integrity: iroh, optionalDependencies: [NAME] },
        [`${NAME}@1.0.0`]: { ...(integrity ? { integrity } : {}), os: ["plan9"], cpu: ["mips"] },
      },
      workspace: { dependencies: ["npm:@number0/iroh@1.0.0"] },
    };
    const imports = { "@number0/iroh": "npm:@number0/iroh@1.0.0" };
    await Deno.writeTextFile(join(folder, "deno.json"), JSON.stringify({ imports }));
    await Deno.writeTextFile(join(folder, "deno.lock"), JSON.stringify(lock));
    const work = join(folder, "work");
    await Deno.mkdir(work);
    await Deno.writeTextFile(join(work, ".npmrc"), `registry=${registry.url}\n`);
    const options = { addon: ADDON, download: true, root: folder };
    names = (await installPackages(work, options)).map(({ name }) => name);
  });
  return names;
}

Deno.test("compile: an addon whose integrity is that of deno.lock is taken", async () => {
  assert.deepEqual(await install((integrity) => integrity), ["@number0/iroh", NAME]);
});

Deno.test("compile: an addon with another integrity than that of deno.lock is refused", async () => {
  const other = integrityOf(new TextEncoder().encode("another archive"));
  await assert.rejects(install(() => other), /deno install failed/);
});

Deno.test("compile: an addon without an integrity in deno.lock is refused", async () => {
  await assert.rejects(install(() => undefined), /deno\.lock has no integrity for .*some-machine/);
});

Deno.test("compile: deno.lock has the integrity of the addon of each target", async () => {
  const { npm } = JSON.parse(await Deno.readTextFile(join(root, "deno.lock")));
  for (const { addon } of Object.values(TARGETS)) {
    const locked = Object.entries<{ integrity?: string }>(npm)
      .filter(([name]) => name.startsWith(`@number0/iroh-${addon}@`));
    assert.equal(locked.length, 1, addon);
    assert.match(locked[0]![1].integrity ?? "", /^sha512-[\w+/]{86}==$/, addon);
  }
});

Deno.test({
  name:
    "compile: the runtime that Deno downloads for Linux gets the addon, and is padded to whole pages",
  ignore: Deno.build.os !== "linux",
  async fn() {
    await withFolder(async (folder) => {
      const packed = packAddon(new TextEncoder().encode("the addon"));
      const release = join(folder, "dl", "release", `v${Deno.version.deno}`);
      await Deno.mkdir(release, { recursive: true });
      // Any ELF file will do, since nothing is started. Deno finds it in its cache.
      const denort = await Deno.readFile(await Deno.realPath("/bin/sh"));
      const archive = zip([{ name: "denort", content: denort, mode: 0o755 }]);
      for (const { platform } of Object.values(TARGETS)) {
        await Deno.writeFile(join(release, `denort-${platform}.zip`), archive);
      }
      for (const target of Object.values(TARGETS)) {
        const made = await denortWith(packed, target, folder, { cache: folder });
        if (target.format !== "elf") {
          assert.equal(made, undefined);
          continue;
        }
        const { path, addon } = made!, padded = await Deno.readFile(path);
        assert.equal(padded.length % target.pageBytes, 0);
        assert(padded.length >= Math.max(...segmentsOf(denort).map(({ end }) => end)));
        assert.equal(Buffer.compare(padded.subarray(0, denort.length), denort), 0);
        const unpacked = new PackedAddon(path, addon).unpack();
        assert.equal(new TextDecoder().decode(unpacked), "the addon");
      }
    });
  },
});

Deno.test("compile: two programs of one source are identical, whatever their folders", async () => {
  await withFolder(async (folder) => {
    const standIn = join(folder, "addon"), programs: Buffer[] = [];
    await Deno.writeTextFile(standIn, "in place of the addon");
    for (const name of ["a", "another folder"]) {
      const copy = join(folder, name), tmp = join(copy, "tmp"), output = join(copy, `of ${name}`);
      await Deno.mkdir(tmp, { recursive: true });
      await ok("cp", ["-R", ...SOURCES.map((name) => join(root, name)), copy]);
      // Any executable of this system will do as runtime, since the program is not started.
      const env = { TMPDIR: tmp, TMP: tmp, DENORT_BIN: Deno.execPath() };
      const task = ["run", "--allow-all", "--frozen", "--cached-only", "tasks/compile.ts"];
      const args = [...task, "--target", hostTarget(), "--stand-in", standIn, "--output", output];
      await ok(Deno.execPath(), args, { cwd: copy, env });
      programs.push(Buffer.from(await Deno.readFile(output)));
      assert.deepEqual(await Array.fromAsync(Deno.readDir(tmp)), []);
    }
    assert(programs[0]!.equals(programs[1]!));
  });
});
