import assert from "node:assert/strict";
import { glibcVersion, isOldGlibc } from "../platform/glibc.ts";
import { checkGitRemote } from "./programs.ts";
import { checkSystem } from "./system.ts";

Deno.test("checkSystem: the glibc of Debian 12 is new enough, and that of Debian 11 is not", () => {
  assert.deepEqual(checkSystem("linux", "2.36", ""), { state: "ok", what: "glibc 2.36" });
  assert.equal(checkSystem("linux", "2.34", "").state, "ok");
  assert.deepEqual(checkSystem("linux", "2.31", ""), {
    state: "failure",
    what: "glibc 2.31 is older than 2.34, which iroh's native code needs",
    todo: "use Debian 12, Ubuntu 22.04, RHEL 9 or later",
  });
});

Deno.test("checkSystem: macOS from version 11 on, and Windows to connect only", () => {
  assert.equal(checkSystem("darwin", undefined, "20.1.0").state, "ok");
  assert.equal(checkSystem("darwin", undefined, "19.6.0").state, "failure");
  assert.match(
    checkSystem("windows", undefined, "10.0.19045").what,
    /^Windows 10.* cannot be reached/,
  );
});

Deno.test({
  name: "glibcVersion: the version of this system",
  ignore: Deno.build.os !== "linux",
  fn() {
    const version = glibcVersion()!;
    assert.match(version, /^2\.\d+$/);
    assert(!isOldGlibc(version));
    assert.equal(checkSystem().what, `glibc ${version}`);
  },
});

Deno.test("checkGitRemote: on Windows, the advice is a copy and no link", () => {
  assert.match(checkGitRemote("linux", "").todo!, /^make it a link to git-annex: ln -s/);
  const onWindows = checkGitRemote("windows", "").todo!;
  assert.match(onWindows, /^copy git-annex\.exe to git-remote-p2p-annex\.exe/);
});
