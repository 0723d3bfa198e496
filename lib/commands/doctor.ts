/** `git-annex-p2p-iroh doctor`: finds what is wrong and says what to do. It changes nothing. */

import { checkCosts } from "../doctor/costs.ts";
import { failure, type Finding } from "../doctor/finding.ts";
import { checkMulticast, checkRelayed } from "../doctor/network.ts";
import { checkProxies } from "../doctor/proxy.ts";
import { checkGitAnnex, checkGitRemote, checkPairing, checkProgram } from "../doctor/programs.ts";
import { checkIdentity, checkListener, checkVersion } from "../doctor/serving.ts";
import { checkSystem } from "../doctor/system.ts";
import { Failure, systemReason } from "../console/failure.ts";
import { findRepository, readSettings, type Repository } from "../repository/repository.ts";
import { printable } from "../console/printable.ts";
import { REPORT_BUG } from "../console/stderr.ts";
import { print } from "../console/stdout.ts";

/** Width of the first column. */
const STATE_CHARACTERS = "failure  ".length;

/** Prints a line for each check. @returns 1 if any has failed. */
export async function doctor(): Promise<number> {
  const repository = await findRepository();
  // They run at the same time, since some wait for the network, and are printed in this order.
  const running = [
    checkSystem(),
    checkGitAnnex(),
    checkGitRemote(),
    checkPairing(),
    checkProgram(),
    checkIdentity(repository),
    checkListener(repository),
    checkVersion(repository),
    checkCosts(repository),
    checkNetwork(repository),
  ].map(async (check) => {
    try {
      const found = await check;
      return Array.isArray(found) ? found : [found];
    } catch (error) {
      return [checkError(error)]; // the other checks go on
    }
  });
  let failed = false;
  for (const findings of running) {
    for (const { state, what, todo } of await findings) {
      failed ||= state === "failure";
      await print(
        `${state.padEnd(STATE_CHARACTERS)}${printable(todo ? `${what}; ${todo}` : what)}\n`,
      );
    }
  }
  return failed ? 1 : 0;
}

async function checkNetwork(repository: Repository): Promise<Finding[]> {
  const settings = await readSettings();
  const [relayed, proxies, multicast] = await Promise.all([
    checkRelayed(settings, repository),
    checkProxies(settings),
    checkMulticast(settings),
  ]);
  return [...relayed, ...proxies, multicast];
}

/** Returns the finding of a check that could not be made. */
function checkError(error: unknown): Finding {
  if (error instanceof Failure) return failure(error.message, error.hint ?? "mend that");
  return failure(`a check could not be made, ${systemReason(error)}`, REPORT_BUG);
}
