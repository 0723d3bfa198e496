/** What people can read about the program: the one source of `--help`, man page and completions. */

/** A term and what is to be said of it. */
export interface Entry {
  readonly term: string;
  readonly text: string;
}

/** A call, and the words after the program's name. */
export interface Call extends Entry {
  /** Who makes it. */
  readonly by: "git-annex" | "people";
  /** Options it takes, as in {@linkcode OPTIONS}. */
  readonly options?: readonly string[];
}

const PROGRAM = "git-annex-p2p-iroh";

export const SUMMARY = "connect git-annex repositories over iroh";

export const PURPOSE =
  "Connects git-annex repositories over iroh: directly where it can, through " +
  "NATs and firewalls, and by a relay where nothing else works. git-annex finds it on PATH and " +
  "runs it; what you type is";

/** What people type, with git-annex. */
export const WITH_GIT_ANNEX: readonly Entry[] = [
  { term: "git annex p2p --enable iroh", text: "give this repository an address" },
  { term: "git annex remotedaemon", text: "let paired peers in" },
  { term: "git annex p2p --pair", text: "link it with a friend's repository" },
  { term: "git annex sync --content", text: "exchange files" },
];

export const CALLS: readonly Call[] = [
  {
    term: "address",
    by: "git-annex",
    text: "print this repository's address; the first time, make it",
  },
  {
    term: "ADDRESS",
    by: "git-annex",
    text: "connect to a peer, relay stdin to it and it to stdout",
  },
  {
    term: "ADDRESS SOCKETFILE",
    by: "git-annex",
    text: "serve: hand each connection to the unix socket given, until SIGTERM, or until " +
      "git-annex no longer needs it",
  },
  {
    term: "status",
    by: "people",
    text: "what is going on: is this repository being served, and who of its peers is connected, " +
      "in which way, with how much to and fro?",
    options: ["-j", "-w"],
  },
  {
    term: "ping ADDRESS",
    by: "people",
    text: "can that peer be reached, in which way, and how fast?",
    options: ["-n"],
  },
  {
    term: "doctor",
    by: "people",
    text: "is everything there that this repository needs to be reached, and to reach others? " +
      "changes nothing",
  },
];

/** An option, short and long. */
export interface Option extends Entry {
  readonly short: string;
  readonly long: string;
}

export const OPTIONS: readonly Option[] = [
  {
    short: "-j",
    long: "--json",
    term: "-j, --json",
    text: "status for programs: an object a line",
  },
  {
    short: "-w",
    long: "--watch",
    term: "-w, --watch",
    text: "status again and again, until Ctrl-C",
  },
  { short: "-n", long: "--count", term: "-n, --count COUNT", text: "how many pings; default 4" },
  { short: "-h", long: "--help", term: "-h, --help", text: "show this text" },
  { short: "-V", long: "--version", term: "-V, --version", text: "show the version" },
];

export const ABOUT_SETTINGS =
  "Settings, in git config (git config p2p-iroh.KEY VALUE), or in the " +
  "environment variable GIT_ANNEX_P2P_IROH_KEY, in capitals, with _ for -, which goes first:";

export const SETTINGS: readonly Entry[] = [
  {
    term: "relay",
    text: "n0 (iroh's public relays), none, or URLs of your own relays; default n0",
  },
  {
    term: "lookup",
    text: "n0 (iroh's public DNS) or none; default n0, and none when relay is not n0",
  },
  {
    term: "lan",
    text: "true or false: find, and be found by, peers on the local network; default true",
  },
  {
    term: "lane",
    text: "true or false: move large transfers to a direct connection beside iroh's, which is " +
      "many times as fast; default true",
  },
  {
    term: "warm",
    text: "true or false: connect through the listener of this repository, which keeps its " +
      "connections; default true",
  },
  { term: "bind", text: "ADDRESS:PORT of the UDP socket; default any port" },
  {
    term: "external",
    text: "ADDRESS or ADDRESS:PORT at which others see this host, where no relay tells; default " +
      "none",
  },
  {
    term: "max-connections",
    text: "how many connections of git-annex's to serve at once; default 100",
  },
];

export const ABOUT_LOGS =
  "GIT_ANNEX_P2P_IROH_LOG=debug writes a log to stderr. A serving process " +
  "keeps its own log in annex/p2p-iroh/log in the git directory.";

export const EXIT_STATUS: readonly Entry[] = [
  { term: "0", text: "all went well" },
  { term: "1", text: "it did not, stderr says why" },
  { term: "2", text: "the command line makes no sense" },
  { term: "128+N", text: "ended by signal N; a serving process ends with 0" },
];

const WIDTH = 80;

/** Text of `--help`, in lines of at most 80 characters. */
export function helpText(): string {
  const usage = CALLS.map(({ term }, i) => `${i === 0 ? "Usage:" : "      "} ${usageOf(term)}`);
  const calls = CALLS.map(({ term }) => term);
  return [
    usage.join("\n"),
    fill(PURPOSE),
    list(WITH_GIT_ANNEX, WITH_GIT_ANNEX),
    `Calls, as git-annex makes them:\n${list(CALLS.filter(({ by }) => by === "git-annex"), calls)}`,
    `For you:\n${list(CALLS.filter(({ by }) => by === "people"), calls)}`,
    'An ADDRESS begins with "endpoint".',
    `Options:\n${list(OPTIONS, OPTIONS)}`,
    `${fill(ABOUT_SETTINGS)}\n${list(SETTINGS, SETTINGS)}`,
    fill(ABOUT_LOGS),
    fill(`Exit status: ${EXIT_STATUS.map(({ term, text }) => `${term} ${text}`).join(" · ")}`),
  ].join("\n\n") + "\n";
}

/** A call as it is typed, with its options. */
export function usageOf(term: string): string {
  const { options = [] } = CALLS.find((call) => call.term === term)!;
  const optional = OPTIONS.filter(({ short }) => options.includes(short)).map(({ long, term }) => {
    const value = term.split(" ")[2];
    return value ? ` [${term.slice(0, 2)} ${value}]` : ` [${long}]`;
  });
  return `${PROGRAM} ${term}${optional.join("")}`;
}

/** Terms, and beside them what is to be said of each. @param all Those that the column has room for. */
function list(entries: readonly Entry[], all: readonly (Entry | string)[]): string {
  const terms = all.map((entry) => typeof entry === "string" ? entry : entry.term);
  const column = 2 + Math.max(...terms.map((term) => term.length)) + 3;
  return entries.map(({ term, text }) =>
    `  ${term}`.padEnd(column) +
    fill(text, WIDTH - column).replaceAll("\n", `\n${" ".repeat(column)}`)
  ).join("\n");
}

/** Text broken into lines between its words. */
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
