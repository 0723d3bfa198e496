import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { createHash } from "node:crypto";
import { PROGRAM } from "../lib/console/program.ts";
import { addonProblems, programProblems } from "./inspect.ts";
import { TARGETS } from "./targets.ts";

const PAGE_BYTES = 4096, CODE_BYTES = 2 * PAGE_BYTES + 100;
/** What is wrong with each of the small files below. */
const SMALL = /^the size is \d+ bytes/;

function problemsOf(file: Uint8Array, target: string): string[] {
  return programProblems(file, TARGETS[target]!).filter((problem) => !SMALL.test(problem));
}

/** Makes a Mach-O file with an ad-hoc signature. @param macos Version that it is for. */
function machO(macos = [11, 0]): Buffer {
  const code = Buffer.alloc(CODE_BYTES);
  code.write(PROGRAM, 1000);
  for (const [at, value] of [[0, 0xfeedfacf], [4, 0x0100000c], [16, 2], [20, 40]]) {
    code.writeUInt32LE(value!, at);
  }
  code.writeUInt32LE(0x32, 32); // LC_BUILD_VERSION
  code.writeUInt32LE(24, 36);
  code.writeUInt32LE(macos[0]! << 16 | macos[1]! << 8, 44);
  code.writeUInt32LE(0x1d, 56); // LC_CODE_SIGNATURE
  code.writeUInt32LE(16, 60);
  const slots = Math.ceil(CODE_BYTES / PAGE_BYTES), hashesAt = 44;
  const signature = Buffer.alloc(20 + hashesAt + 32 * slots);
  code.writeUInt32LE(CODE_BYTES, 64);
  code.writeUInt32LE(signature.length, 68);
  const words = [0xfade0cc0, signature.length, 1, 0, 20, 0xfade0c02, signature.length - 20];
  words.forEach((word, i) => signature.writeUInt32BE(word, 4 * i));
  const directory = signature.subarray(20);
  directory.writeUInt32BE(hashesAt, 16);
  directory.writeUInt32BE(slots, 28);
  directory.writeUInt32BE(CODE_BYTES, 32);
  directory.set([32, 2, 0, Math.log2(PAGE_BYTES)], 36);
  for (let slot = 0; slot < slots; slot++) {
    const page = code.subarray(slot * PAGE_BYTES, (slot + 1) * PAGE_BYTES);
    directory.set(createHash("sha256").update(page).digest(), hashesAt + 32 * slot);
  }
  return Buffer.concat([code, signature]);
}

/** Makes a PE file with one section. */
function pe(machine = 0x8664): Buffer {
  const bytes = Buffer.alloc(2000), header = 0x80, optional = header + 24;
  bytes.write("MZ");
  bytes.writeUInt32LE(header, 0x3c);
  bytes.write("PE\0\0", header);
  bytes.writeUInt16LE(machine, header + 4);
  bytes.writeUInt16LE(1, header + 6);
  bytes.writeUInt16LE(240, header + 20);
  bytes.writeUInt16LE(0x20b, optional);
  bytes.writeUInt32LE(1000, optional + 240 + 16);
  bytes.writeUInt32LE(1000, optional + 240 + 20);
  bytes.write(PROGRAM, 1500);
  return bytes;
}

Deno.test({
  name: "inspect: an executable of Linux suits its own machine alone",
  ignore: Deno.build.os !== "linux" || Deno.build.arch !== "x86_64",
  async fn() {
    const runtime = await Deno.readFile(Deno.execPath());
    assert.deepEqual(problemsOf(runtime, "linux-x64"), ["the sources are not embedded"]);
    const file = Buffer.concat([runtime, Buffer.from(PROGRAM)]);
    assert.deepEqual(programProblems(file, TARGETS["linux-x64"]!), []);
    assert.deepEqual(problemsOf(file, "linux-arm64"), ["it is for machine 62, not 183"]);
    assert.deepEqual(problemsOf(file, "macos-arm64"), ["it is not a Mach-O file of 64 bits"]);
    assert.deepEqual(problemsOf(file, "windows-x64"), ["it is not a PE file"]);
    assert.match(programProblems(file.subarray(0, 1e6), TARGETS["linux-x64"]!)[0]!, SMALL);
  },
});

Deno.test("inspect: the signature for macOS covers each byte", () => {
  assert.deepEqual(problemsOf(machO(), "macos-arm64"), []);
  for (const at of [100, PAGE_BYTES, CODE_BYTES - 1]) {
    const changed = machO();
    changed[at]! ^= 1;
    const page = Math.floor(at / PAGE_BYTES) * PAGE_BYTES;
    assert.deepEqual(problemsOf(changed, "macos-arm64"), [
      `the signature does not match the page at ${page}`,
    ]);
  }
  const longer = Buffer.concat([machO(), Buffer.alloc(1)]);
  assert.deepEqual(problemsOf(longer, "macos-arm64"), ["the signature does not end with the file"]);
});

Deno.test("inspect: a program for a later macOS than the documents promise", () => {
  assert.deepEqual(problemsOf(machO([10, 15]), "macos-arm64"), []);
  assert.deepEqual(problemsOf(machO([12, 3]), "macos-arm64"), [
    "it needs macOS 12.3, and the documents promise 11.0",
  ]);
});

Deno.test("inspect: the sections of a program for Windows end where it ends", () => {
  assert.deepEqual(problemsOf(pe(), "windows-x64"), []);
  assert.deepEqual(problemsOf(pe(0xaa64), "windows-x64"), ["it is not for x64"]);
  assert.deepEqual(problemsOf(pe().subarray(0, 1900), "windows-x64"), [
    "its sections end at 2000, the file at 1900",
  ]);
});

Deno.test("inspect: files that are cut off, or no programs, are refused without an exception", () => {
  for (const target of Object.keys(TARGETS)) {
    for (const file of [machO(), pe(), Buffer.from("\x7fELF\x02\x01", "latin1")]) {
      for (const length of [0, 1, 6, 63, 100, 300]) {
        assert.notDeepEqual(problemsOf(file.subarray(0, length), target), []);
      }
    }
  }
});

Deno.test("inspect: an addon that needs a later glibc than the documents promise", () => {
  const addon = Buffer.alloc(200);
  addon.write("\x7fELF\x02\x01", "latin1");
  addon.writeUInt16LE(62, 0x12);
  addon.write("GLIBC_2.34", 100);
  assert.deepEqual(addonProblems(addon, TARGETS["linux-x64"]!), []);
  addon.write("GLIBC_2.35", 100);
  assert.deepEqual(addonProblems(addon, TARGETS["linux-x64"]!), [
    "it needs glibc 2.35, and the documents promise 2.34",
  ]);
});
