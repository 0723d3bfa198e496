/** The command line: which command, with which arguments. */

import { UsageError } from "./failure.ts";

/** What `up` does: `run` without an option, else as one of these says. */
export type UpAction = "run" | (typeof UP_OPTIONS)[number];
const UP_OPTIONS = ["background", "install", "uninstall", "status"] as const;

/** How `invite` is called. */
export interface InviteOptions {
  /** What the joiner's repository is to be called here. */
  readonly name: string | undefined;
  /** How long the invitation is valid, as the user writes it. */
  readonly valid: string | undefined;
  /** Prints it as a QR code, too. */
  readonly isQr: boolean;
  /** Returns at once, and leaves it valid. */
  readonly isDetached: boolean;
}

/** How `join` is called. */
export interface JoinOptions {
  /** DIR and the invitation, which may both be missing, in any order. */
  readonly words: readonly string[];
  /** What the inviter's repository is to be called here. */
  readonly name: string | undefined;
  /** Asks nothing. */
  readonly isSure: boolean;
  /** False if the repository is served only until both are linked. */
  readonly isDaemon: boolean;
}

/** What the user wants. */
export type Command =
  | { readonly name: "help" }
  | { readonly name: "version" }
  | { readonly name: "address" }
  | { readonly name: "doctor" }
  | { readonly name: "status"; readonly json: boolean; readonly watch: boolean }
  | { readonly name: "up"; readonly action: UpAction; readonly json: boolean }
  | { readonly name: "invite"; readonly options: InviteOptions }
  | { readonly name: "invite --list" }
  | { readonly name: "invite --withdraw"; readonly id: string }
  | { readonly name: "join"; readonly options: JoinOptions }
  | { readonly name: "connect"; readonly address: string }
  | { readonly name: "ping"; readonly address: string; readonly count: number }
  | { readonly name: "serve"; readonly address: string; readonly socketPath: string };

/** The commands that take an option. */
const COMMANDS_OF = {
  name: ["invite", "join"],
  valid: ["invite"],
  qr: ["invite"],
  detach: ["invite"],
  list: ["invite"],
  withdraw: ["invite"],
  yes: ["join"],
  "no-daemon": ["join"],
} satisfies Record<string, readonly string[]>;

/** Pings that `ping` sends without `-n`. */
const DEFAULT_PINGS = "4";

/** Maximum length of a word that is taken for a command. Tickets of iroh, of any kind, are longer. */
const MAX_COMMAND_CHARACTERS = 40;

/** Reads the command line. @throws {UsageError} if it is not valid. */
export async function parseCommand(args: readonly string[]): Promise<Command> {
  const { values, positionals } = await parse(args);
  if (values.help) return { name: "help" };
  if (values.version) return { name: "version" };
  const [first, second, ...more] = positionals;
  if (!first) throw new UsageError("no command");
  if (values.count !== undefined && first !== "ping") throw new UsageError("-n is for ping");
  const { json = false, watch = false } = values;
  if (json && first !== "status" && first !== "up") {
    throw new UsageError("--json is for status and up");
  }
  if (watch && first !== "status") throw new UsageError("--watch is for status");
  for (const [option, commands] of Object.entries(COMMANDS_OF)) {
    if (values[option as keyof typeof COMMANDS_OF] === undefined || commands.includes(first)) {
      continue;
    }
    throw new UsageError(`--${option} is for ${commands.join(" and ")}`);
  }
  const upOption = UP_OPTIONS.find((option) => values[option]);
  if (upOption && first !== "up") throw new UsageError(`--${upOption} is for up`);
  if (first === "join") return { name: first, options: joinOptions(positionals.slice(1), values) };
  if (more.length > 0) throw new UsageError(`too many arguments, after "${second}"`);
  if (first === "address" || first === "doctor" || first === "status" || first === "up") {
    if (second !== undefined) throw new UsageError(`${first} takes no argument`);
    if (first === "status") return { name: first, json, watch };
    return first === "up" ? { name: first, json, action: upAction(values) } : { name: first };
  }
  if (first === "invite") {
    if (second !== undefined) throw new UsageError("invite takes no argument");
    return inviteCommand(values);
  }
  if (first === "ping") {
    if (!second) throw new UsageError("ping needs an address");
    return { name: "ping", address: second, count: parseCount(values.count) };
  }
  if (second === "") throw new UsageError("SOCKETFILE is empty");
  // git-annex gives a path, and then the listener logs a wrong address.
  if (looksLikeCommand(first) && !second?.includes("/")) {
    throw new UsageError(`unknown command "${first}"`);
  }
  if (second === undefined) return { name: "connect", address: first };
  return { name: "serve", address: first, socketPath: second };
}

