/**
 * The invitations of a repository, as its listener keeps them. A peer that sends the secret of one becomes its
 * joiner. From then on the invitation is for this peer alone, until it is done or the time is over.
 */

import { LinkedSignal } from "../async/abort.ts";
import { Failure, systemReason } from "../console/failure.ts";
import type { InvitationEvent, ListedInvitation, NewInvitation } from "../control/request.ts";
import { shortKey } from "../repository/ticket.ts";
import type { InvitationRecord, InvitationStore, LinkRecord } from "./invitation_store.ts";
import { hashOfSecret } from "./invitation.ts";
import type { InviterSteps } from "./inviter_steps.ts";
import type { PairingAnswer, PairingRequest } from "./messages.ts";
import { MAX_VALID_MS } from "./validity.ts";

/** Maximum number of invitations that are valid at a time: more than a person keeps in mind. */
const MAX_INVITATIONS = 20;
/** Interval between looks at the clock, which may be set, or go on while the machine is suspended. */
const LOOK_INTERVAL_MS = 30_000;
/** Timeout for a step: git-annex connects to the joiner, for which the dial alone has 25 s. */
const STEP_TIMEOUT_MS = 60_000;
/** Timeout for undoing: some calls of git. The end of the listener waits for it. */
const UNDO_TIMEOUT_MS = 5_000;
/** Number of hexadecimal digits by which people name an invitation. */
const ID_DIGITS = 8;

/** What the book needs. */
export interface InvitationBookOptions {
  readonly store: Pick<InvitationStore, "load" | "save" | "remove">;
  readonly steps: InviterSteps;
  /** Called with a line for the log. */
  readonly report: (message: string) => void;
  /** Tests pass a shorter one. */
  readonly stepTimeoutMs?: number;
  /** Tests pass a shorter one. */
  readonly lookIntervalMs?: number;
}

/** An invitation that is kept. */
interface Entry {
  record: InvitationRecord;
  /** Aborted when it is no longer valid. */
  readonly over: AbortController;
  timer: ReturnType<typeof setTimeout> | undefined;
  readonly onEvent: (event: InvitationEvent) => void;
  /** The joiner's last request. Earlier ones that still wait for their turn are no longer done. */
  latest: PairingRequest | undefined;
  /** Whether the log says that another peer has tried it. */
  isTriedByOther: boolean;
}

/** How an invitation ends that no joiner has used to the end. */
type End = { readonly kind: "expired" | "withdrawn" | "stopped" } | {
  readonly kind: "cancelled";
  /** Why the joiner gives up. */
  readonly message: string;
};

/** A request that takes its turn. */
type StepRequest = Exclude<PairingRequest, { kind: "cancel" }>;

/** The invitation is no longer valid. */
class Over extends Error {}

/** Keeps invitations, and answers joiners. Dispose of it when the listener stops. */
export class InvitationBook implements AsyncDisposable {
  readonly #options: InvitationBookOptions;
  /** By the hash of the secret. */
  readonly #entries = new Map<string, Entry>();
  readonly #stopped = new AbortController();
  /** Resolves when all steps that were begun are over. */
  #turn: Promise<void> = Promise.resolve();

  private constructor(options: InvitationBookOptions) {
    this.#options = options;
  }

  /** Opens the book of a repository. What an earlier listener has left to undo is undone meanwhile. */
  static async open(options: InvitationBookOptions): Promise<InvitationBook> {
    const book = new InvitationBook(options);
    for (const record of await options.store.load()) {
      const left = record.expires - Date.now();
      const isInTime = left > 0 && left <= MAX_VALID_MS;
      if (isInTime && record.state !== "over" && isKeptAtEnd(record)) book.#keep(record);
      else book.#forget(record); // not awaited, since peers wait for the listener
    }
    return book;
  }

