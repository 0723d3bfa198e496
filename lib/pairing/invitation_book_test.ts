import assert from "node:assert/strict";
import { Failure } from "../console/failure.ts";
import type { InvitationEvent, NewInvitation } from "../control/request.ts";
import { encodeTicket } from "../repository/ticket.ts";
import { parseAnnexLine } from "./annex_line.ts";
import { hashOfSecret, newInvitationSecret } from "./invitation.ts";
import { InvitationBook } from "./invitation_book.ts";
import type { InvitationRecord } from "./invitation_store.ts";
import type { InviterSteps, Joiner } from "./inviter_steps.ts";
import type { PairingAnswer } from "./messages.ts";

const ADDRESS = "endpointaaaacaqdaqcqmbyibefawdanbyhraeiscmkbkfqxdamrugy4dupb6aibadaaaaqb2era";
const OTHER = encodeTicket({ publicKey: new Uint8Array(32), relays: [] });
const LINE = parseAnnexLine(`p2p-annex::iroh:${ADDRESS}:joiners`)!;
const UUID = "01234567-89ab-cdef-0123-456789abcdef";
const WELCOME = {
  name: "bob",
  uuid: UUID,
  line: parseAnnexLine(`p2p-annex::iroh:${ADDRESS}:inviters`)!,
  branch: "main",
};
const HOUR_MS = 3_600_000;
const ANN = "aa".repeat(32), EVE = "ee".repeat(32);

/** Steps that note what is done, and the remotes that there are. */
class FakeSteps implements InviterSteps {
  readonly remotes = new Map<string, string>();
  readonly calls: string[] = [];
  /** Called at the begin of each step. */
  before: (step: string, signal?: AbortSignal) => Promise<void> = () => Promise.resolve();

  async #note(call: string, signal?: AbortSignal): Promise<void> {
    this.calls.push(call);
    await this.before(call.split(" ")[0]!, signal);
  }

  async welcome(joiner: string, signal: AbortSignal): Promise<typeof WELCOME> {
    assert.match(joiner, /^[0-9a-f]{64}$/);
    await this.#note("welcome", signal);
    return WELCOME;
  }

  async planLink({ name, url }: Joiner): Promise<{ remote: string; isLinked: boolean }> {
    await this.#note(`plan ${name}`);
    const linked = [...this.remotes].find(([, other]) => other === url);
    if (linked) return { remote: linked[0], isLinked: true };
    return { remote: this.remotes.has(name) ? `${name}2` : name, isLinked: false };
  }

  async link(remote: string, { url }: { url: string }, signal: AbortSignal): Promise<void> {
    this.remotes.set(remote, url);
    await this.#note(`link ${remote}`, signal);
  }

  async unlink(remote: string, url: string): Promise<void> {
    await this.#note(`unlink ${remote}`);
    if (this.remotes.get(remote) === url) this.remotes.delete(remote);
  }

  async settle(_joiner: string, isLinked: boolean): Promise<void> {
    await this.#note(`settle ${isLinked}`);
  }
}

/** A book, and what is around it. */
class Scene implements AsyncDisposable {
  readonly steps = new FakeSteps();
  readonly log: string[] = [];
  readonly events: InvitationEvent[] = [];
  book!: InvitationBook;

  private constructor(readonly files: Map<string, InvitationRecord>) {}

  /** Called before a file is written. */
  beforeSave: () => Promise<void> = () => Promise.resolve();
  /** Called before a file is removed. */
  beforeRemove: () => Promise<void> = () => Promise.resolve();

  static async open(files = new Map<string, InvitationRecord>()): Promise<Scene> {
    const scene = new Scene(files);
    scene.book = await InvitationBook.open({
      steps: scene.steps,
      store: {
        load: () => Promise.resolve([...files.values()]),
        save: async (record) => {
          await scene.beforeSave();
          files.set(record.hash, structuredClone(record));
        },
        remove: async (hash) => {
          await scene.beforeRemove();
          files.delete(hash);
        },
      },
      report: (line) => scene.log.push(line),
      stepTimeoutMs: 50,
      lookIntervalMs: 5,
    });
    return scene;
  }

