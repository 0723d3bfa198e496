/** Texts about the program: the only source of `--help`, man page and completions. */

import { PROGRAM } from "./program.ts";

/** A term and its explanation. */
export interface ManualEntry {
  readonly term: string;
  readonly text: string;
}

/** A call of the program. Its term is what stands after the program's name. */
export interface Call extends ManualEntry {
  /** The caller: git-annex, or people who type it. */
  readonly by: "git-annex" | "people";
  /** Short names of the {@linkcode OPTIONS} that it takes. */
  readonly options?: readonly string[];
}

export const SUMMARY = "connect git-annex repositories over iroh";

export const PURPOSE = "Connects git-annex repositories over iroh: directly if possible, through " +
  "NATs and firewalls, or else through a relay. git-annex finds this program on PATH and runs it. " +
  "You type:";

/** The commands with which the user begins. */
export const WITH_GIT_ANNEX: readonly ManualEntry[] = [
  { term: "git-annex-p2p-iroh invite", text: "invite a friend to this repository" },
  { term: "git-annex-p2p-iroh join FOLDER", text: "join a friend who has invited you" },
  { term: "git annex sync --content", text: "exchange files" },
];

export const CALLS: readonly Call[] = [
  {
    term: "address",
    by: "git-annex",
    text: "print this repository's address; the first call creates it",
  },
  {
    term: "ADDRESS",
    by: "git-annex",
    text: "connect to a peer; send it stdin, and write what it sends to stdout",
  },
  {
    term: "ADDRESS SOCKETFILE",
    by: "git-annex",
    text: "serve: connect each peer to the unix socket SOCKETFILE; end at SIGTERM, or when " +
      "git-annex no longer needs it",
  },
  {
    term: "invite",
    by: "people",
    text: "print an invitation that links one other repository with this one, and wait until it " +
      "has joined; Ctrl-C withdraws it; serve this repository in the background if nothing does",
    options: ["-N", "-t", "-q", "-d", "-l", "-x"],
  },
  {
    term: "join [DIR]",
    by: "people",
    text: "ask for an invitation, or read it from stdin, and link this repository with the " +
      "inviter's, in both directions; in a DIR that is new or empty, make the repository first",
    options: ["-N", "-y", "-D"],
  },
  {
    term: "status",
    by: "people",
    text: "show whether this repository is being served, which peers are connected and how, and " +
      "how much data they exchange",
    options: ["-j", "-w"],
  },
  {
    term: "up",
    by: "people",
    text: "serve this repository until Ctrl-C, and keep it served: give it an address if it has " +
      "none, run git annex remotedaemon, start it again when it ends, tell it of new remotes, and " +
      "print a line for each thing that happens",
    options: ["-j", "-b", "-i", "-u", "-s"],
  },
  {
    term: "ping ADDRESS",
    by: "people",
    text: "test whether a peer can be reached, how, and how fast",
    options: ["-n"],
  },
  {
    term: "doctor",
    by: "people",
    text: "check all that this repository needs to reach peers and to be reached; changes nothing",
  },
];

/** An option, in its short and its long form. */
export interface Option extends ManualEntry {
  readonly short: string;
  readonly long: string;
}

export const OPTIONS: readonly Option[] = [
  {
    short: "-j",
    long: "--json",
    term: "-j, --json",
    text: "status, up: print one JSON object a line, for programs",
  },
  {
    short: "-w",
    long: "--watch",
    term: "-w, --watch",
    text: "status: repeat every second, until Ctrl-C",
  },
  {
    short: "-n",
    long: "--count",
    term: "-n, --count COUNT",
    text: "ping: number of pings; default 4",
  },
  {
    short: "-b",
    long: "--background",
    term: "-b, --background",
    text: "up: run in the background; the log is annex/p2p-iroh/up.log in the git directory",
  },
  {
    short: "-i",
    long: "--install",
    term: "-i, --install",
    text:
      "up: show, write and start a service that runs up from login or boot on (systemd, launchd)",
  },
  {
    short: "-u",
    long: "--uninstall",
    term: "-u, --uninstall",
    text: "up: end and remove that service",
  },
  {
    short: "-s",
    long: "--status",
    term: "-s, --status",
    text: "up: show whether up runs here and where, and the state of that service",
  },
  {
    short: "-N",
    long: "--name",
    term: "-N, --name NAME",
    text: "invite, join: name of the other repository's remote here",
  },
  {
    short: "-t",
    long: "--valid",
    term: "-t, --valid TIME",
    text: "invite: how long it is good, such as 15m, 1h or 1d; default 1h",
  },
  { short: "-q", long: "--qr", term: "-q, --qr", text: "invite: print a QR code, too" },
  {
    short: "-d",
    long: "--detach",
    term: "-d, --detach",
    text: "invite: return at once; the invitation stays good, also after a restart",
  },
  {
    short: "-l",
    long: "--list",
    term: "-l, --list",
    text: "invite: list the invitations that are good, by short ids",
  },
  {
    short: "-x",
    long: "--withdraw",
    term: "-x, --withdraw ID",
    text: "invite: withdraw the invitation with that id, or all",
  },
  {
    short: "-y",
    long: "--yes",
    term: "-y, --yes",
    text: "join: do not ask whether the inviter may have access to a repository that exists",
  },
  {
    short: "-D",
    long: "--no-daemon",
    term: "-D, --no-daemon",
    text: "join: serve this repository only until both are linked",
  },
  { short: "-h", long: "--help", term: "-h, --help", text: "show this help" },
  { short: "-V", long: "--version", term: "-V, --version", text: "show the version" },
];