  /**
   * Adds an invitation.
   *
   * @param onEvent Called with what happens to it. @throws {Failure} if there are too many, or it cannot be kept.
   */
  async add(
    { hash, name, validMs, isDetached }: NewInvitation,
    onEvent: (event: InvitationEvent) => void = () => {},
  ): Promise<ListedInvitation> {
    const valid = [...this.#entries.values()].filter(({ record }) => record.state !== "joined");
    if (valid.length >= MAX_INVITATIONS) {
      throw new Failure(`there are ${MAX_INVITATIONS} invitations already`, {
        hint: "withdraw some with git-annex-p2p-iroh invite --withdraw",
      });
    }
    if (this.#entries.has(hash) || !(validMs > 0 && validMs <= MAX_VALID_MS)) {
      throw new Failure("that is no new invitation");
    }
    const expires = Date.now() + Math.ceil(validMs);
    const state = "open", joiner = undefined, link = undefined;
    const entry = this.#keep({ hash, name, expires, isDetached, state, joiner, link }, onEvent);
    try {
      await this.#options.store.save(entry.record);
    } catch (error) {
      this.#drop(entry);
      throw error;
    }
    if (entry.over.signal.aborted) await this.#options.store.remove(hash); // it has ended meanwhile
    return listed(entry.record);
  }

  /** Returns all invitations, those that expire first coming first. */
  list(): ListedInvitation[] {
    const records = [...this.#entries.values()].map(({ record }) => record);
    return records.toSorted((a, b) => a.expires - b.expires).map(listed);
  }

  /**
   * Withdraws invitations, and undoes what was begun.
   *
   * @param ids Short ids. @returns The ids of those that were valid.
   * @throws {Failure} if there is none with one of these ids. Then all stay valid.
   */
  async withdraw(ids: readonly string[] | "all"): Promise<string[]> {
    const valid = new Map(
      [...this.#entries.values()].filter(({ record }) => record.state !== "joined")
        .map((entry) => [idOf(entry.record), entry]),
    );
    const wanted = ids === "all" ? [...valid.keys()] : [...new Set(ids)];
    for (const id of wanted) {
      if (valid.has(id)) continue;
      throw new Failure(`there is no invitation ${id}`, {
        hint: "git-annex-p2p-iroh invite --list shows those that are valid",
      });
    }
    await Promise.all(wanted.map((id) => this.#end(valid.get(id)!, { kind: "withdrawn" })));
    return wanted;
  }

  /** Withdraws an invitation if it is still valid. @param hash Of its secret. */
  async withdrawHash(hash: string): Promise<void> {
    const entry = this.#entries.get(hash);
    if (entry && entry.record.state !== "joined") await this.#end(entry, { kind: "withdrawn" });
  }

  /**
   * Takes a request of a peer. The first right one makes the peer the joiner, before anything is awaited: of two
   * at once, one is too late.
   *
   * @param key The peer's public key in hex, which its connection proves.
   * @returns Undefined if the peer has no invitation; otherwise a function that does what is asked.
   * @throws If the listener stops. The function rejects in that case alone.
   */
  use(request: PairingRequest, key: string): (() => Promise<PairingAnswer>) | undefined {
    this.#stopped.signal.throwIfAborted();
    const entry = this.#entries.get(hashOfSecret(request.secret));
    if (!entry || entry.record.expires <= Date.now()) return undefined;
    const { joiner } = entry.record;
    if (joiner && joiner.key !== key) {
      this.#reportOther(entry, key);
      return undefined;
    }
    if (!joiner) {
      if (request.kind !== "join") return undefined;
      const { name } = request;
      entry.record = { ...entry.record, state: "joining", joiner: { key, name } };
      entry.onEvent({ kind: "joining", name });
    }
    entry.latest = request;
    return () =>
      request.kind === "cancel"
        ? this.#cancel(entry, request.reason)
        : this.#answer(entry, request);
  }

  #reportOther(entry: Entry, key: string): void {
    if (entry.isTriedByOther) return;
    entry.isTriedByOther = true;
    this.#options.report(
      `invitation ${idOf(entry.record)} is used, and ${shortKey(key)} has tried it as well`,
    );
  }

  async #answer(entry: Entry, request: StepRequest): Promise<PairingAnswer> {
    try {
      return await this.#inTurn(() => this.#step(entry, request));
    } catch (error) {
      this.#stopped.signal.throwIfAborted();
      if (entry.over.signal.aborted) return { kind: "refused" };
      const isTimeout = error instanceof DOMException && error.name === "TimeoutError";
      const reason = isTimeout ? "git-annex there takes too long" : systemReason(error);
      this.#options.report(`invitation ${idOf(entry.record)}: ${reason}`);
      entry.onEvent({ kind: "failed", message: reason });
      const isUnderstood = error instanceof Failure || isTimeout;
      return { kind: "failed", message: isUnderstood ? reason : "the log there says why" };
    }
  }

  /** Runs steps one after another: git-annex's list of tokens is not made for two writers. */
  #inTurn<T>(step: () => Promise<T>): Promise<T> {
    const done = this.#turn.then(step);
    this.#turn = done.then(() => {}, () => {}); // the caller gets the error
    return done;
  }

  async #step(entry: Entry, request: StepRequest): Promise<PairingAnswer> {
    const { steps, stepTimeoutMs = STEP_TIMEOUT_MS } = this.#options;
    using limit = new LinkedSignal([entry.over.signal, this.#stopped.signal], {
      milliseconds: stepTimeoutMs,
    });
    const { signal } = limit;
    signal.throwIfAborted();
    // So a joiner that asks again and again does not keep another one waiting.
    if (entry.latest !== request) return { kind: "failed", message: "you have asked again" };
    switch (request.kind) {
      case "join":
        if (entry.record.state === "joined") return { kind: "over" };
        await this.#options.store.save(entry.record);
        return { kind: "welcome", ...await steps.welcome(entry.record.hash, signal) };
      case "link":
        if (entry.record.state === "joined") return { kind: "over" };
        return await this.#link(entry, request, signal);
      case "done":
        return await this.#done(entry);
    }
  }