function upAction(values: Arguments["values"]): UpAction {
  const [option, another] = UP_OPTIONS.filter((option) => values[option]);
  if (another) throw new UsageError(`--${option} and --${another} exclude each other`);
  if (option && values.json) throw new UsageError(`--json is not for up --${option}`);
  return option ?? "run";
}

function inviteCommand(values: Arguments["values"]): Command {
  const { name, valid, qr, detach, list, withdraw } = values;
  const action = list ? "list" : withdraw !== undefined ? "withdraw" : undefined;
  if (action === undefined) {
    const options = { name, valid, isQr: qr ?? false, isDetached: detach ?? false };
    return { name: "invite", options };
  }
  if (
    [name, valid, qr, detach, list && withdraw].some((value) =>
      value !== undefined && value !== false
    )
  ) {
    throw new UsageError(`--${action} goes with no other option`);
  }
  return action === "list"
    ? { name: "invite --list" }
    : { name: "invite --withdraw", id: withdraw! };
}

function joinOptions(words: readonly string[], values: Arguments["values"]): JoinOptions {
  if (words.length > 2) throw new UsageError(`too many arguments, after "${words[1]}"`);
  return {
    words,
    name: values.name,
    isSure: values.yes ?? false,
    isDaemon: !values["no-daemon"],
  };
}

function looksLikeCommand(word: string): boolean {
  return /^[\w-]+$/.test(word) && word.length <= MAX_COMMAND_CHARACTERS &&
    !word.startsWith("endpoint");
}

interface Arguments {
  readonly values: {
    readonly help?: boolean;
    readonly version?: boolean;
    readonly json?: boolean;
    readonly watch?: boolean;
    readonly count?: string;
    readonly background?: boolean;
    readonly install?: boolean;
    readonly uninstall?: boolean;
    readonly status?: boolean;
    readonly name?: string;
    readonly valid?: string;
    readonly qr?: boolean;
    readonly detach?: boolean;
    readonly list?: boolean;
    readonly withdraw?: string;
    readonly yes?: boolean;
    readonly "no-daemon"?: boolean;
  };
  readonly positionals: readonly string[];
}

function parseCount(value = DEFAULT_PINGS): number {
  if (!/^[1-9]\d{0,5}$/.test(value)) throw new UsageError(`-n ${value} is not a count`);
  return Number(value);
}

/** Separates options from arguments. @throws {UsageError} for an unknown option. */
async function parse(args: readonly string[]): Promise<Arguments> {
  // git-annex gives no options, and waits for the program to start: it spares the import.
  if (!args.some((arg) => arg.startsWith("-"))) return { values: {}, positionals: args };
  const { parseArgs } = await import("node:util");
  try {
    return parseArgs({
      args: [...args],
      options: {
        help: { type: "boolean", short: "h" },
        version: { type: "boolean", short: "V" },
        json: { type: "boolean", short: "j" },
        watch: { type: "boolean", short: "w" },
        count: { type: "string", short: "n" },
        background: { type: "boolean", short: "b" },
        install: { type: "boolean", short: "i" },
        uninstall: { type: "boolean", short: "u" },
        status: { type: "boolean", short: "s" },
        name: { type: "string", short: "N" },
        valid: { type: "string", short: "t" },
        qr: { type: "boolean", short: "q" },
        detach: { type: "boolean", short: "d" },
        list: { type: "boolean", short: "l" },
        withdraw: { type: "string", short: "x" },
        yes: { type: "boolean", short: "y" },
        "no-daemon": { type: "boolean", short: "D" },
      },
      allowPositionals: true,
    });
  } catch (error) {
    throw new UsageError(optionError(error));
  }
}

/** Returns the first sentence of an error of `parseArgs`, in the form of the program's own errors. */
function optionError(error: unknown): string {
  const [sentence] = (error as Error).message.split(".", 1);
  return sentence!.charAt(0).toLowerCase() + sentence!.slice(1).replaceAll("'", '"');
}
