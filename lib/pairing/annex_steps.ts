/** What the inviter's listener does for a joiner, with git and git-annex. */

import type { AnnexLine } from "./annex_line.ts";
import { type AnnexPlace, annexUuid, currentBranch, ownName } from "./annex_place.ts";
import { linkRemote, remoteNames, remoteOfPeer, unlinkRemote } from "./annex_remote.ts";
import type { InviterSteps, Joiner, LinkPlan } from "./inviter_steps.ts";
import type { Welcome } from "./messages.ts";
import { forgetLine, lineFor, releaseLine } from "./own_line.ts";
import { freeName, remoteName } from "./remote_name.ts";
import { decodeTicket } from "../repository/ticket.ts";

/** The steps in a repository that is served at an address. */
export class AnnexSteps implements InviterSteps {
  #place: AnnexPlace;
  #address: string;

  constructor(place: AnnexPlace, address: string) {
    this.#place = place;
    this.#address = address;
  }

  async welcome(joiner: string, signal: AbortSignal): Promise<Welcome> {
    const [uuid, name, branch] = await Promise.all([
      annexUuid(this.#place, signal),
      ownName(this.#place, signal),
      currentBranch(this.#place, signal),
    ]);
    return { name, uuid, branch, line: await lineFor(this.#place, this.#address, joiner, signal) };
  }

  async planLink({ name, url }: Joiner, signal: AbortSignal): Promise<LinkPlan> {
    const { publicKey } = decodeTicket(url.slice(url.lastIndexOf(":") + 1));
    const linked = await remoteOfPeer(this.#place, publicKey);
    if (linked) return { remote: linked.name, isLinked: true };
    const taken = await remoteNames(this.#place, signal);
    return { remote: freeName(remoteName(name), taken), isLinked: false };
  }

  async link(remote: string, line: AnnexLine, signal: AbortSignal): Promise<void> {
    await linkRemote(this.#place, remote, line, signal);
  }

  async unlink(remote: string, url: string, signal: AbortSignal): Promise<void> {
    await unlinkRemote(this.#place, remote, url, signal);
  }

  async settle(joiner: string, isLinked: boolean): Promise<void> {
    await (isLinked ? forgetLine : releaseLine)(this.#place, joiner);
  }
}
