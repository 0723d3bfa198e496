/** Names of git remotes, made from what a user or a peer calls a repository. */

import { UsageError } from "../console/failure.ts";
import { printable } from "../console/printable.ts";

/** Maximum length of a name, so that `git remote` stays readable. */
const MAX_CHARACTERS = 40;
/** The name of a peer whose own says nothing. */
const FALLBACK = "peer";

/**
 * Returns a name that git and git-annex take for a remote as it is. It has ASCII letters, digits, `-`, `_` and single
 * dots, and a letter or digit at both ends. git-annex drops other characters, and git refuses some of them.
 *
 * @param text What a user or a peer calls the repository; it may be anything.
 */
export function remoteName(text: string): string {
  const name = text.normalize("NFKD").replace(/\p{M}+/gu, "").slice(0, 4 * MAX_CHARACTERS)
    .replace(/[^A-Za-z0-9_.-]+/g, "-").replace(/[.-]*\.[.-]*/g, ".")
    .replace(/^[^A-Za-z0-9]+/, "").slice(0, MAX_CHARACTERS)
    .replace(/(\.lock|[^A-Za-z0-9])+$/, "");
  return name === "" || name === "HEAD" ? FALLBACK : name;
}

/** Returns a name that no remote has: the wanted one, or one with a number behind it. */
export function freeName(wanted: string, taken: ReadonlySet<string>): string {
  // On some file systems, the refs of two remotes that differ only in case would be the same.
  const folded = new Set([...taken].map((name) => name.toLowerCase()));
  for (let number = 1;; number++) {
    const name = number === 1 ? wanted : `${wanted}${number}`;
    if (!folded.has(name.toLowerCase())) return name;
  }
}

/** Returns the name of a remote that a user has chosen. @throws {UsageError} if there is nothing of it left. */
export function chosenName(text: string): string {
  const name = remoteName(text);
  if (name !== FALLBACK || text === FALLBACK) return name;
  throw new UsageError(
    `"${printable(text, MAX_CHARACTERS)}" is no name of a git remote`,
    "use letters from A to Z, digits, - and _",
  );
}
