/** Serves a repository for as long as a command needs it. */

import type { Repository } from "../repository/repository.ts";
import { debug } from "../console/stderr.ts";
import { untilServing } from "./background.ts";
import { eventText } from "./event.ts";
import { Supervisor } from "./supervisor.ts";

/** A repository that this process serves, until it is disposed of. */
export class Serving implements AsyncDisposable {
  #stopped = new AbortController();
  #running: Promise<void>;

  private constructor(repository: Repository, folder: string, failed: (error: unknown) => void) {
    const emit = (event: Parameters<typeof eventText>[0]) => debug(() => `up: ${eventText(event)}`);
    this.#running = new Supervisor({ repository, folder, emit }).run(this.#stopped.signal)
      .catch((error) => failed(error));
  }

  /** Begins to serve, and waits until peers can connect. @throws {NeverServed} @throws The signal's reason. */
  static async begin(
    repository: Repository,
    folder: string,
    signal: AbortSignal,
  ): Promise<Serving> {
    const ended = new AbortController();
    const serving = new Serving(repository, folder, (error) => ended.abort(error));
    try {
      await untilServing(repository, AbortSignal.any([signal, ended.signal]));
      return serving;
    } catch (error) {
      await serving[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** Ends what serves the repository, and waits for that. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#stopped.abort(new Error("the command is done"));
    await this.#running;
  }
}
