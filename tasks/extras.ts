/**
 * deno task extras --output FOLDER
 *
 * Writes the files that a release has beside the program:
 *
 * - the man page
 * - completions for three shells
 * - a unit and an agent that keep a repository served from boot on
 * - the licenses of what is in the program
 */

import { join } from "node:path";
import { parseArgs } from "node:util";
import config from "../deno.json" with { type: "json" };
import { launchdAgent, systemdTemplate, UNIT_NAME } from "../lib/supervisor/boot_files.ts";
import {
  ABOUT_LOGS,
  ABOUT_SETTINGS,
  CALLS,
  EXIT_STATUS,
  type ManualEntry,
  OPTIONS,
  PURPOSE,
  SETTINGS,
  SUMMARY,
  usageOf,
  WITH_GIT_ANNEX,
} from "../lib/console/manual.ts";
import { PROGRAM } from "../lib/console/program.ts";
import { thirdPartyLicenses } from "./licenses.ts";

/** Name of the file with the licenses. */
export const LICENSES = "THIRD-PARTY-LICENSES";

/** Returns the files that are made from the manual, and the services, by name. */
export function extras(): Map<string, string> {
  return new Map([
    [`${PROGRAM}.1`, manPage()],
    [`completions/${PROGRAM}.bash`, bashCompletion()],
    [`completions/_${PROGRAM}`, zshCompletion()],
    [`completions/${PROGRAM}.fish`, fishCompletion()],
    [`${UNIT_NAME}@.service`, systemdTemplate()],
    [
      `${UNIT_NAME}.plist`,
      launchdAgent(UNIT_NAME, {
        folder: "/Users/YOU/annex",
        path: "/Users/YOU/.local/bin:/opt/homebrew/bin:/usr/local/bin:/usr/bin:/bin",
        program: `/Users/YOU/.local/bin/${PROGRAM}`,
      }),
    ],
  ]);
}

/** Returns the man page, as roff for man(7). */
function manPage(): string {
  const items = (entries: readonly ManualEntry[]) =>
    entries.map(({ term, text }) => `.TP\n.B ${roff(term)}\n${roff(text)}`).join("\n");
  const [version] = config.version.split("-");
  return [
    `.TH GIT\\-ANNEX\\-P2P\\-IROH 1 "" "git\\-annex\\-p2p\\-iroh ${roff(version!)}"`,
    `.SH NAME\n${roff(PROGRAM)} \\- ${roff(SUMMARY)}`,
    `.SH SYNOPSIS\n${CALLS.map(({ term }) => roff(usageOf(term))).join("\n.br\n")}`,
    `.SH DESCRIPTION\n${roff(PURPOSE)}\n${items(WITH_GIT_ANNEX)}`,
    `.SH CALLS\nAn ADDRESS begins with \\(dqendpoint\\(dq.\n${items(CALLS)}`,
    `.SH OPTIONS\n${items(OPTIONS)}`,
    `.SH SETTINGS\n${roff(ABOUT_SETTINGS)}\n${items(SETTINGS)}`,
    `.SH LOGS\n${roff(ABOUT_LOGS)}`,
    `.SH EXIT STATUS\n${items(EXIT_STATUS)}`,
    ".SH SEE ALSO\n.BR git\\-annex (1),\n.BR git\\-annex\\-p2p (1),\n.BR git\\-annex\\-remotedaemon (1)",
  ].join("\n") + "\n";
}

function roff(text: string): string {
  return text.replaceAll("\\", "\\e").replaceAll("-", "\\-").replace(/^([.'])/, "\\&$1");
}

/** Returns the calls that begin with a command, by that command. */
function commands(): ManualEntry[] {
  return CALLS.filter(({ term }) => /^[a-z]/.test(term)).map(({ term, text }) => ({
    term: term.split(" ")[0]!,
    text: text.split(/[;:]/)[0]!,
  }));
}

function bashCompletion(): string {
  const options = OPTIONS.map(({ long }) => long).join(" ");
  const first = commands().map(({ term }) => term).join(" ");
  return `# bash completion for ${PROGRAM}
_git_annex_p2p_iroh() {
  local word=\${COMP_WORDS[COMP_CWORD]}
  COMPREPLY=()
  if [[ $word == -* ]]; then
    COMPREPLY=($(compgen -W "${options}" -- "$word"))
  elif ((COMP_CWORD == 1)); then
    COMPREPLY=($(compgen -W "${first}" -- "$word"))
  elif ((COMP_CWORD == 2)) && [[ \${COMP_WORDS[1]} == endpoint* || \${COMP_WORDS[1]} == join ]]; then
    COMPREPLY=($(compgen -f -- "$word"))
  fi
}
complete -F _git_annex_p2p_iroh ${PROGRAM}
`;
}

function zshCompletion(): string {
  const quoted = (text: string) => text.replaceAll("'", "'\\''").replaceAll(":", "\\:");
  const options = OPTIONS.map(({ short, long, term, text }) => {
    const value = term.split(" ")[2];
    return `  '(${short} ${long})'{${short},${long}}'[${quoted(text)}]${
      value ? `:${value}:` : ""
    }' \\`;
  });
  const first = commands().map(({ term, text }) => `'${quoted(term)}:${quoted(text)}'`).join(" ");
  return `#compdef ${PROGRAM}
local -a first
first=(${first})
_arguments \\
${options.join("\n")}
  '1: :{_describe call first}' \\
  '2::FILE:_files'
`;
}

function fishCompletion(): string {
  const quoted = (text: string) => `'${text.replaceAll("\\", "\\\\").replaceAll("'", "\\'")}'`;
  return [
    `# fish completion for ${PROGRAM}`,
    `complete -c ${PROGRAM} -f`,
    ...commands().map(({ term, text }) =>
      `complete -c ${PROGRAM} -n __fish_use_subcommand -a ${term} -d ${quoted(text)}`
    ),
    `complete -c ${PROGRAM} -n '__fish_seen_subcommand_from join' -F`,
    ...OPTIONS.map(({ short, long, term, text }) =>
      `complete -c ${PROGRAM} -s ${short.slice(1)} -l ${long.slice(2)}${
        term.split(" ").length > 2 ? " -x" : ""
      } -d ${quoted(text)}`
    ),
  ].join("\n") + "\n";
}

if (import.meta.main) {
  const { values } = parseArgs({ args: Deno.args, options: { output: { type: "string" } } });
  const folder = values.output ?? "extras";
  await Deno.mkdir(join(folder, "completions"), { recursive: true });
  const files = extras().set(LICENSES, await thirdPartyLicenses());
  for (const [name, text] of files) await Deno.writeTextFile(join(folder, name), text);
}
