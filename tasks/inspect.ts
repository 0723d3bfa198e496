/**
 * deno task inspect --target NAME FILE
 *
 * Looks at a compiled program without starting it, and fails if its target cannot start it:
 *
 * - executable format, machine and size, and that the sources are embedded
 * - Linux: memory segments that do not share a page
 * - macOS: the first version that it is for, and each hash of its signature
 * - Windows: a section table that covers the file
 */

import { Buffer } from "node:buffer";
import { createHash } from "node:crypto";
import { parseArgs } from "node:util";
import { PROGRAM } from "../lib/console/program.ts";
import { AARCH64, glibcMinorOf, isElf, machineOf, pageProblems, X86_64 } from "./elf.ts";
import { GLIBC_MINOR } from "../lib/platform/glibc.ts";
import { MACOS_VERSION, type Target, targetOf } from "./targets.ts";

/** Minimum and maximum size of a program. Deno takes about 100 MB of it, and the packed addon 8 MB. */
const MIN_BYTES = 60e6, MAX_BYTES = 250e6;
/** Occurs in the embedded sources. Deno's own mark of embedded files occurs in each runtime, too. */
const PAYLOAD_MARK = PROGRAM;

/** Mach-O (mach-o/loader.h): header, load commands, and the processor of arm64. */
const MACH_O_MAGIC = 0xfeedfacf, MACH_HEADER_BYTES = 32, CPU_ARM64 = 0x0100000c;
const LC_CODE_SIGNATURE = 0x1d, LC_BUILD_VERSION = 0x32;
/** Code signatures (Apple's cs_blobs.h), big-endian. */
const SUPER_BLOB = 0xfade0cc0, CODE_DIRECTORY = 0xfade0c02, SHA256 = 2;
/** PE (PE Format, Microsoft): machine, 64-bit optional header, and the length of a section's header. */
const PE_X64 = 0x8664, PE32_PLUS = 0x20b, SECTION_BYTES = 40;

/** Returns why a target cannot start a program; nothing if it can. */
export function programProblems(program: Uint8Array, target: Target): string[] {
  const bytes = Buffer.from(program.buffer, program.byteOffset, program.byteLength);
  const problems: string[] = [];
  if (bytes.length < MIN_BYTES || bytes.length > MAX_BYTES) {
    problems.push(`the size is ${bytes.length} bytes, not ${MIN_BYTES} to ${MAX_BYTES}`);
  }
  if (!bytes.includes(PAYLOAD_MARK)) problems.push("the sources are not embedded");
  try {
    const inFormat = { elf: elfProblems, "mach-o": machOProblems, pe: peProblems }[target.format];
    problems.push(...inFormat(bytes, target));
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    problems.push(`a header leads out of the file: ${error.message}`);
  }
  return problems;
}

/** Returns why a target cannot load an addon; nothing if it can. */
export function addonProblems(addon: Uint8Array, target: Target): string[] {
  if (target.format !== "elf") return [];
  const problems = elfProblems(addon, target);
  const minor = glibcMinorOf(addon) ?? 0;
  if (minor > GLIBC_MINOR) {
    problems.push(`it needs glibc 2.${minor}, and the documents promise 2.${GLIBC_MINOR}`);
  }
  return problems;
}

function elfProblems(file: Uint8Array, { platform, pageBytes }: Target): string[] {
  if (!isElf(file)) return ["it is not an ELF file of 64 bits"];
  const machine = machineOf(file);
  const expected = platform.startsWith("aarch64-") ? AARCH64 : X86_64;
  if (machine !== expected) return [`it is for machine ${machine}, not ${expected}`];
  return pageProblems(file, pageBytes);
}

