import assert from "node:assert/strict";
import { join } from "node:path";
import { Lifecycle, NotWanted } from "./lifecycle.ts";
import { servingOf } from "./listener_file.ts";
import { HeldFile } from "../platform/held_file.ts";
import { thisHost } from "../platform/host.ts";
import { listenerFolder } from "../repository/listener_folder.ts";
import type { Repository } from "../repository/repository.ts";

const onUnix = { ignore: Deno.build.os === "windows" };

/** A repository with a socket on which a server listens, as git-annex does. */
class Scene implements AsyncDisposable {
  readonly repository: Repository;
  readonly socketPath: string;
  readonly signaturePath: string;
  /** The time in milliseconds. */
  now = 1_000_000;
  #folder: string;
  #server: Deno.UnixListener | undefined;
  #lifecycles: Lifecycle[] = [];

  private constructor(folder: string) {
    this.#folder = folder;
    this.repository = { gitDir: folder };
    this.socketPath = join(folder, "socket");
    this.signaturePath = join(listenerFolder(this.repository), "listener");
    this.listen();
  }

  static async make(): Promise<Scene> {
    const folder = await Deno.makeTempDir();
    const scene = new Scene(folder);
    await Deno.mkdir(listenerFolder(scene.repository), { recursive: true });
    return scene;
  }

  /** Begins a lifecycle with the real timeouts, by the clock of this scene. */
  async begin(
    parent: number = Deno.ppid,
    presentParent: () => number = () => Deno.ppid,
  ): Promise<Lifecycle> {
    const { repository, socketPath } = this;
    const limits = { lookIntervalMs: 1 }, now = () => this.now;
    const options = { repository, socketPath, parent, limits, now, presentParent };
    const lifecycle = await Lifecycle.begin(options);
    this.#lifecycles.push(lifecycle);
    return lifecycle;
  }

  /** Waits for a whole look of a lifecycle: it signs again at the end of each. */
  async look(): Promise<void> {
    for (let i = 0; i < 2; i++) { // the first one may have begun before the call
      await Deno.remove(this.signaturePath);
      await this.signed();
    }
  }

