/**
 * The joiner's side in a repository: uses an invitation, lets the inviter in, and makes it a remote. A key in the
 * repository lets a later run go on with the same invitation, until it is done.
 */

import { join } from "node:path";
import { Failure } from "../console/failure.ts";
import { debug } from "../console/stderr.ts";
import { ignoreNotFound } from "../platform/atomic_file.ts";
import { listenerFolder } from "../repository/listener_folder.ts";
import { readIdentity } from "../repository/identity.ts";
import type { Settings } from "../repository/settings.ts";
import { decodeTicket, samePublicKey } from "../repository/ticket.ts";
import {
  type AnnexPlace,
  annexUuid,
  checkedBranch,
  currentBranch,
  nameBranch,
  ownName,
} from "./annex_place.ts";
import { linkRemote, remoteNames, remoteOfPeer, unlinkRemote } from "./annex_remote.ts";
import { AlreadyJoined, Exchange, InvitationRefused, InviterUnable } from "./exchange.ts";
import { hashOfSecret, type Invitation } from "./invitation.ts";
import { joinKey } from "./join_key.ts";
import type { Linked, Welcome } from "./messages.ts";
import { forgetLine, lineFor, releaseLine } from "./own_line.ts";
import { freeName, remoteName } from "./remote_name.ts";

/** Number of hexadecimal digits by which the keys of an inviter, and the one of an invitation, are found again. */
const ID_DIGITS = 16;
/** Timeout for telling the inviter that this side gives up. It may be away. */
const TELL_TIMEOUT_MS = 5_000;
/** Timeout for git to remove a remote, for which it is asked again for 3 s. */
const REMOVAL_TIMEOUT_MS = 5_000;
/** Maximum time that {@linkcode Joiner.giveUp} takes. */
export const GIVE_UP_MS = TELL_TIMEOUT_MS + REMOVAL_TIMEOUT_MS;

/** The invitation cannot be used in this repository, now or later. */
export class CannotJoin extends Failure {
  override readonly name = "CannotJoin";
}

/** What the joiner needs. */
export interface JoinerOptions {
  readonly place: AnnexPlace;
  readonly invitation: Invitation;
  /** Whether `join` makes the repository. Then its branch is called as the inviter's. */
  readonly isNew: boolean;
  /** What the user wants to call the inviter's repository. */
  readonly name: string | undefined;
  /** The settings, with the token of a relay. */
  readonly settings: Settings;
}

/** What has come of a join. */
export interface Joined {
  /** Name of the inviter's remote. */
  readonly remote: string;
  /** Whether the cost of that remote was set. */
  readonly isCostSet: boolean;
  /** What this repository is at the inviter; undefined if an earlier run was told. */
  readonly there: Linked | undefined;
  /** The branch that the inviter's HEAD names; undefined if git does not take it, or if it is not known. */
  readonly branch: string | undefined;
}

/** A join in a repository, from the first run to the one that completes it. */
export class Joiner {
  #options: JoinerOptions;
  #keyPath: string;
  /** The keys of joins with this inviter that are not complete, also with other invitations. */
  #begun: ReadonlySet<string>;
  /** Whether the invitation may be this joiner's. */
  #isUsed: boolean;

  private constructor(options: JoinerOptions, keyPath: string, begun: ReadonlySet<string>) {
    this.#options = options;
    this.#keyPath = keyPath;
    this.#begun = begun;
    this.#isUsed = begun.has(keyPath);
  }

  /** Looks at the repository, and changes nothing. @throws {CannotJoin} if the invitation is its own. */
  static async open(options: JoinerOptions): Promise<Joiner> {
    const { place: { repository }, invitation } = options;
    const identity = readIdentity(repository);
    if (identity && samePublicKey(identity, invitation)) {
      throw new CannotJoin("this invitation is of this repository itself", {
        hint: "run join in the repository that is to be linked with it",
      });
    }
    const folder = listenerFolder(repository);
    const prefix = `join-${invitation.publicKey.toHex().slice(0, ID_DIGITS)}-`;
    const names = await Array.fromAsync(Deno.readDir(folder), ({ name }) => name)
      .catch((error): string[] => {
        ignoreNotFound(error);
        return [];
      });
    const begun = names.filter((name) => name.startsWith(prefix)).map((name) => join(folder, name));
    const keyPath = join(folder, prefix + hashOfSecret(invitation.secret).slice(0, ID_DIGITS));
    return new Joiner(options, keyPath, new Set(begun));
  }

  /** Returns what an earlier run has linked; undefined if there is none. @throws {RepositoryError} */
  async linkedBefore(signal: AbortSignal): Promise<Joined | undefined> {
    if (this.#begun.size > 0) return undefined; // an interrupted run may have made a part of it
    return await this.#joinedBefore(signal);
  }

  /** Returns what is known of an earlier run that has linked the inviter; undefined if it is no remote. */
  async #joinedBefore(signal: AbortSignal): Promise<Joined | undefined> {
    const { place, isNew } = this.#options;
    const remote = await this.#remote();
    if (!remote) return undefined;
    const branch = isNew ? await currentBranch(place, signal) : undefined; // that run has named it
    return { remote: remote.name, isCostSet: false, there: undefined, branch };
  }

