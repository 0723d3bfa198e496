import assert from "node:assert/strict";

const onUnix = { ignore: Deno.build.os === "windows" };

Deno.test("isReaderGone() sees that the reader of stdout has closed it", onUnix, async () => {
  const script = `
    import { isReaderGone } from "${new URL("reader_gone.ts", import.meta.url)}";
    console.log([isReaderGone(1), isReaderGone(99)].join());
    while (!isReaderGone(1)) await new Promise((resolve) => setTimeout(resolve, 10));
    Deno.exit(17);
  `;
  const child = new Deno.Command(Deno.execPath(), {
    args: ["eval", "--no-check", "--ext=ts", script],
    stdin: "null",
    stdout: "piped",
    stderr: "inherit",
  }).spawn();
  const reader = child.stdout.getReader();
  assert.equal(new TextDecoder().decode((await reader.read()).value), "false,true\n");
  await reader.cancel();
  assert.equal((await child.status).code, 17);
});