  async signed(): Promise<void> {
    while (!await exists(this.signaturePath)) {
      assert(!this.#lifecycles.every(({ unwanted }) => unwanted.aborted), "nothing signs it");
      await new Promise((next) => setTimeout(next, 1));
    }
  }

  listen(): void {
    this.#server = Deno.listen({ transport: "unix", path: this.socketPath });
  }

  /** Leaves a file of which connections are refused, as a process does that is killed. */
  async refuse(): Promise<void> {
    await Deno.rename(this.socketPath, `${this.socketPath}-dead`);
    this.#server?.close();
    await Deno.rename(`${this.socketPath}-dead`, this.socketPath);
    while (await this.#answers()); // Deno may close the socket a moment later
  }

  async #answers(): Promise<boolean> {
    try {
      (await Deno.connect({ transport: "unix", path: this.socketPath })).close();
      return true;
    } catch (error) {
      assert(error instanceof Deno.errors.ConnectionRefused);
      return false;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const lifecycle of this.#lifecycles) await lifecycle[Symbol.asyncDispose]();
    try {
      this.#server?.close();
    } catch { /* the test has closed it */ }
    await Deno.remove(this.#folder, { recursive: true });
  }
}

async function reasonOf({ unwanted }: Lifecycle): Promise<string> {
  if (!unwanted.aborted) {
    await new Promise((resolve) => unwanted.addEventListener("abort", resolve));
  }
  assert(unwanted.reason instanceof NotWanted);
  return unwanted.reason.message;
}

async function exists(path: string): Promise<boolean> {
  return await Deno.stat(path).then(() => true, () => false);
}

Deno.test(
  "Lifecycle wants a listener while parent, socket and signature stay",
  onUnix,
  async () => {
    await using scene = await Scene.make();
    const { unwanted } = await scene.begin();
    await scene.look();
    scene.now += 1e9;
    await scene.look();
    assert(!unwanted.aborted);
    assert.deepEqual(await servingOf(scene.repository), { pid: Deno.pid });
  },
);

Deno.test("Lifecycle ends a listener whose parent is gone", onUnix, async () => {
  await using scene = await Scene.make();
  let parent = 4711;
  const lifecycle = await scene.begin(parent, () => parent);
  await scene.look();
  assert(!lifecycle.unwanted.aborted);
  parent = 1; // which adopts orphans
  assert.equal(await reasonOf(lifecycle), "the process that started it is gone");
});

Deno.test("Lifecycle does not watch a parent that is process 1", onUnix, async () => {
  await using scene = await Scene.make();
  const { unwanted } = await scene.begin(1, () => 4711);
  await scene.look();
  assert(!unwanted.aborted);
});

Deno.test("Lifecycle ends a listener whose socket file is missing for 2 s", onUnix, async () => {
  await using scene = await Scene.make();
  const lifecycle = await scene.begin();
  await Deno.remove(scene.socketPath);
  await scene.look();
  scene.now += 1_999;
  await scene.look();
  assert(!lifecycle.unwanted.aborted);
  scene.now += 1;
  assert.equal(await reasonOf(lifecycle), "git-annex's socket file is gone");
});

Deno.test("Lifecycle tolerates a socket file that is missing again and again", onUnix, async () => {
  await using scene = await Scene.make();
  const { unwanted } = await scene.begin();
  for (let i = 0; i < 3; i++) {
    await Deno.rename(scene.socketPath, `${scene.socketPath}-away`);
    await scene.look();
    scene.now += 1_999;
    await scene.look();
    await Deno.rename(`${scene.socketPath}-away`, scene.socketPath);
    await scene.look();
  }
  assert(!unwanted.aborted);
});

Deno.test("Lifecycle ends a listener whose socket refuses for 5 s", onUnix, async () => {
  await using scene = await Scene.make();
  const lifecycle = await scene.begin();
  await scene.refuse();
  lifecycle.socketRefused();
  scene.now += 4_999;
  await scene.look();
  assert(!lifecycle.unwanted.aborted);
  scene.now += 1;
  assert.equal(await reasonOf(lifecycle), "git-annex no longer listens on its socket");
});

Deno.test("Lifecycle connects to the socket only after a refusal", onUnix, async () => {
  await using scene = await Scene.make();
  const { unwanted } = await scene.begin();
  await scene.refuse();
  scene.now += 1e9;
  await scene.look();
  assert(!unwanted.aborted);
});

Deno.test("Lifecycle tolerates a socket that has refused and listens again", onUnix, async () => {
  await using scene = await Scene.make();
  const lifecycle = await scene.begin();
  lifecycle.socketRefused(); // by now a server listens
  await scene.look();
  scene.now += 1e9;
  await scene.look();
  assert(!lifecycle.unwanted.aborted);
});

Deno.test("Lifecycle hands over to a later listener, whose signature stays", onUnix, async () => {
  await using scene = await Scene.make();
  const first = await scene.begin();
  const second = await scene.begin();
  assert.equal(await reasonOf(first), "a newer listener took over");
  await first[Symbol.asyncDispose]();
  assert.match(await Deno.readTextFile(scene.signaturePath), new RegExp(`^\\{"pid":${Deno.pid},`));
  assert(!second.unwanted.aborted);
  await second[Symbol.asyncDispose]();
  assert(!await exists(scene.signaturePath));
});

Deno.test("Lifecycle signs again if a user removes its signature", onUnix, async () => {
  await using scene = await Scene.make();
  const { unwanted } = await scene.begin();
  const before = await Deno.readTextFile(scene.signaturePath);
  await scene.look();
  assert.equal(await Deno.readTextFile(scene.signaturePath), before);
  assert(!unwanted.aborted);
});

Deno.test("Lifecycle goes on in a folder that it cannot write to", onUnix, async () => {
  await using scene = await Scene.make();
  await Deno.remove(listenerFolder(scene.repository));
  const { unwanted } = await scene.begin();
  await Deno.mkdir(listenerFolder(scene.repository));
  await scene.signed();
  assert(!unwanted.aborted);
});

Deno.test(
  "servingOf() does not take another process for a listener that was killed",
  onUnix,
  async () => {
    await using scene = await Scene.make();
    const text = JSON.stringify({ pid: Deno.pid, id: "id", host: thisHost() });
    await Deno.writeTextFile(scene.signaturePath, text);
    assert.equal(await servingOf(scene.repository), undefined);
  },
);

Deno.test(
  "servingOf() believes no process id of another host, container or start",
  onUnix,
  async () => {
    await using scene = await Scene.make();
    const { name } = thisHost();
    const cases: [object, unknown][] = [
      [{}, { pid: Deno.pid }],
      [{ boot: "other" }, { elsewhere: `${name}, another host of that name` }],
      [{ boot: "other", name: "nas" }, { elsewhere: "nas" }],
      [{ pidNamespace: "pid:[1]" }, { elsewhere: `${name}, in another container` }],
      [{ name: 7 }, undefined],
    ];
    for (const [change, serving] of cases) {
      const host = { ...thisHost(), ...change };
      const text = JSON.stringify({ pid: Deno.pid, id: "id", host });
      using _ = await HeldFile.replace(scene.signaturePath, text);
      assert.deepEqual(await servingOf(scene.repository), serving, text);
    }
    const before = JSON.stringify({
      pid: Deno.pid,
      id: "id",
      host: { ...thisHost(), boot: "other" },
    });
    await Deno.writeTextFile(scene.signaturePath, before);
    assert.equal(await servingOf(scene.repository), undefined);
    for (const text of ["", "{}", "null", JSON.stringify({ pid: 0, host: thisHost() })]) {
      using _ = await HeldFile.replace(scene.signaturePath, text);
      assert.equal(await servingOf(scene.repository), undefined, text);
    }
  },
);
