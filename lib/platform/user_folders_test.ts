import assert from "node:assert/strict";
import { cacheFolder, temporaryFolder } from "./user_folders.ts";

const by = (values: Record<string, string>) => (name: string) => values[name];

Deno.test("cacheFolder() is where each system defines it", () => {
  const HOME = "/home/ann";
  assert.equal(cacheFolder(by({ HOME }), "linux"), "/home/ann/.cache");
  assert.equal(cacheFolder(by({ HOME, XDG_CACHE_HOME: "/var/ann" }), "linux"), "/var/ann");
  assert.equal(cacheFolder(by({ HOME, XDG_CACHE_HOME: "relative" }), "linux"), "/home/ann/.cache");
  assert.equal(
    cacheFolder(by({ HOME, XDG_CACHE_HOME: "/x" }), "darwin"),
    "/home/ann/Library/Caches",
  );
  assert.equal(cacheFolder(by({ HOME, LOCALAPPDATA: "C:\\Ann" }), "windows"), "C:\\Ann");
  assert.equal(cacheFolder(by({}), "linux"), undefined);
});

Deno.test("temporaryFolder() is TMPDIR if that is an absolute path", {
  ignore: Deno.build.os === "windows",
}, () => {
  assert.equal(temporaryFolder(by({ TMPDIR: "/var/tmp" })), "/var/tmp");
  for (const TMPDIR of ["", ".", "relative"]) assert.equal(temporaryFolder(by({ TMPDIR })), "/tmp");
  assert.equal(temporaryFolder(by({})), "/tmp");
});
