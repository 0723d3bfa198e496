/** The command line: which command, which arguments. */

import config from "../../deno.json" with { type: "json" };
import { UsageError } from "./failure.ts";

/** Text of `--version`. */
export const VERSION_TEXT = `git-annex-p2p-iroh ${config.version}\n`;

/** What the user wants. */
export type Command =
  | { readonly name: "help" }
  | { readonly name: "version" }
  | { readonly name: "address" }
  | { readonly name: "doctor" }
  | { readonly name: "status"; readonly json: boolean; readonly watch: boolean }
  | { readonly name: "connect"; readonly address: string }
  | { readonly name: "ping"; readonly address: string; readonly count: number }
  | { readonly name: "serve"; readonly address: string; readonly socketPath: string };

/** Reads the command line. @throws {UsageError} if it makes no sense. */
export async function parseCommand(args: readonly string[]): Promise<Command> {
  const { values, positionals } = await parse(args);
  if (values.help) return { name: "help" };
  if (values.version) return { name: "version" };
  const [first, socketPath, ...more] = positionals;
  if (!first) throw new UsageError("no command");
  if (values.count !== undefined && first !== "ping") throw new UsageError("-n is for ping");
  const { json = false, watch = false } = values;
  if ((json || watch) && first !== "status") {
    throw new UsageError(`--${json ? "json" : "watch"} is for status`);
  }
  if (more.length > 0) throw new UsageError(`too many arguments, after "${socketPath}"`);
  if (first === "address" || first === "doctor" || first === "status") {
    if (socketPath !== undefined) throw new UsageError(`${first} takes no argument`);
    return first === "status" ? { name: first, json, watch } : { name: first };
  }
  if (first === "ping") {
    if (!socketPath) throw new UsageError("ping needs an address");
    return { name: "ping", address: socketPath, count: parseCount(values.count) };
  }
  if (socketPath === undefined) return { name: "connect", address: first };
  if (!socketPath) throw new UsageError("SOCKETFILE is empty");
  return { name: "serve", address: first, socketPath };
}

interface Arguments {
  readonly values: {
    readonly help?: boolean;
    readonly version?: boolean;
    readonly json?: boolean;
    readonly watch?: boolean;
    readonly count?: string;
  };
  readonly positionals: readonly string[];
}

function parseCount(value = "4"): number {
  if (!/^[1-9]\d{0,5}$/.test(value)) throw new UsageError(`-n ${value} is not a count`);
  return Number(value);
}

/** @throws {UsageError} for an unknown option. */
async function parse(args: readonly string[]): Promise<Arguments> {
  // git-annex gives no options, and it matters how long what it calls takes to begin.
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
      },
      allowPositionals: true,
    });
  } catch (error) {
    throw new UsageError((error as Error).message.split(".", 1)[0]!);
  }
}
