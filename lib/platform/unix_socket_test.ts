import assert from "node:assert/strict";
import { join } from "node:path";
import { UnixSocket } from "./unix_socket.ts";
import { withFolder } from "../../tests/temporary_folder.ts";

Deno.test("UnixSocket.connect() reaches a socket whose path is too long for a socket address", async () => {
  await withFolder(async (dir) => {
    const deep = join(dir, "x".repeat(60), "ü".repeat(60));
    await Deno.mkdir(deep, { recursive: true });
    const path = join(deep, "socket");
    using listener = Deno.listen({ transport: "unix", path: join(dir, "s") });
    await Deno.rename(join(dir, "s"), path);
    assert(path.length > 108);
    const [ours, theirs] = await Promise.all([UnixSocket.connect(path), listener.accept()]);
    using _ours = ours, _theirs = theirs;
    await theirs.write(new TextEncoder().encode("hi"));
    const { value } = await ours.readable.getReader().read();
    assert.equal(new TextDecoder().decode(value), "hi");
    await Deno.rename(path, join(dir, "s")); // where Deno removes it
  });
});

Deno.test("UnixSocket.connect() fails if there is no socket", async () => {
  await withFolder(async (dir) => {
    await assert.rejects(UnixSocket.connect(join(dir, "none")), Deno.errors.NotFound);
    await assert.rejects(UnixSocket.connect(join(dir, "x".repeat(200))), Deno.errors.NotFound);
  });
});

Deno.test("UnixSocket reads ahead of a slow reader, up to a limit", async () => {
  await withFolder(async (dir) => {
    using listener = Deno.listen({ transport: "unix", path: join(dir, "s") });
    const [ours, theirs] = await Promise.all([
      UnixSocket.connect(join(dir, "s")),
      listener.accept(),
    ]);
    using _ours = ours, _theirs = theirs;
    let written = 0;
    const writing = (async () => {
      const chunk = new Uint8Array(64 * 1024);
      while (written < 64 * 1024 * 1024) written += await theirs.write(chunk);
      await theirs.closeWrite();
    })();
    let before = -1;
    while (written < 4 * 1024 * 1024 || before !== written) { // until the writer is held back
      before = written;
      await new Promise((resolve) => setTimeout(resolve, 200));
    }
    assert(written >= 4 * 1024 * 1024, `${written} bytes read ahead`);
    assert(written <= 6 * 1024 * 1024, `${written} bytes read ahead`);
    let read = 0;
    for await (const chunk of ours.readable) read += chunk.length;
    await writing;
    assert.equal(read, written);
    assert.equal(ours.bytesRead, written);
  });
});

Deno.test("UnixSocket takes little memory before the first byte", async () => {
  await withFolder(async (dir) => {
    const path = join(dir, "s");
    using _listener = Deno.listen({ transport: "unix", path });
    const before = Deno.memoryUsage().external;
    const connecting = Array.from({ length: 50 }, () => UnixSocket.connect(path));
    const sockets = await Promise.all(connecting);
    const grown = Deno.memoryUsage().external - before;
    for (const socket of sockets) socket[Symbol.dispose]();
    assert(grown < 50 * 4096, `${grown} bytes`);
  });
});
