/** The command line: which command, with which arguments. */

import { UsageError } from "./failure.ts";

/** What `up` does: `run` without an option, else as one of these says. */
export type UpAction = "run" | (typeof UP_OPTIONS)[number];
const UP_OPTIONS = ["background", "install", "uninstall", "status"] as const;

/** What the user wants. */
export type Command =
  | { readonly name: "help" }
  | { readonly name: "version" }
  | { readonly name: "address" }
  | { readonly name: "doctor" }
  | { readonly name: "status"; readonly json: boolean; readonly watch: boolean }
  | { readonly name: "up"; readonly action: UpAction; readonly json: boolean }
  | { readonly name: "connect"; readonly address: string }
  | { readonly name: "ping"; readonly address: string; readonly count: number }
  | { readonly name: "serve"; readonly address: string; readonly socketPath: string };

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
  const upOption = UP_OPTIONS.find((option) => values[option]);
  if (upOption && first !== "up") throw new UsageError(`--${upOption} is for up`);
  if (more.length > 0) throw new UsageError(`too many arguments, after "${second}"`);
  if (first === "address" || first === "doctor" || first === "status" || first === "up") {
    if (second !== undefined) throw new UsageError(`${first} takes no argument`);
    if (first === "status") return { name: first, json, watch };
    return first === "up" ? { name: first, json, action: upAction(values) } : { name: first };
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
