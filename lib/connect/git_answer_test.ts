import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { GitAnswer } from "./git_answer.ts";

const AUTH = "AUTH 00000000-0000-0000-0000-000000000000 token\n";
const AUTH_SUCCESS = "AUTH-SUCCESS 00000000-0000-0000-0000-000000000000\n";
const REFS = packet("0123456789 refs/heads/main\0side-band-64k\n") + "0000";
const WANT = packet("want 0123456789\n") + "0000" + packet("done\n");
const NAK = packet("NAK\n"), PACK = packet(`\x01${pack("PACK and more")}`);
const REPORT = packet(`\x01${packet("unpack ok\n")}0000`);
const MESSAGE = "the answer of the peer has ended too early; repeat the command";
const ERROR = packet(`ERR ${MESSAGE}`), ERROR_ON_BAND = packet(`\x03${MESSAGE}`);
const DONE = "CONNECTDONE 0\n", FAILED = "CONNECTDONE 128\n", KILLED = "CONNECTDONE -9\n";

/** A packet of git (gitprotocol-common(5)). */
function packet(text: string): string {
  return (text.length + 4).toString(16).padStart(4, "0") + text;
}

/** Returns a pack with its checksum. */
function pack(content: string): string {
  return content + text([createHash("sha1").update(content).digest()]);
}

function data(text: string): string {
  return `DATA ${text.length}\n${text}`;
}

function bytes(text: string): Uint8Array {
  return Uint8Array.from(text, (character) => character.charCodeAt(0));
}

function text(pieces: readonly Uint8Array[]): string {
  return pieces.map((piece) => Array.from(piece, (byte) => String.fromCharCode(byte)).join(""))
    .join("");
}

/** What both ends say, in turn: git-annex here first. */
type Talk = readonly string[];
const FETCH: Talk = [AUTH, AUTH_SUCCESS, "CONNECT git-upload-pack\n", data(REFS), data(WANT)];
const PUSH: Talk = [
  AUTH,
  AUTH_SUCCESS,
  "CONNECT git-receive-pack\n",
  data(REFS),
  data(packet("0123456789 refs/heads/main") + "0000PACK"),
];

/** Returns what git-annex here gets. @param length Maximum length of the chunks. */
async function answered(talk: Talk, length: number): Promise<string> {
  const watch = new GitAnswer();
  let got = "";
  for (const [i, said] of talk.entries()) {
    for (let at = 0; at < said.length; at += length) {
      const chunk = bytes(said.slice(at, at + length));
      if (i % 2 === 0) watch.read(chunk);
      else got += text(await watch.write(chunk));
    }
  }
  return got + text([await watch.end()]);
}

/** Asserts what git-annex here gets, however the bytes are cut into chunks. */
async function assertAnswered(talk: Talk, expected: string): Promise<void> {
  for (const length of [1, 2, 3, 7, 64, Infinity]) {
    assert.equal(await answered(talk, length), expected);
  }
}

/** Returns what the peer has said. */
function said(talk: Talk): string {
  return talk.filter((_, i) => i % 2 === 1).join("");
}

Deno.test("GitAnswer changes nothing in an answer that is complete", async () => {
  const talks: Talk[] = [
    [...FETCH, data(NAK) + data(PACK + "0000") + DONE + DONE],
    [...FETCH, data(NAK), data(packet("have 1")), data(NAK + PACK) + data("0000") + DONE],
    [...FETCH.slice(0, 4), data("0000"), DONE], // there is nothing new
    [...FETCH, data(NAK + PACK + "0000")], // the connection has ended after it
    [AUTH, "AUTH-FAILURE\n"],
    [AUTH],
  ];
  for (const talk of talks) await assertAnswered(talk, said(talk));
});

Deno.test("GitAnswer changes nothing in what is not git's", async () => {
  const talks: Talk[] = [
    [
      AUTH,
      AUTH_SUCCESS,
      "VERSION 4\n",
      "VERSION 4\n",
      "GET 0 file key\n",
      data("0123").slice(0, -1),
    ],
    [AUTH, AUTH_SUCCESS, "NOTIFYCHANGE\n", "CHANGED refs/heads/main\n" + DONE],
    [...FETCH, data("not a packet") + DONE],
    [AUTH + "CONNECT git-upload-pack\n", AUTH_SUCCESS + data(REFS).slice(0, -4) + DONE], // not as git-annex does it
    [AUTH, "x".repeat(2_000)],
  ];
  for (const talk of talks) await assertAnswered(talk, said(talk));
});

Deno.test("GitAnswer holds back no beginning of a line that is not git's", async () => {
  for (const request of [AUTH, `${AUTH}VERSION`, `${AUTH}VERSION 1\n`]) {
    const watch = new GitAnswer();
    watch.read(bytes(request));
    for (const part of ["AUTH-", "SUCCESS 0\n", "x", "yz", "1\n2", "3"]) {
      assert.equal(text(await watch.write(bytes(part))), part);
    }
    assert.equal((await watch.end()).length, 0);
  }
});