export const ABOUT_SETTINGS =
  "Settings are in git config: git config p2p-iroh.KEY VALUE. The environment " +
  "variable GIT_ANNEX_P2P_IROH_KEY (KEY in capitals, with _ for each -) overrides a setting.";

export const SETTINGS: readonly ManualEntry[] = [
  {
    term: "relay",
    text: "n0 (iroh's public relays), none, or the URLs of your own relays; default n0",
  },
  {
    term: "relay-token-file",
    text: "file with the token that your own relays demand; default annex/creds/iroh-relay-token " +
      "in the git directory",
  },
  {
    term: "lookup",
    text: "n0 (iroh's public DNS) or none; default n0, or none if relay is not n0",
  },
  {
    term: "lan",
    text: "true or false: find peers on the local network, and be found by them; default true",
  },
  {
    term: "lane",
    text: "true or false: move large transfers to a direct connection beside iroh's, which is " +
      "many times faster; default true",
  },
  {
    term: "warm",
    text: "true or false: connect through this repository's serving process, which keeps its " +
      "connections open; default true",
  },
  { term: "bind", text: "ADDRESS:PORT of the serving process's UDP socket; default any port" },
  {
    term: "external",
    text: "ADDRESS or ADDRESS:PORT at which peers see this host, if no relay reports it; default " +
      "none",
  },
  {
    term: "max-connections",
    text: "maximum number of git-annex connections served at once, 1 to 10000; default 100",
  },
];

export const ABOUT_LOGS =
  "GIT_ANNEX_P2P_IROH_LOG=debug writes a debug log to stderr. A serving process " +
  "keeps its own log in annex/p2p-iroh/log in the git directory.";

export const EXIT_STATUS: readonly ManualEntry[] = [
  { term: "0", text: "success" },
  { term: "1", text: "failure, stderr says why" },
  { term: "2", text: "wrong command line" },
  { term: "128+N", text: "ended by signal N; but up, a serving process and status --watch exit 0" },
];

/** Maximum number of options that the usage of a call names, so that it fits into a line. */
const MAX_USAGE_OPTIONS = 2;
/** Maximum length of a line of `--help`, as wide as a terminal is by default. */
const WIDTH = 80;

/** Returns the text of `--help`, in lines of at most 80 characters. */
export function helpText(): string {
  const usage = CALLS.map(({ term }, i) => `${i === 0 ? "Usage:" : "      "} ${usageOf(term)}`);
  const calls = CALLS.map(({ term }) => term);
  return [
    usage.join("\n"),
    fill(PURPOSE),
    list(WITH_GIT_ANNEX, WITH_GIT_ANNEX),
    `Commands that git-annex runs:\n${list(CALLS.filter(({ by }) => by === "git-annex"), calls)}`,
    `Commands for you:\n${list(CALLS.filter(({ by }) => by === "people"), calls)}`,
    'An ADDRESS begins with "endpoint".',
    `Options:\n${list(OPTIONS, OPTIONS)}`,
    `${fill(ABOUT_SETTINGS)}\n${list(SETTINGS, SETTINGS)}`,
    fill(ABOUT_LOGS),
    fill(`Exit status: ${EXIT_STATUS.map(({ term, text }) => `${term} ${text}`).join(" · ")}`),
  ].join("\n\n") + "\n";
}

/** Returns a call as the user types it, with its options. */
export function usageOf(term: string): string {
  const { options = [] } = CALLS.find((call) => call.term === term)!;
  if (options.length > MAX_USAGE_OPTIONS) return `${PROGRAM} ${term} [OPTION]`;
  const optional = OPTIONS.filter(({ short }) => options.includes(short)).map(({ long, term }) => {
    const value = term.split(" ")[2];
    return value ? ` [${term.slice(0, 2)} ${value}]` : ` [${long}]`;
  });
  return `${PROGRAM} ${term}${optional.join("")}`;
}

/** Returns terms with their explanations beside them. @param all Terms that the left column must fit. */
function list(entries: readonly ManualEntry[], all: readonly (ManualEntry | string)[]): string {
  const terms = all.map((entry) => typeof entry === "string" ? entry : entry.term);
  const column = 2 + Math.max(...terms.map((term) => term.length)) + 3;
  return entries.map(({ term, text }) =>
    `  ${term}`.padEnd(column) +
    fill(text, WIDTH - column).replaceAll("\n", `\n${" ".repeat(column)}`)
  ).join("\n");
}

/** Breaks a text into lines, between words. */
function fill(text: string, width = WIDTH): string {
  const lines = [""];
  for (const word of text.split(" ")) {
    const line = lines.at(-1)!;
    if (line === "") lines[lines.length - 1] = word;
    else if (line.length + 1 + word.length > width) lines.push(word);
    else lines[lines.length - 1] = `${line} ${word}`;
  }
  return lines.join("\n");
}
