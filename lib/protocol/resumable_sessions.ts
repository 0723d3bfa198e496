/** Sessions that their openers may resume on another connection. */

import type { InboundSession } from "./peer_connection.ts";

/** The sessions of a listener that git-annex has let in, by their ids. */
export class ResumableSessions {
  #sessions = new Map<string, InboundSession>();

  /** Adds a session until it is over. */
  add(session: InboundSession): void {
    this.#sessions.set(session.id, session);
    session.over.then(() => this.#sessions.delete(session.id));
  }

  /** Returns the session with that id, if it is the peer with that key that has opened it. */
  find(id: string, publicKey: Uint8Array): InboundSession | undefined {
    const session = this.#sessions.get(id);
    return session?.connection.publicKey.toHex() === publicKey.toHex() ? session : undefined;
  }
}
