/** Finds the listener of this repository without git, which takes longer than everything else. */

import { variable } from "../console/environment.ts";
import { debug } from "../console/stderr.ts";
import { type ControlLocator, locateControlSocket, routeSettings } from "../control/locator.ts";
import { discoverGitDir } from "../repository/discovery.ts";
import { gitEnvironment } from "../repository/git_environment.ts";
import { parseSettings } from "../repository/settings.ts";

/** Matches what may be an address. The listener, or the dialer of this process, decodes it. */
const ADDRESS_LIKE = /^endpoint[a-z2-7]{1,4096}$/;

/** Tells whether a text may be an address, so that a listener may be asked for it. */
export function isAddressLike(text: string): boolean {
  return ADDRESS_LIKE.test(text);
}

/**
 * Finds the control socket of this repository, if it is certain which repository git would find. The settings
 * are those of the git config that the listener knows. The listener must confirm that it has not changed.
 * Never throws.
 *
 * @param address What is to be reached.
 * @returns Undefined if git must be asked.
 */
export function locateWithoutGit(address: string): ControlLocator | undefined {
  if (!isAddressLike(address)) return undefined;
  try {
    const environment = gitEnvironment();
    const gitDir = environment === undefined ? undefined : discoverGitDir();
    if (gitDir === undefined) return undefined;
    const locator = locateControlSocket({ gitDir });
    if (!locator?.config || locator.config.environment !== environment) return undefined;
    const settings = parseSettings(locator.config.entries, variable);
    const isUsed = settings.warm && settings.lane && locator.settings === routeSettings(settings);
    return isUsed ? locator : undefined;
  } catch (error) {
    debug(() => `git is asked: ${error}`); // it finds the same, and then the error is thrown
    return undefined;
  }
}