  /** Adds an invitation. @returns Its secret. */
  async invite(options: Partial<NewInvitation> = {}): Promise<Uint8Array> {
    const secret = newInvitationSecret();
    const invitation = { hash: hashOfSecret(secret), name: undefined, validMs: HOUR_MS };
    await this.book.add(
      { ...invitation, isDetached: false, ...options },
      (event) => this.events.push(event),
    );
    return secret;
  }

  async join(secret: Uint8Array, key = ANN): Promise<PairingAnswer | undefined> {
    return await this.book.use({ kind: "join", secret, name: "ann" }, key)?.();
  }

  async link(secret: Uint8Array, key = ANN, line = LINE): Promise<PairingAnswer | undefined> {
    return await this.book.use({ kind: "link", secret, line }, key)?.();
  }

  async done(secret: Uint8Array, key = ANN): Promise<PairingAnswer | undefined> {
    return await this.book.use({ kind: "done", secret }, key)?.();
  }

  async cancel(secret: Uint8Array, key = ANN): Promise<PairingAnswer | undefined> {
    return await this.book.use({ kind: "cancel", secret, reason: "no room" }, key)?.();
  }

  /** Resolves when an event of a kind has come. */
  async event(kind: InvitationEvent["kind"]): Promise<void> {
    while (!this.events.some((event) => event.kind === kind)) {
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.book[Symbol.asyncDispose]();
  }
}

/** Sets the clock until it is disposed of. */
function setClock(differenceMs: number): Disposable {
  const { now } = Date;
  Date.now = () => now() + differenceMs;
  return { [Symbol.dispose]: () => void (Date.now = now) };
}

const LINKED = { kind: "linked", remote: "ann", wasLinked: false };

Deno.test("InvitationBook: a joiner joins, links and is done", async () => {
  await using scene = await Scene.open();
  const secret = await scene.invite();
  assert.deepEqual(await scene.join(secret), { kind: "welcome", ...WELCOME });
  assert.deepEqual(await scene.link(secret), LINKED);
  assert.deepEqual(await scene.done(secret), { kind: "over" });
  assert.deepEqual(scene.events, [
    { kind: "joining", name: "ann" },
    { kind: "joined", remote: "ann", wasLinked: false },
  ]);
  assert.deepEqual(scene.steps.calls, ["welcome", "plan ann", "link ann"]);
});

Deno.test("InvitationBook: a joined remote stays when the time is over", async () => {
  await using scene = await Scene.open();
  const secret = await scene.invite();
  await scene.join(secret);
  await scene.link(secret);
  await scene.done(secret);
  using _ = setClock(HOUR_MS);
  while (scene.files.size > 0) await new Promise((resolve) => setTimeout(resolve, 1));
  assert.deepEqual(scene.steps.calls.slice(3), ["settle true"]);
  assert.equal(scene.events.at(-1)?.kind, "joined");
  assert.deepEqual([...scene.steps.remotes.keys()], ["ann"]);
});

Deno.test("InvitationBook: a done joiner that has not heard so hears it from the next listener", async () => {
  const first = await Scene.open();
  const secret = await first.invite();
  await first.join(secret);
  await first.link(secret);
  await first.done(secret);
  await first[Symbol.asyncDispose]();
  await using next = await Scene.open(first.files);
  assert.deepEqual(await next.done(secret), { kind: "over" });
  assert.equal(await next.join(secret, EVE), undefined);
  assert.deepEqual(next.steps.calls, []);
});

Deno.test("InvitationBook: a joiner that is done may still give up", async () => {
  await using scene = await Scene.open();
  const secret = await scene.invite();
  await scene.join(secret);
  await scene.link(secret);
  await scene.done(secret);
  assert.deepEqual(await scene.cancel(secret), { kind: "over" });
  assert.equal(scene.steps.remotes.size, 0);
});

Deno.test("InvitationBook: a done joiner is told so again, and gets no token", async () => {
  await using scene = await Scene.open();
  const secret = await scene.invite();
  await scene.join(secret);
  await scene.link(secret);
  await scene.done(secret);
  for (const again of [scene.done, scene.join, scene.link]) {
    assert.deepEqual(await again.call(scene, secret), { kind: "over" });
  }
  assert.equal(scene.steps.calls.filter((call) => call === "welcome").length, 1);
});

Deno.test("InvitationBook: of two peers at once, one becomes the joiner", async () => {
  await using scene = await Scene.open();
  const secret = await scene.invite();
  const answers = await Promise.all([scene.join(secret, ANN), scene.join(secret, EVE)]);
  assert.deepEqual(answers, [{ kind: "welcome", ...WELCOME }, undefined]);
  for (let i = 0; i < 3; i++) assert.equal(await scene.link(secret, EVE), undefined);
  assert.deepEqual(scene.log.length, 1);
  assert.match(scene.log[0]!, /is used, and eeeeeeeeee has tried it as well/);
});

Deno.test("InvitationBook: a peer that has not joined can do nothing else", async () => {
  await using scene = await Scene.open();
  const secret = await scene.invite();
  assert.equal(await scene.link(secret), undefined);
  assert.equal(await scene.done(secret), undefined);
  assert.equal(await scene.cancel(secret), undefined);
  assert.equal(await scene.join(newInvitationSecret()), undefined);
  assert.deepEqual(scene.steps.calls, []);
});

Deno.test("InvitationBook: each step may be repeated, in any order that begins with join", async () => {
  await using scene = await Scene.open();
  const secret = await scene.invite();
  await scene.join(secret);
  await scene.link(secret);
  assert.deepEqual(await scene.join(secret), { kind: "welcome", ...WELCOME });
  assert.deepEqual(await scene.link(secret), LINKED);
  assert.deepEqual(await scene.done(secret), { kind: "over" });
  assert.deepEqual([...scene.steps.remotes.keys()], ["ann"]);
});

Deno.test("InvitationBook: the name of the invitation comes before the joiner's", async () => {
  await using scene = await Scene.open();
  const secret = await scene.invite({ name: "anna" });
  await scene.join(secret);
  assert.deepEqual(await scene.link(secret), { ...LINKED, remote: "anna" });
});

Deno.test("InvitationBook: a joiner that is a remote already stays one", async () => {
  await using scene = await Scene.open();
  scene.steps.remotes.set("friend", LINE.url);
  const secret = await scene.invite();
  await scene.join(secret);
  assert.deepEqual(await scene.link(secret), { kind: "linked", remote: "friend", wasLinked: true });
  await scene.cancel(secret);
  assert.deepEqual([...scene.steps.remotes.keys()], ["friend"]);
  assert(!scene.steps.calls.some((call) => /^(un)?link/.test(call)));
  assert.deepEqual(scene.events.at(-1), { kind: "cancelled", message: "no room", isUndone: false });
});

Deno.test("InvitationBook: a joiner that gives up leaves no remote, and the invitation is over", async () => {
  await using scene = await Scene.open();
  const secret = await scene.invite();
  await scene.join(secret);
  await scene.link(secret);
  assert.deepEqual(await scene.cancel(secret), { kind: "over" });
  assert.equal(scene.steps.remotes.size, 0);
  assert.deepEqual(scene.events.at(-1), { kind: "cancelled", message: "no room", isUndone: true });
  assert.equal(await scene.join(secret), undefined);
  assert.deepEqual([scene.book.list(), scene.files.size], [[], 0]);
});

Deno.test("InvitationBook: a joiner that gives up ends the step that is under way, or what is done", async () => {
  await using scene = await Scene.open();
  const [slow, done] = [await scene.invite(), await scene.invite()];
  await scene.join(done);
  await scene.link(done);
  await scene.done(done);
  await scene.join(slow, EVE);
  scene.steps.before = async (step, signal) => {
    if (step === "link") await new Promise((_, reject) => signal!.onabort = reject);
  };
  const other = parseAnnexLine(`p2p-annex::iroh:${OTHER}:joiners`)!;
  const linking = scene.link(slow, EVE, other);
  while (!scene.steps.calls.includes("link ann2")) await new Promise((next) => setTimeout(next, 1));
  assert.deepEqual(await scene.cancel(slow, EVE), { kind: "over" });
  assert.deepEqual(await linking, { kind: "refused" });
  assert.deepEqual(await scene.cancel(done), { kind: "over" });
  assert.equal(scene.steps.remotes.size, 0);
});

Deno.test("InvitationBook: a joiner whose repeated link fails is not linked", async () => {
  await using scene = await Scene.open();
  const secret = await scene.invite();
  await scene.join(secret);
  await scene.link(secret);
  scene.steps.before = () => Promise.reject(new Failure("no route"));
  assert.deepEqual(await scene.link(secret), { kind: "failed", message: "no route" });
  assert.equal((await scene.done(secret))?.kind, "failed");
});

Deno.test("InvitationBook: what a repository completes outlives what it has begun with another", async () => {
  await using scene = await Scene.open();
  const [first, second] = [await scene.invite(), await scene.invite()];
  await scene.join(first);
  await scene.link(first);
  await scene.join(second, EVE); // the same repository, with the key of another invitation
  assert.deepEqual(await scene.link(second, EVE), LINKED);
  assert.deepEqual(await scene.done(second, EVE), { kind: "over" });
  await scene.book.withdraw("all");
  assert.deepEqual([...scene.steps.remotes.values()], [LINE.url]);
});

Deno.test("InvitationBook: a joiner with another address than before replaces its remote", async () => {
  await using scene = await Scene.open();
  const secret = await scene.invite();
  await scene.join(secret);
  await scene.link(secret);
  const other = parseAnnexLine(`p2p-annex::iroh:${OTHER}:joiners`)!;
  assert.deepEqual(await scene.link(secret, ANN, other), LINKED);
  assert.deepEqual([...scene.steps.remotes], [["ann", other.url]]);
  const changes = scene.steps.calls.filter((call) => /link /.test(call));
  assert.deepEqual(changes, ["link ann", "unlink ann", "link ann"]);
});

for (const end of ["expired", "withdrawn"] as const) {
  Deno.test(`InvitationBook: an invitation that is ${end} is void, with what was begun`, async () => {
    await using scene = await Scene.open();
    const secret = await scene.invite();
    await scene.join(secret);
    await scene.link(secret);
    using _ = setClock(end === "expired" ? HOUR_MS : 0);
    if (end === "withdrawn") {
      const [{ id } = { id: "" }] = scene.book.list();
      assert.deepEqual(await scene.book.withdraw([id]), [id]);
    }
    await scene.event(end);
    assert.deepEqual(scene.events.at(-1), { kind: end, isUndone: true });
    assert.equal(scene.steps.remotes.size, 0);
    assert.equal(scene.steps.calls.at(-1), "settle false");
    for (const late of [scene.join(secret), scene.link(secret), scene.done(secret)]) {
      assert.equal(await late, undefined);
    }
    assert.deepEqual([scene.book.list(), scene.files.size], [[], 0]);
  });
}

Deno.test("InvitationBook: the clock ends an invitation, also if the machine was suspended", async () => {
  await using scene = await Scene.open();
  const secret = await scene.invite();
  using _ = setClock(HOUR_MS);
  assert.equal(await scene.join(secret), undefined);
  await scene.event("expired");
});

Deno.test("InvitationBook: a clock that is set back lengthens no invitation", async () => {
  await using scene = await Scene.open();
  await scene.invite({ validMs: 30, isDetached: true });
  const files = structuredClone(scene.files);
  using _ = setClock(-48 * HOUR_MS);
  await scene.event("expired");
  await using next = await Scene.open(files);
  assert.deepEqual(next.book.list(), []);
});

Deno.test("InvitationBook: a step that is under way ends when its invitation does", async () => {
  await using scene = await Scene.open();
  const secret = await scene.invite();
  await scene.join(secret);
  const begun = Promise.withResolvers<void>();
  scene.steps.before = (step, signal) => {
    if (step !== "link") return Promise.resolve();
    begun.resolve();
    return new Promise((_, reject) =>
      signal!.addEventListener("abort", () => reject(signal!.reason))
    );
  };
  const linking = scene.link(secret);
  await begun.promise;
  await scene.book.withdraw("all");
  assert.deepEqual(await linking, { kind: "refused" });
  assert.equal(scene.steps.remotes.size, 0);
});

Deno.test("InvitationBook: a step that fails or takes too long is said on both sides", async () => {
  await using scene = await Scene.open();
  const secret = await scene.invite();
  await scene.join(secret);
  const errors = [new Failure("no git-annex"), new TypeError("a fault"), undefined];
  scene.steps.before = (step, signal) => {
    if (step !== "link") return Promise.resolve();
    const error = errors.shift();
    if (error) return Promise.reject(error);
    return new Promise((_, reject) =>
      signal!.addEventListener("abort", () => reject(signal!.reason))
    );
  };
  assert.deepEqual(await scene.link(secret), { kind: "failed", message: "no git-annex" });
  assert.deepEqual(await scene.link(secret), { kind: "failed", message: "the log there says why" });
  const late = "git-annex there takes too long";
  assert.deepEqual(await scene.link(secret), { kind: "failed", message: late });
  assert.deepEqual(scene.events.slice(1).map((event) => event.kind === "failed" && event.message), [
    "no git-annex",
    "a fault",
    late,
  ]);
  scene.steps.before = () => Promise.resolve();
  assert.deepEqual(await scene.link(secret), LINKED);
});

Deno.test("InvitationBook: a joiner that asks again and again keeps no other one waiting", async () => {
  await using scene = await Scene.open();
  const secret = await scene.invite(), other = await scene.invite();
  const all = await Promise.all([
    ...Array.from({ length: 9 }, () => scene.join(secret, EVE)),
    scene.join(other),
  ]);
  assert.deepEqual(all.map((answer) => answer?.kind), [
    ...Array.from({ length: 8 }, () => "failed"),
    "welcome",
    "welcome",
  ]);
});

Deno.test("InvitationBook: steps of two joiners do not overlap", async () => {
  await using scene = await Scene.open();
  const secrets = [await scene.invite(), await scene.invite()];
  let running = 0, most = 0;
  scene.steps.before = async () => {
    most = Math.max(most, ++running);
    await new Promise((resolve) => setTimeout(resolve, 1));
    running--;
  };
  await Promise.all(secrets.map((secret, i) => scene.join(secret, [ANN, EVE][i])));
  assert.equal(most, 1);
});

Deno.test("InvitationBook keeps 20 invitations at a time, and no second one of a secret", async () => {
  await using scene = await Scene.open();
  const secrets = await Promise.all(Array.from({ length: 20 }, () => scene.invite()));
  await assert.rejects(scene.invite(), { message: "there are 20 invitations already" });
  await scene.join(secrets[0]!);
  await scene.link(secrets[0]!);
  await scene.done(secrets[0]!); // it is over, and makes room
  await scene.invite();
  await scene.book.withdraw("all");
  const hash = hashOfSecret(await scene.invite());
  await assert.rejects(scene.invite({ hash }), { message: "that is no new invitation" });
  for (const validMs of [0, -1, NaN, Infinity, 25 * HOUR_MS]) {
    await assert.rejects(scene.invite({ validMs }), { message: "that is no new invitation" });
  }
});

Deno.test("InvitationBook lists invitations by their short ids, and withdraws no unknown one", async () => {
  await using scene = await Scene.open();
  const later = await scene.invite({ validMs: 2 * HOUR_MS, name: "carl", isDetached: true });
  await scene.join(await scene.invite());
  const [first, second] = scene.book.list();
  assert.deepEqual([first!.state, first!.name, first!.isDetached], ["joining", undefined, false]);
  assert.deepEqual(second, {
    id: hashOfSecret(later).slice(0, 8),
    name: "carl",
    expires: second!.expires,
    isDetached: true,
    state: "open",
    remote: undefined,
  });
  await assert.rejects(scene.book.withdraw([first!.id, "frob"]), {
    message: "there is no invitation frob",
  });
  assert.equal(scene.book.list().length, 2);
});

Deno.test("InvitationBook: at the listener's end, invitations are void unless they are detached", async () => {
  const first = await Scene.open();
  const secret = await first.invite(), detached = await first.invite({ isDetached: true });
  for (const one of [secret, detached]) await first.join(one);
  await first.link(secret);
  await first.link(detached, ANN, parseAnnexLine(`p2p-annex::iroh:${OTHER}:joiners`));
  await first[Symbol.asyncDispose]();
  assert.deepEqual(first.events.at(-1), { kind: "stopped", isUndone: true });
  assert.deepEqual([...first.steps.remotes.keys()], ["ann2"]);
  assert.throws(() => first.book.use({ kind: "done", secret: detached }, ANN), /stops/);

  await using next = await Scene.open(first.files);
  assert.equal(await next.join(secret), undefined);
  assert.equal(await next.join(detached, EVE), undefined);
  assert.deepEqual(await next.done(detached), { kind: "over" });
});

Deno.test("InvitationBook: the joiner is written down before it gets a token", async () => {
  await using killed = await Scene.open();
  const secret = await killed.invite({ isDetached: true });
  let files = new Map<string, InvitationRecord>();
  killed.steps.before = () => Promise.resolve(void (files = structuredClone(killed.files)));
  await killed.join(secret);
  await using next = await Scene.open(files);
  assert.equal(await next.join(secret, EVE), undefined);
  assert.equal((await next.join(secret))?.kind, "welcome");
});

Deno.test("InvitationBook: what a killed listener has left is undone by the next", async () => {
  const killed = await Scene.open();
  const secret = await killed.invite();
  await killed.join(secret);
  await killed.link(secret);
  const detached = await killed.invite({ isDetached: true, validMs: 1 });
  const files = structuredClone(killed.files);
  await new Promise((resolve) => setTimeout(resolve, 2));

  await using next = await Scene.open(files);
  assert.equal(await next.join(secret), undefined);
  assert.equal(await next.join(detached), undefined);
  await next.invite(); // in turn, after what the listener does at its start
  await next.book[Symbol.asyncDispose]();
  assert.deepEqual(next.steps.calls, ["unlink ann", "settle false"]);
  assert.equal(files.size, 0);
  await killed[Symbol.asyncDispose]();
});

Deno.test("InvitationBook: on a full disk, what was begun is undone all the same", async () => {
  await using scene = await Scene.open();
  const secret = await scene.invite({ isDetached: true });
  await scene.join(secret);
  await scene.link(secret);
  scene.beforeSave = () => Promise.reject(new Failure("no room"));
  scene.steps.before = (step) =>
    step === "settle" ? Promise.reject(new Failure("no room")) : Promise.resolve();
  await scene.book.withdraw("all");
  assert.deepEqual([scene.steps.remotes.size, scene.files.size], [0, 0]);
  assert.match(scene.log.at(-1)!, /its token is kept: no room; the next joiner gets another one$/);
});

Deno.test("InvitationBook: on a full disk, the log does not promise what no listener can know", async () => {
  await using scene = await Scene.open();
  const secret = await scene.invite({ isDetached: true });
  await scene.join(secret);
  await scene.link(secret);
  const fail = () => Promise.reject(new Failure("no room"));
  scene.beforeSave = fail;
  scene.steps.before = fail;
  await scene.book.withdraw("all");
  assert.equal(scene.files.size, 0); // so the next listener knows nothing of it
  assert.deepEqual(scene.log.slice(-2), [
    "an invitation is over, the remote ann may be left: no room; git remote remove ann removes it",
    "an invitation is over, its token is kept: no room; the next joiner gets another one",
  ]);
});

Deno.test("InvitationBook: what was begun is undone although its file can be neither written nor removed", async () => {
  await using scene = await Scene.open();
  const secret = await scene.invite();
  await scene.join(secret);
  await scene.link(secret);
  scene.beforeSave = scene.beforeRemove = () => Promise.reject(new Failure("read-only"));
  await scene.book.withdraw("all");
  assert.deepEqual(scene.steps.calls.slice(3), ["unlink ann", "settle false"]);
  assert.deepEqual(scene.events.at(-1), { kind: "withdrawn", isUndone: true });
  assert.deepEqual(scene.log, [
    "an invitation is over, its file stays: read-only; the next listener may keep it",
  ]);
});

Deno.test("InvitationBook: what cannot be undone is tried again by the next listener", async () => {
  const first = await Scene.open();
  const secret = await first.invite({ isDetached: true });
  await first.join(secret);
  await first.link(secret);
  first.steps.before = (step) =>
    step === "unlink" ? Promise.reject(new Error("no room")) : Promise.resolve();
  await first.book.withdraw("all");
  assert.deepEqual(first.events.at(-1), { kind: "withdrawn", isUndone: false });
  const told = /the remote ann may be left: no room; the next listener tries again$/;
  assert.match(first.log.at(-1)!, told);
  await first[Symbol.asyncDispose]();

  await using next = await Scene.open(first.files);
  assert.equal(await next.join(secret), undefined);
  await next.book[Symbol.asyncDispose]();
  assert.deepEqual(next.steps.calls, ["unlink ann", "settle false"]);
  assert.equal(first.files.size, 0);
});
