import assert from "node:assert/strict";
import { unzip, zip } from "./zip.ts";

const TEXT = new TextEncoder().encode("Deno ".repeat(1000));

Deno.test("zip: each file comes out as it went in", () => {
  const archive = zip([
    { name: "folder/ä", content: TEXT, mode: 0o755 },
    { name: "empty", content: new Uint8Array(), mode: 0o644 },
  ]);
  assert(archive.length < TEXT.length);
  assert.deepEqual(new Uint8Array(unzip(archive, "folder/ä")), TEXT);
  assert.equal(unzip(archive, "empty").length, 0);
  assert.throws(() => unzip(archive, "folder"), /no folder in the ZIP archive/);
});

Deno.test("zip: other programs read the archive, with its permissions", async () => {
  const path = await Deno.makeTempFile({ suffix: ".zip" });
  try {
    await Deno.writeFile(path, zip([{ name: "a/b", content: TEXT, mode: 0o755 }]));
    const script = "import sys, zipfile; z = zipfile.ZipFile(sys.argv[1]); i, = z.infolist(); " +
      "print(z.testzip(), i.filename, oct(i.external_attr >> 16), i.file_size, i.date_time[0])";
    const command = new Deno.Command("python3", { args: ["-c", script, path] });
    const { stdout } = await command.output();
    assert.equal(new TextDecoder().decode(stdout), "None a/b 0o100755 5000 1980\n");
  } finally {
    await Deno.remove(path);
  }
});

Deno.test("zip: a damaged archive is refused", () => {
  const archive = zip([{
    name: "a",
    content: crypto.getRandomValues(new Uint8Array(100)),
    mode: 0,
  }]);
  assert.throws(() => unzip(archive.subarray(0, 50), "a"), /not a ZIP archive/);
  const damaged = archive.slice();
  damaged[60]! ^= 1;
  assert.throws(() => unzip(damaged, "a"));
});
