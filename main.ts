/** git-annex-p2p-iroh, git-annex's helper program for iroh: from the command line to the exit status. */

import "./lib/console/ignored_signals.ts"; // first, while the system still tells
import { connect } from "./lib/commands/connect.ts";
import { type Command, parseCommand } from "./lib/console/arguments.ts";
import { VERSION_TEXT } from "./lib/console/program.ts";
import { sayFailure } from "./lib/console/stderr.ts";
import { print } from "./lib/console/stdout.ts";

/** Runs a command. Only `connect`, which git-annex runs most, is loaded at once; the others on demand. */
async function run(command: Command): Promise<number> {
  switch (command.name) {
    case "help":
      await print((await import("./lib/console/manual.ts")).helpText());
      return 0;
    case "version":
      await print(VERSION_TEXT);
      return 0;
    case "address":
      return await (await import("./lib/commands/address.ts")).address();
    case "doctor":
      return await (await import("./lib/commands/doctor.ts")).doctor();
    case "status":
      return await (await import("./lib/commands/status.ts")).status(command);
    case "up":
      return await (await import("./lib/commands/up.ts")).up(command);
    case "invite":
      return await (await import("./lib/commands/invite.ts")).invite(command.options);
    case "invite --list":
      return await (await import("./lib/commands/invite.ts")).listValid();
    case "invite --withdraw":
      return await (await import("./lib/commands/invite.ts")).withdraw(command.id);
    case "join":
      return await (await import("./lib/commands/join.ts")).join(command.options);
    case "connect":
      return await connect(command.address);
    case "ping":
      return await (await import("./lib/commands/ping.ts")).ping(command.address, command.count);
    case "serve": {
      const { serve } = await import("./lib/commands/serve.ts");
      return await serve(command.address, command.socketPath);
    }
  }
}

async function main(): Promise<void> {
  globalThis.addEventListener("unhandledrejection", (event) => {
    event.preventDefault();
    Deno.exit(sayFailure(event.reason));
  });
  let exitStatus: number;
  try {
    exitStatus = await run(await parseCommand(Deno.args));
  } catch (error) {
    exitStatus = sayFailure(error);
  }
  // The event loop may never end, since a read of stdin or a connection may be under way.
  Deno.exit(exitStatus);
}

if (import.meta.main) main();