Deno.test("GitAnswer ends an answer in order if only its last packet is missing", async () => {
  await assertAnswered(
    [...FETCH, data(NAK + PACK) + DONE + DONE],
    said(FETCH) + data(NAK + PACK) + data("0000") + DONE + DONE,
  );
  await assertAnswered(
    [...PUSH, data(REPORT) + DONE],
    said(PUSH) + data(REPORT) + data("0000") + DONE,
  );
});

Deno.test("GitAnswer gives git an error if more is missing", async () => {
  const cases: [talk: Talk, missing: string, rest: string][] = [
    [[...FETCH.slice(0, 3), DONE], ERROR, DONE],
    [[...FETCH.slice(0, 3), data(REFS.slice(0, -4)) + DONE], ERROR, DONE],
    [[...FETCH, DONE], ERROR, DONE],
    [[...FETCH, data(NAK) + DONE], ERROR, DONE],
    [[...FETCH, data(NAK + packet("\x02half")) + DONE], ERROR_ON_BAND, DONE],
    [[...PUSH, data(REPORT) + FAILED], ERROR_ON_BAND, FAILED],
    [[...FETCH, data(NAK + PACK) + FAILED], ERROR_ON_BAND, FAILED],
    [[...FETCH, data(NAK + PACK) + KILLED], ERROR_ON_BAND, KILLED],
    [[...FETCH, data(NAK + PACK.slice(0, -5)) + DONE], "\0".repeat(5) + ERROR_ON_BAND, DONE],
    [[...FETCH, data(NAK + PACK + "00") + DONE], "zzzz" + ERROR_ON_BAND, DONE],
    [[...PUSH, DONE], ERROR_ON_BAND, DONE],
    [[...PUSH.slice(0, 3), DONE], ERROR, DONE],
  ];
  for (const [talk, missing, rest] of cases) {
    const before = said(talk).slice(0, -rest.length);
    await assertAnswered(talk, before + data(missing) + rest);
  }
});

Deno.test("GitAnswer tells git why the peer refuses", async () => {
  const refusal = "ERROR this repository is read-only\n";
  const error = packet("ERR this repository is read-only");
  for (const talk of [FETCH.slice(0, 3), PUSH.slice(0, 3)]) {
    const rest = refusal + data("half").slice(0, -2);
    await assertAnswered([...talk, rest], AUTH_SUCCESS + data(error) + rest);
  }
});

Deno.test("GitAnswer adds nothing after an error of the peer, at which git ends", async () => {
  for (const error of [packet("ERR not our ref"), NAK + PACK + packet("\x03out of memory")]) {
    const talk = [...FETCH, data(error) + FAILED];
    await assertAnswered(talk, said(talk));
  }
});

// If all is up to date, git tells of its own shallow commits, and waits for nothing.
Deno.test("GitAnswer changes nothing in a push of a shallow repository that has nothing new", async () => {
  const shallow = packet("shallow 0123456789") + packet("shallow 9876543210");
  const talk = [...PUSH.slice(0, 4), data(`${shallow}0000`), DONE];
  await assertAnswered(talk, said(talk));
  const commands = [...PUSH.slice(0, 4), data(shallow + packet("0123456789 refs")), DONE];
  await assertAnswered(commands, AUTH_SUCCESS + data(REFS) + data(ERROR_ON_BAND) + DONE);
});

Deno.test("GitAnswer gives git an error if the connection is lost", async () => {
  const lost = (answer: string) => [...FETCH, answer];
  const before = said(FETCH);
  await assertAnswered(FETCH, before + data(ERROR));
  await assertAnswered(
    lost(data(NAK + PACK) + "DAT"),
    before + data(NAK + PACK) + data(ERROR_ON_BAND),
  );
  const cut = data(PACK).slice(0, -5); // the error is longer than what is missing of the message
  const missing = "\0".repeat(5) + ERROR_ON_BAND;
  await assertAnswered(lost(cut), before + cut + missing.slice(0, 5) + data(missing.slice(5)));
  const long = data(PACK + "x".repeat(1_000)).slice(0, -1_000);
  await assertAnswered(lost(long), before + long + ERROR_ON_BAND);
});

Deno.test("GitAnswer gives git the last byte of a pack", async () => {
  for (const length of [0, 1_000, 65_000, 200_000]) {
    const content = "PACK" + "x".repeat(length);
    const all = pack(content), last = packet(`\x01${all.at(-1)}`);
    const packets = (pack: string) =>
      (pack.match(/.{1,60000}/gs) ?? []).map((piece) => packet(`\x01${piece}`)).join("");
    const but = packets(all.slice(0, -1)), progress = packet("\x02all is done");
    const cases: [answer: string, missing: string][] = [
      [but, last + "0000"],
      [but + progress, last + "0000"],
      [but + last.slice(0, -1), last.at(-1) + "0000"],
      [but + last, "0000"],
      [packets(all.slice(0, -2)), ERROR_ON_BAND],
      [packets(all.slice(0, -2) + all.at(-1)), ERROR_ON_BAND],
    ];
    for (const [answer, missing] of cases) {
      const talk = [...FETCH, data(NAK + answer) + DONE],
        before = said(talk).slice(0, -DONE.length);
      for (const length of [4_096, Infinity]) {
        const got = await answered(talk, length);
        assert.equal(got.slice(before.length), data(missing) + DONE);
        assert(got.startsWith(before));
      }
    }
  }
});