function machOProblems(bytes: Buffer): string[] {
  if (bytes.readUInt32LE(0) !== MACH_O_MAGIC) return ["it is not a Mach-O file of 64 bits"];
  if (bytes.readUInt32LE(4) !== CPU_ARM64) return ["it is not for arm64"];
  const commands = new Map<number, number>();
  let at = MACH_HEADER_BYTES;
  for (let left = bytes.readUInt32LE(16); left > 0; left--) {
    commands.set(bytes.readUInt32LE(at), at);
    at += bytes.readUInt32LE(at + 4);
  }
  const problems: string[] = [];
  const build = commands.get(LC_BUILD_VERSION), signature = commands.get(LC_CODE_SIGNATURE);
  if (build === undefined) problems.push("it names no version of macOS");
  else {
    const version = bytes.readUInt32LE(build + 12);
    const [major, minor] = [version >> 16, version >> 8 & 0xff];
    const [promisedMajor, promisedMinor] = MACOS_VERSION.split(".").map(Number);
    if (major > promisedMajor! || major === promisedMajor && minor > promisedMinor!) {
      problems.push(`it needs macOS ${major}.${minor}, and the documents promise ${MACOS_VERSION}`);
    }
  }
  if (signature === undefined) problems.push("it has no signature, without which arm64 kills it");
  else problems.push(...signatureProblems(bytes, signature));
  return problems;
}

/** Compares the hash of each page with the signature. @param command Offset of the load command. */
function signatureProblems(bytes: Buffer, command: number): string[] {
  const start = bytes.readUInt32LE(command + 8), size = bytes.readUInt32LE(command + 12);
  if (start + size !== bytes.length) return ["the signature does not end with the file"];
  if (bytes.readUInt32BE(start) !== SUPER_BLOB) return ["the signature has no super blob"];
  const directory = start + bytes.readUInt32BE(start + 16);
  if (bytes.readUInt32BE(directory) !== CODE_DIRECTORY) return ["the signature has no directory"];
  const hashes = directory + bytes.readUInt32BE(directory + 16);
  const slots = bytes.readUInt32BE(directory + 28), limit = bytes.readUInt32BE(directory + 32);
  const hashBytes = bytes.readUInt8(directory + 36),
    pageBytes = 1 << bytes.readUInt8(directory + 39);
  if (bytes.readUInt8(directory + 37) !== SHA256) return ["the signature is not of SHA-256"];
  if (limit !== start || slots !== Math.ceil(limit / pageBytes)) {
    return ["the signature does not cover the file"];
  }
  for (let slot = 0; slot < slots; slot++) {
    const page = bytes.subarray(slot * pageBytes, Math.min((slot + 1) * pageBytes, limit));
    const at = hashes + slot * hashBytes;
    if (!createHash("sha256").update(page).digest().equals(bytes.subarray(at, at + hashBytes))) {
      return [`the signature does not match the page at ${slot * pageBytes}`];
    }
  }
  return [];
}

function peProblems(bytes: Buffer): string[] {
  if (bytes.toString("latin1", 0, 2) !== "MZ") return ["it is not a PE file"];
  const header = bytes.readUInt32LE(0x3c);
  if (bytes.toString("latin1", header, header + 4) !== "PE\0\0") return ["it is not a PE file"];
  if (bytes.readUInt16LE(header + 4) !== PE_X64) return ["it is not for x64"];
  const optional = header + 24;
  if (bytes.readUInt16LE(optional) !== PE32_PLUS) return ["it is not of 64 bits"];
  const sections = optional + bytes.readUInt16LE(header + 20);
  let end = 0;
  for (let i = 0; i < bytes.readUInt16LE(header + 6); i++) {
    const at = sections + i * SECTION_BYTES;
    end = Math.max(end, bytes.readUInt32LE(at + 16) + bytes.readUInt32LE(at + 20));
  }
  return end === bytes.length ? [] : [`its sections end at ${end}, the file at ${bytes.length}`];
}

if (import.meta.main) {
  const { values, positionals } = parseArgs({
    args: Deno.args,
    options: { target: { type: "string" } },
    allowPositionals: true,
  });
  const target = targetOf(values.target ?? ""), path = positionals[0]!;
  const problems = programProblems(await Deno.readFile(path), target);
  for (const problem of problems) console.error(`${path}: ${problem}`);
  if (problems.length > 0) Deno.exit(1);
  console.log(`${path}: as ${values.target} needs it`);
}