  /**
   * Joins.
   *
   * @param address The address at which the repository is served.
   * @param serve Has it served until both are linked: git-annex at the inviter connects to it. Called when the
   * inviter has taken the invitation, since one that is refused should cost no time.
   * @throws {InvitationRefused}, {InviterAway}, {InviterUnable}, {InviterFailed}, {CannotJoin}, {CommandFailed},
   * {LinkFailed}, or the signal's reason.
   */
  async run(address: string, serve: () => Promise<void>, signal: AbortSignal): Promise<Joined> {
    try {
      return await this.#join(address, serve, signal);
    } catch (error) {
      if (!(error instanceof AlreadyJoined)) throw error;
      await this.#settle(); // an earlier run has not come that far
      const joined = await this.#joinedBefore(signal);
      this.#isUsed = false;
      if (!joined) throw error;
      await serve();
      return joined;
    }
  }

  async #join(address: string, serve: () => Promise<void>, signal: AbortSignal): Promise<Joined> {
    const { place, invitation, isNew, settings } = this.#options;
    const [uuid, name, secretKey] = await Promise.all([
      annexUuid(place, signal),
      ownName(place, signal),
      this.#key(),
    ]);
    await using exchange = new Exchange(invitation, { secretKey, settings });
    let welcome: Welcome;
    try {
      welcome = await exchange.join(name, signal);
    } finally {
      // If the answer is lost, or is a failure of git-annex there, the invitation is for this key alone.
      this.#isUsed ||= exchange.hasAsked;
    }
    this.#check(welcome, uuid);
    const branch = await checkedBranch(place, welcome.branch, signal);
    if (isNew && branch !== undefined) await nameBranch(place, branch, signal);
    await serve();
    const line = await lineFor(place, address, this.#peer, signal);
    const there = await exchange.link(line, signal);
    const remote = await this.#remoteName(welcome, signal);
    const { isCostSet } = await linkRemote(place, remote, welcome.line, signal);
    await exchange.done(signal);
    await this.#settle();
    return { remote, isCostSet, there, branch };
  }

  /** Keeps what was made: both sides are linked. */
  async #settle(): Promise<void> {
    await forgetLine(this.#options.place, this.#peer);
    await this.#forgetKeys();
  }

  /** Tells whether a later run with the same invitation may complete what has failed. */
  canGoOn(error: unknown): boolean {
    return this.#isUsed && !(error instanceof InvitationRefused) &&
      !(error instanceof InviterUnable) && !(error instanceof CannotJoin);
  }

  /**
   * Gives up, and removes the remote. Tells the inviter, so that it does the same.
   *
   * @param reason Why, for people.
   * @returns False if the inviter has not heard of this joiner. @throws {CommandFailed}
   */
  async giveUp(
    reason: string,
    { tellMs = TELL_TIMEOUT_MS }: { readonly tellMs?: number } = {},
  ): Promise<boolean> {
    const { place } = this.#options;
    if (this.#isUsed) {
      const isTold = await this.#tellInviter(reason, AbortSignal.timeout(tellMs));
      const remote = await this.#remote();
      // An inviter that is away has used up the time for telling it.
      const signal = AbortSignal.timeout(REMOVAL_TIMEOUT_MS);
      if (remote) await unlinkRemote(place, remote.name, remote.url, signal);
      // If the inviter may still have this repository as a remote, no other peer gets the token.
      const isOnlyOne = this.#begun.difference(new Set([this.#keyPath])).size === 0;
      if (isTold && isOnlyOne) await releaseLine(place, this.#peer);
      await this.#forgetKeys();
    }
    await this.#forgetKey(this.#keyPath);
    return this.#isUsed;
  }

  /** Tells the inviter that this joiner gives up. @returns Whether the inviter has undone its part. */
  async #tellInviter(reason: string, signal: AbortSignal): Promise<boolean> {
    const { invitation, settings } = this.#options;
    try {
      await using exchange = new Exchange(invitation, { secretKey: await this.#key(), settings });
      await exchange.cancel(reason, signal);
      return true;
    } catch (error) {
      debug(() => `cannot tell the inviter: ${error}`); // its listener gives up when the time is over
      return false;
    }
  }

  #remote(): ReturnType<typeof remoteOfPeer> {
    return remoteOfPeer(this.#options.place, this.#options.invitation.publicKey);
  }

  /** What the inviter is known by here. */
  get #peer(): string {
    return this.#options.invitation.publicKey.toHex();
  }

  async #key(): Promise<Uint8Array> {
    const folder = listenerFolder(this.#options.place.repository);
    await Deno.mkdir(folder, { recursive: true, mode: 0o700 });
    return await joinKey(this.#keyPath);
  }

  /** Forgets what was begun with this inviter: both sides are linked, or no remote of it is left. */
  async #forgetKeys(): Promise<void> {
    for (const path of [...this.#begun, this.#keyPath]) await this.#forgetKey(path);
  }

  async #forgetKey(path: string): Promise<void> {
    await Deno.remove(path).catch(ignoreNotFound);
  }

  #check({ line, uuid }: Welcome, ownUuid: string): void {
    if (!samePublicKey(decodeTicket(line.address), this.#options.invitation)) {
      throw new CannotJoin("the inviter's address is not the one of the invitation", {
        hint: "ask for a new invitation",
      });
    }
    if (uuid !== ownUuid) return;
    throw new CannotJoin("both repositories have the same UUID, so one is a copy of the other", {
      hint: "make a new one with git-annex-p2p-iroh join DIR",
    });
  }

  async #remoteName(welcome: Welcome, signal: AbortSignal): Promise<string> {
    const { place, name } = this.#options;
    const begun = await this.#remote();
    if (begun) return begun.name;
    return freeName(remoteName(name ?? welcome.name), await remoteNames(place, signal));
  }
}