  async #link(
    entry: Entry,
    { line }: PairingRequest & { kind: "link" },
    signal: AbortSignal,
  ): Promise<PairingAnswer> {
    const { steps } = this.#options;
    let { link } = entry.record;
    if (link && link.url !== line.url) {
      // The joiner has begun anew, with another repository.
      await this.#unlink(link, signal);
      link = undefined;
    }
    if (!link) {
      await this.#undoOthers(entry, line.url, signal);
      const name = entry.record.name ?? entry.record.joiner!.name;
      const plan = await steps.planLink({ name, url: line.url }, signal);
      link = { remote: plan.remote, url: line.url, wasLinked: plan.isLinked, isMade: false };
    }
    if (!link.wasLinked) {
      // It is written before the remote is made: if this program is killed meanwhile, the next one removes it.
      await this.#change(entry, { link: { ...link, isMade: false } });
      await steps.link(link.remote, line, signal);
    }
    await this.#change(entry, { link: { ...link, isMade: true } });
    return { kind: "linked", remote: link.remote, wasLinked: link.wasLinked };
  }

  /**
   * Undoes what the same repository has begun with another invitation. Otherwise the end of that one would remove
   * the remote that this one makes.
   */
  async #undoOthers(entry: Entry, url: string, signal: AbortSignal): Promise<void> {
    for (const other of this.#entries.values()) {
      const { link, state } = other.record;
      if (other === entry || link?.url !== url || state === "joined") continue;
      await this.#unlink(link, signal);
      await this.#change(other, { link: undefined });
    }
  }

  async #done(entry: Entry): Promise<PairingAnswer> {
    const { link, state } = entry.record;
    if (!link?.isMade) throw new Failure("the joiner is not linked here yet");
    if (state === "joined") return { kind: "over" };
    await this.#change(entry, { state: "joined" });
    this.#options.report(`invitation ${idOf(entry.record)}: joined, the remote ${link.remote}`);
    entry.onEvent({ kind: "joined", remote: link.remote, wasLinked: link.wasLinked });
    return { kind: "over" };
  }

  /**
   * Ends the invitation, and undoes what was begun. It is not open again: the joiner may be a stranger who has used
   * it and knows a token, and the one who was meant must notice.
   */
  async #cancel(entry: Entry, message: string): Promise<PairingAnswer> {
    this.#options.report(`invitation ${idOf(entry.record)}: the joiner gives up, ${message}`);
    // A joiner that has not heard that it is done gives up, too.
    if (entry.record.state === "joined") entry.record = { ...entry.record, state: "joining" };
    await this.#end(entry, { kind: "cancelled", message });
    return { kind: "over" };
  }

  async #unlink({ remote, url, wasLinked }: LinkRecord, signal: AbortSignal): Promise<void> {
    if (!wasLinked) await this.#options.steps.unlink(remote, url, signal);
  }

  /** Changes what is known of an invitation, in its file as well. @throws {Failure} if that cannot be written. */
  async #change(entry: Entry, change: Partial<InvitationRecord>): Promise<void> {
    const record = { ...entry.record, ...change };
    await this.#options.store.save(record);
    entry.record = record;
  }

  #keep(record: InvitationRecord, onEvent: Entry["onEvent"] = () => {}): Entry {
    const over = new AbortController(), timer = undefined, latest = undefined;
    const entry: Entry = { record, over, timer, onEvent, latest, isTriedByOther: false };
    this.#entries.set(record.hash, entry);
    this.#watch(entry, performance.now() + record.expires - Date.now());
    return entry;
  }

  /** Ends an invitation by the clock, or at `endMs` of `performance`, whichever comes first. */
  #watch(entry: Entry, endMs: number): void {
    const { lookIntervalMs = LOOK_INTERVAL_MS } = this.#options;
    const left = Math.min(entry.record.expires - Date.now(), endMs - performance.now());
    const look = left > 0
      ? () => this.#watch(entry, endMs)
      : () => this.#end(entry, { kind: "expired" });
    entry.timer = setTimeout(look, Math.max(0, Math.min(left, lookIntervalMs)));
    Deno.unrefTimer(entry.timer);
  }

  /** Makes an invitation invalid. */
  #drop(entry: Entry): void {
    this.#entries.delete(entry.record.hash);
    clearTimeout(entry.timer);
    entry.over.abort(new Over("the invitation is no longer valid"));
  }

  /** Ends an invitation, and undoes what was begun. Never rejects. */
  async #end(entry: Entry, end: End): Promise<void> {
    if (this.#entries.get(entry.record.hash) !== entry) return; // it has ended already
    this.#drop(entry);
    const isUndone = await this.#forget(() => entry.record);
    if (entry.record.state !== "joined") entry.onEvent({ ...end, isUndone });
  }

  /**
   * Undoes what was begun for an invitation, and forgets it. If a step fails, the others are tried all the same. The
   * next listener tries again what has failed, if it can be noted down for it. Never rejects.
   *
   * @param record Called when earlier steps are over, which may change it.
   * @returns Whether a remote was removed.
   */
  #forget(record: InvitationRecord | (() => InvitationRecord)): Promise<boolean> {
    return this.#inTurn(async () => {
      const { state, joiner, link, ...others } = typeof record === "function" ? record() : record;
      const { steps } = this.#options;
      const isJoined = state === "joined", again = "the next listener tries again";
      const isNoted = isJoined || !joiner ||
        await this.#noteOver({ ...others, joiner, link, state: "over" });
      const isUnlinked = !link || isJoined || await this.#tried(
        () => this.#unlink(link, AbortSignal.timeout(UNDO_TIMEOUT_MS)),
        `the remote ${link.remote} may be left`,
        isNoted ? again : `git remote remove ${link.remote} removes it`,
      );
      const isSettled = !joiner || await this.#tried(
        () => steps.settle(others.hash, isJoined),
        "its token is kept",
        isNoted ? again : "the next joiner gets another one",
      );
      if (isNoted && isUnlinked && isSettled) await this.#removeFile(others.hash);
      return isUnlinked && link !== undefined && !link.wasLinked && !isJoined;
    });
  }

  /**
   * Notes for the next listener that an invitation is over, and that something may be left to undo.
   *
   * @returns False if it cannot be noted. Then the file is removed, else the next listener takes it for valid.
   */
  async #noteOver(record: InvitationRecord): Promise<boolean> {
    try {
      await this.#options.store.save(record);
      return true;
    } catch {
      await this.#removeFile(record.hash); // the reason is mostly the same if a step fails
      return false;
    }
  }

  async #removeFile(hash: string): Promise<void> {
    const remove = () => this.#options.store.remove(hash);
    await this.#tried(remove, "its file stays", "the next listener may keep it");
  }

  /** Does a step of undoing. @returns False if it fails; the log then says what is left, and what comes next. */
  async #tried(step: () => Promise<void>, left: string, next: string): Promise<boolean> {
    try {
      await step();
      return true;
    } catch (error) {
      this.#options.report(`an invitation is over, ${left}: ${systemReason(error)}; ${next}`);
      return false;
    }
  }

  /** Ends all invitations but those that the next listener keeps, with what was begun for them. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#stopped.abort(new Error("this listener stops"));
    const entries = [...this.#entries.values()];
    for (const entry of entries) {
      if (isKeptAtEnd(entry.record)) this.#drop(entry);
    }
    await Promise.all(entries.map((entry) => this.#end(entry, { kind: "stopped" })));
    await this.#turn;
  }
}

/** Tells whether the next listener keeps an invitation. A joiner that is done may not have been told so yet. */
function isKeptAtEnd({ isDetached, state }: InvitationRecord): boolean {
  return isDetached || state === "joined";
}

function idOf({ hash }: InvitationRecord): string {
  return hash.slice(0, ID_DIGITS);
}

function listed(record: InvitationRecord): ListedInvitation {
  const { name, expires, isDetached, state, link } = record;
  return {
    id: idOf(record),
    name,
    expires: new Date(expires).toISOString(),
    isDetached,
    state: state === "over" ? "joining" : state, // those that are over are not listed
    remote: link?.remote,
  };
}
