/** Sessions that their openers may resume on another connection. */

import type { Connection } from "../iroh/connection.ts";

/** What is to be known of such a session. */
interface Resumable {
  /** The id that its opener has given it. */
  readonly id: string;
  /** Resolves when it is over. */
  readonly over: Promise<void>;
  /** The connection that it is on, or was on. */
  readonly connection: Pick<Connection, "publicKey">;
}

/** The sessions of a listener that git-annex has let in, by their ids. */
export class ResumableSessions<Session extends Resumable> {
  #sessions = new Map<string, Session>();

  /** Adds a session until it is over. */
  add(session: Session): void {
    this.#sessions.set(session.id, session);
    session.over.then(() => {
      if (this.#sessions.get(session.id) === session) this.#sessions.delete(session.id);
    });
  }

  /** Returns the session with that id, if it is the peer with that key that has opened it. */
  find(id: string, publicKey: Uint8Array): Session | undefined {
    const session = this.#sessions.get(id);
    return session?.connection.publicKey.toHex() === publicKey.toHex() ? session : undefined;
  }
}
