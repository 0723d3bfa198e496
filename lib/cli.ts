/** The command line: which command, which arguments, and the text of `--help`. */

import { parseArgs } from "node:util";
import config from "../deno.json" with { type: "json" };
import { UsageError } from "./failure.ts";

/** Text of `--version`. */
export const VERSION_TEXT = `git-annex-p2p-iroh ${config.version}\n`;

/** Text of `--help`. */
export const HELP_TEXT = `\
Usage: git-annex-p2p-iroh address
       git-annex-p2p-iroh ADDRESS
       git-annex-p2p-iroh ADDRESS SOCKETFILE
       git-annex-p2p-iroh ping ADDRESS [-n COUNT]

Connects git-annex repositories over iroh: directly where it can, through NATs
and firewalls, and by a relay where nothing else works. git-annex finds it on
PATH and runs it; what you type is

  git annex p2p --enable iroh     give this repository an address
  git annex remotedaemon          let paired peers in
  git annex p2p --pair            link it with a friend's repository
  git annex sync --content        exchange files

Calls, as git-annex makes them:
  address              print this repository's address; the first time, make it
  ADDRESS              connect to a peer, relay stdin to it and it to stdout
  ADDRESS SOCKETFILE   serve: hand each connection to the unix socket given,
                       until SIGTERM, or until git-annex no longer needs it

For you:
  ping ADDRESS         can that peer be reached, in which way, and how fast?

An ADDRESS begins with "endpoint".

Options:
  -n, --count COUNT   how many pings; default 4
  -h, --help          show this text
  -V, --version       show the version

Settings, in git config (git config p2p-iroh.KEY VALUE), or in the environment
variable GIT_ANNEX_P2P_IROH_KEY, in capitals, with _ for -, which goes first:
  relay             n0 (iroh's public relays), none, or URLs of your own
                    relays; default n0
  lookup            n0 (iroh's public DNS) or none; default n0, and none when
                    relay is not n0
  lan               true or false: find, and be found by, peers on the local
                    network; default true
  lane              true or false: move large transfers to a direct connection
                    beside iroh's, which is many times as fast; default true
  bind              ADDRESS:PORT of the UDP socket; default any port
  external          ADDRESS[:PORT] at which others see this host
  max-connections   how many peers to serve at once; default 100

GIT_ANNEX_P2P_IROH_LOG=debug writes a log to stderr. A serving process keeps its
own log in annex/p2p-iroh/log in the git directory.

Exit status: 0 all went well · 1 it did not, stderr says why · 2 the command
line makes no sense · 128+N ended by signal N
`;

/** What the user wants. */
export type Command =
  | { readonly name: "help" }
  | { readonly name: "version" }
  | { readonly name: "address" }
  | { readonly name: "connect"; readonly address: string }
  | { readonly name: "ping"; readonly address: string; readonly count: number }
  | { readonly name: "serve"; readonly address: string; readonly socketPath: string };

/** Reads the command line. @throws {UsageError} if it makes no sense. */
export function parseCommand(args: readonly string[]): Command {
  const { values, positionals } = parse(args);
  if (values.help) return { name: "help" };
  if (values.version) return { name: "version" };
  const [first, socketPath, ...more] = positionals;
  if (!first) throw new UsageError("no command");
  if (values.count !== undefined && first !== "ping") throw new UsageError("-n is for ping");
  if (more.length > 0) throw new UsageError(`too many arguments, after "${socketPath}"`);
  if (first === "address") {
    if (socketPath !== undefined) throw new UsageError("address takes no argument");
    return { name: "address" };
  }
  if (first === "ping") {
    if (!socketPath) throw new UsageError("ping needs an address");
    return { name: "ping", address: socketPath, count: parseCount(values.count) };
  }
  if (socketPath === undefined) return { name: "connect", address: first };
  if (!socketPath) throw new UsageError("SOCKETFILE is empty");
  return { name: "serve", address: first, socketPath };
}

function parseCount(value = "4"): number {
  if (!/^[1-9]\d{0,5}$/.test(value)) throw new UsageError(`-n ${value} is not a count`);
  return Number(value);
}

/** @throws {UsageError} for an unknown option. */
function parse(args: readonly string[]) {
  try {
    return parseArgs({
      args: [...args],
      options: {
        help: { type: "boolean", short: "h" },
        version: { type: "boolean", short: "V" },
        count: { type: "string", short: "n" },
      },
      allowPositionals: true,
    });
  } catch (error) {
    throw new UsageError((error as Error).message.split(".", 1)[0]!);
  }
}
