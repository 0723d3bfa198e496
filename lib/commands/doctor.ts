/** `git-annex-p2p-iroh doctor`: what is wrong, and what to do about it. It changes nothing. */

import { basename, dirname } from "node:path";
import { bootAdvice } from "../doctor/boot.ts";
import { failure, type Finding } from "../doctor/finding.ts";
import { checkMulticast, checkRelayed } from "../doctor/network.ts";
import { checkGitAnnex, checkGitRemote, checkProgram, checkWormhole } from "../doctor/programs.ts";
import { checkIdentity, checkListener } from "../doctor/serving.ts";
import { Failure, systemReason } from "../console/failure.ts";
import { findRepository, readSettings, type Repository } from "../repository/repository.ts";
import { printable } from "../console/stderr.ts";
import { print } from "../console/stdout.ts";

const WIDTH = "failure  ".length;

/** Prints a line for each check. @returns 1 if any has failed. */
export async function doctor(): Promise<number> {
  const repository = await findRepository();
  const serving = checkListener(repository);
  // All at once, since some wait, and told in their order.
  const running = [
    checkGitAnnex(),
    checkGitRemote(),
    checkWormhole(),
    checkProgram(),
    checkIdentity(repository),
    serving,
    checkNetwork(),
  ].map(async (check) => {
    try {
      const found = await check;
      return Array.isArray(found) ? found : [found];
    } catch (error) {
      return [broken(error)]; // and the others go on
    }
  });
  let failed = false;
  for (const findings of running) {
    for (const { state, what, todo } of await findings) {
      failed ||= state === "failure";
      await print(`${state.padEnd(WIDTH)}${printable(todo ? `${what}; ${todo}` : what)}\n`);
    }
  }
  const isServed = await serving.then(({ state }) => state !== "warning", () => true);
  if (!isServed) await print(`\n${bootAdvice(topOf(repository), Deno.env.get("PATH") ?? "")}`);
  return failed ? 1 : 0;
}

async function checkNetwork(): Promise<Finding[]> {
  const settings = await readSettings();
  const [relayed, multicast] = await Promise.all([
    checkRelayed(settings),
    checkMulticast(settings),
  ]);
  return [...relayed, multicast];
}

/** A check that could not be made. */
function broken(error: unknown): Finding {
  if (error instanceof Failure) return failure(error.message, error.hint ?? "mend that");
  return failure(`a check could not be made, ${systemReason(error)}`, "please report it");
}

/** The folder in which people see the repository. */
function topOf({ gitDir }: Repository): string {
  return basename(gitDir) === ".git" ? dirname(gitDir) : gitDir;
}
