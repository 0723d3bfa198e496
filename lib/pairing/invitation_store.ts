/**
 * Keeps invitations in private files, one for each, in the folder `invitations` beside the listener's log. From
 * them the next listener goes on with those that are detached or joined. Of the others, it undoes what was begun.
 */

import { join } from "node:path";
import { Failure, systemReason } from "../console/failure.ts";
import { debug } from "../console/stderr.ts";
import { ignoreNotFound, writeAtomically } from "../platform/atomic_file.ts";
import { readTextAtMost } from "../platform/regular_file.ts";
import { makePrivateFolder } from "../platform/private_folder.ts";
import { listenerFolder } from "../repository/listener_folder.ts";
import type { Repository } from "../repository/repository.ts";
import { ANNEX_URL_PREFIX } from "../repository/address.ts";
import { MAX_LINE_CHARACTERS } from "./annex_line.ts";
import { isName } from "./messages.ts";

/** What is known of an invitation. */
export interface InvitationRecord {
  /** SHA-256 of its secret, in hex. */
  readonly hash: string;
  /** What the joiner is to be called here; undefined for what it says. */
  readonly name: string | undefined;
  /** When it expires, by the clock, in milliseconds since 1970. */
  readonly expires: number;
  readonly isDetached: boolean;
  /** `over`: it is no longer valid, and what was begun is being undone. */
  readonly state: "open" | "joining" | "joined" | "over";
  /** The peer that has used it: its public key in hex, and what it calls itself. */
  readonly joiner: { readonly key: string; readonly name: string } | undefined;
  /** The joiner's remote. */
  readonly link: LinkRecord | undefined;
}

/** A remote that is about to be made, or that was made. */
export interface LinkRecord {
  readonly remote: string;
  /** Its URL, without token. */
  readonly url: string;
  /** Whether it was there before. It is then never removed. */
  readonly wasLinked: boolean;
  /** Whether all is done to make it. */
  readonly isMade: boolean;
}

/** Maximum length of a file: about three times the longest. */
const MAX_FILE_BYTES = 16 * 1024;
/** Maximum number of files that are read: a few times as many as there are invitations. */
const MAX_FILES = 100;

/** Matches the name of a file. */
const HASH = /^[0-9a-f]{64}$/;

/** The files of a repository. */
export class InvitationStore {
  readonly #folder: string;

  constructor(repository: Repository) {
    this.#folder = join(listenerFolder(repository), "invitations");
  }

  /** Returns all that is kept. Removes damaged files, and leaves those that cannot be read now. Never throws. */
  async load(): Promise<InvitationRecord[]> {
    const records: InvitationRecord[] = [];
    try {
      for (const name of await this.#names()) {
        const text = this.#read(name);
        const record = text === undefined ? undefined : parseRecord(text);
        if (record?.hash === name) records.push(record);
        else if (text !== undefined) await this.remove(name);
      }
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) debug(() => `invitations: ${error}`);
    }
    return records;
  }

  async #names(): Promise<string[]> {
    const names: string[] = [];
    for await (const { name } of Deno.readDir(this.#folder)) {
      if (HASH.test(name) && names.length < MAX_FILES) names.push(name);
    }
    return names;
  }

  #read(name: string): string | undefined {
    try {
      return readTextAtMost(join(this.#folder, name), MAX_FILE_BYTES);
    } catch (error) {
      debug(() => `an invitation: ${error}`);
      return undefined;
    }
  }

  /** Writes a record. @throws {Failure} if that is not possible. */
  async save(record: InvitationRecord): Promise<void> {
    let reason: string | undefined;
    try {
      const problem = await makePrivateFolder(this.#folder);
      if (problem) reason = `the folder ${this.#folder} ${problem}`;
      else {
        const text = JSON.stringify(record) + "\n";
        const path = join(this.#folder, record.hash);
        await writeAtomically(path, text, { mode: 0o600, ifPresent: "replace" });
        return;
      }
    } catch (error) {
      reason = systemReason(error);
    }
    throw new Failure(`cannot keep the invitation, ${reason}`, {
      hint: "make room or correct the permissions, and try again",
    });
  }

  /** Forgets a record. @throws An error of the system. */
  async remove(hash: string): Promise<void> {
    await Deno.remove(join(this.#folder, hash)).catch(ignoreNotFound);
  }
}

/** Reads a file's text. @returns Undefined if it is damaged. */
export function parseRecord(text: string): InvitationRecord | undefined {
  try {
    const { hash, name, expires, isDetached, state, joiner, link } = JSON.parse(text);
    const isValid = HASH.test(hash) && (name === undefined || isName(name)) &&
      Number.isSafeInteger(expires) && typeof isDetached === "boolean" &&
      ["open", "joining", "joined", "over"].includes(state) &&
      (joiner === undefined || HASH.test(joiner.key) && isName(joiner.name)) &&
      (link === undefined || isLink(link));
    return isValid ? { hash, name, expires, isDetached, state, joiner, link } : undefined;
  } catch {
    return undefined; // no JSON, or no object
  }
}

function isLink({ remote, url, wasLinked, isMade }: Record<string, unknown>): boolean {
  return isName(remote) && typeof url === "string" && url.length <= MAX_LINE_CHARACTERS &&
    url.startsWith(ANNEX_URL_PREFIX) && typeof wasLinked === "boolean" &&
    typeof isMade === "boolean";
}
