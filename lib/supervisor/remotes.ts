/** Makes events of what remotedaemon says about remotes, which it names by their URLs. */

import { debug } from "../console/stderr.ts";
import { remoteUrls, type Repository } from "../repository/repository.ts";
import type { DaemonMessage } from "./daemon_message.ts";
import type { RemoteEvent, UpEvent } from "./event.ts";

/** The remotes of a repository, as remotedaemon hears of them. */
export class Remotes {
  #repository: Repository;
  #emit: (event: UpEvent) => void;
  /** Names by URL; undefined if they have to be read. */
  #names: Promise<Map<string, string>> | undefined;
  /** Names of the remotes that are connected, by URL. */
  #here = new Map<string, string>();
  /** URLs of the remotes from which git fetches. */
  #fetching = new Set<string>();
  /** URLs of the remotes that were connected, and are gone. */
  #gone = new Set<string>();
  /** Names of the remotes from which git has to fetch, though remotedaemon does not. */
  #due = new Set<string>();
  /** Resolves when all messages until now have become events, in their order. */
  #heard: Promise<void> = Promise.resolve();

  constructor(repository: Repository, emit: (event: UpEvent) => void) {
    this.#repository = repository;
    this.#emit = emit;
  }

  /** Makes an event of a message. */
  hear(message: DaemonMessage): void {
    this.#heard = this.#heard.then(async () => {
      const { url } = message;
      const name = this.#here.get(url) ?? await this.#nameOf(url);
      this.#tell(message, name);
    });
  }

  /** Tells whether git fetches from any of them. */
  get isFetching(): boolean {
    return this.#fetching.size > 0;
  }

  /**
   * Returns the remotes from which git has to fetch in place of remotedaemon, each once. From some, its fetch has
   * failed. Others are here again, and remotedaemon hears only of changes from then on.
   */
  takeDue(): string[] {
    const due = [...this.#due];
    this.#due.clear();
    return due;
  }

  /** Tells whether git, started by another than remotedaemon, has fetched from a remote that is here. */
  fetched(remote: string, isSuccess: boolean): void {
    for (const [url, name] of this.#here) {
      if (name === remote) this.#emit({ event: isSuccess ? "synced" : "not-synced", remote, url });
    }
  }

  /** Reads the names again when one is needed. */
  reread(): void {
    this.#names = undefined;
  }

  /** Forgets who is connected, as remotedaemon has ended. @param isTold Whether that becomes events. */
  async forget(isTold: boolean): Promise<void> {
    await this.#heard;
    for (const [url, remote] of this.#here) {
      if (isTold) this.#emit({ event: "gone", remote, url });
      this.#gone.add(url);
    }
    this.#here.clear();
    this.#fetching.clear();
    this.#due.clear();
  }

  #tell({ kind, url, rest }: DaemonMessage, remote: string): void {
    const tell = (event: RemoteEvent["event"]) => this.#emit({ event, remote, url });
    switch (kind) {
      case "CONNECTED":
        if (!this.#here.has(url)) tell("here");
        this.#here.set(url, remote);
        if (this.#gone.delete(url)) this.#due.add(remote);
        break;
      case "DISCONNECTED":
        if (!this.#here.delete(url)) break;
        this.#gone.add(url);
        return tell("gone");
      case "SYNCING":
        this.#fetching.add(url);
        return tell("changes");
      case "DONESYNCING":
        this.#fetching.delete(url);
        // git-annex loses the end of a fetch now and then, with any transport.
        if (rest === "1") return tell("synced");
        this.#due.add(remote);
        break;
      case "WARNING":
        this.#emit({ event: "message", text: `${remote}: ${rest}` });
    }
  }

  async #nameOf(url: string): Promise<string> {
    const known = (await this.#readNames()).get(url);
    if (known !== undefined) return known;
    this.reread(); // it is newer than the last look at git config
    return (await this.#readNames()).get(url) ?? url;
  }

  #readNames(): Promise<Map<string, string>> {
    this.#names ??= remoteUrls(this.#repository).then(
      (remotes) => new Map(remotes.map(({ name, url }) => [url, name])),
      (error) => {
        debug(() => `the names of remotes: ${error}`);
        return new Map();
      },
    );
    return this.#names;
  }
}
