/** Sessions that their openers may resume on another connection. */

import type { Connection } from "../iroh/connection.ts";

/** What is to be known of such a session. */
interface Resumable {
  /** The id that its opener has given it. */
  readonly id: string;
  /** Resolves when it can no longer be resumed. */
  readonly forgotten: Promise<void>;
  /** Whether its opener may soon resume it. */
  readonly isAwaited: boolean;
  /** The connection that it is on, or was on. */
  readonly connection: Pick<Connection, "publicKey">;
}

/** The sessions of a listener that git-annex has let in, by their ids. */
export class ResumableSessions<Session extends Resumable> {
  #sessions = new Map<string, Session>();

  /** Adds a session until it is forgotten. */
  add(session: Session): void {
    this.#sessions.set(session.id, session);
    session.forgotten.then(() => {
      if (this.has(session)) this.#sessions.delete(session.id);
    });
  }

  has(session: Session): boolean {
    return this.#sessions.get(session.id) === session;
  }

  /** Returns the session with that id, if it is the peer with that key that has opened it. */
  find(id: string, publicKey: Uint8Array): Session | undefined {
    const session = this.#sessions.get(id);
    return session && isOf(session, publicKey) ? session : undefined;
  }

  /** Number of sessions that their openers may soon resume. */
  get awaited(): number {
    return this.#sessions.values().filter(({ isAwaited }) => isAwaited).toArray().length;
  }

  /** Whether the peer with that key has opened one of the sessions. */
  hasAnyOf(publicKey: Uint8Array): boolean {
    return this.#sessions.values().some((session) => isOf(session, publicKey));
  }
}

function isOf({ connection }: Resumable, publicKey: Uint8Array): boolean {
  return connection.publicKey.toHex() === publicKey.toHex();
}
