/** Checks what git-annex counts remotes of this program as costing. It takes a file from the cheapest first. */

import { configEntries, type Repository } from "../repository/repository.ts";
import { irohRemotes } from "../repository/remotes.ts";
import { type Finding, warning } from "./finding.ts";

/** Entries of git config by which git-annex decides (git-annex(1)). A remote's own come before `annex.cost`. */
const ENTRIES = "^(annex\\.cost|remote\\..*\\.annex-(cost|cost-command|ignore))$";
/** Matches a cost that git-annex understands. It ignores others. */
const COST = /^\s*-?\d+(\.\d+)?(e[+-]?\d+)?\s*$/i;
/** The cost to recommend: more than a disk at hand, which costs 100, and less than a cloud remote, which costs 200. */
const RECOMMENDED = 150;
/** Maximum names of remotes in a line. */
const MAX_NAMES = 5;

/** Checks that no remote has the cost that git-annex gives to those of p2p if the user says nothing. */
export async function checkCosts(repository: Repository): Promise<Finding[]> {
  const [remotes, entries] = await Promise.all([
    irohRemotes(repository),
    configEntries(repository, ENTRIES),
  ]);
  const values = new Map(entries.map(({ key, value }) => [key, value]));
  const has = (key: string, pattern: RegExp) => pattern.test(values.get(key) ?? "");
  const costly = remotes.map(({ name }) => name).filter((name) => {
    const own = `remote.${name}.annex-`;
    // Without a value, `annex-ignore` is true.
    const isIgnored = values.has(`${own}ignore`) && has(`${own}ignore`, /^(|true|yes|on|1)$/i);
    const isChosen = values.has(`${own}cost-command`) ||
      has(values.has(`${own}cost`) ? `${own}cost` : "annex.cost", COST);
    return !isIgnored && !isChosen;
  });
  const [first] = costly;
  if (first === undefined) return [];
  return [warning(
    `${listOf(costly)} ${costly.length > 1 ? "cost" : "costs"} git-annex 1000, its default for ` +
      "p2p, so that it prefers a cloud remote, which costs 200, to a friend in the same room",
    `run git config remote.${first}.annex-cost ${RECOMMENDED}` +
      (costly.length > 1 ? ", and the same for the others" : ""),
  )];
}

function listOf(names: readonly string[]): string {
  const shown = names.slice(0, MAX_NAMES), left = names.length - shown.length;
  return shown.join(", ") + (left > 0 ? ` and ${left} more` : "");
}
