/** Why a process does not go through the running listener of its repository. */

/** The listener cannot do it, so the process must do it itself. */
export class ControlUnavailable extends Error {
  override readonly name = "ControlUnavailable";
}

/** The git config in the locator no longer holds, so the process must ask git. */
export class ConfigChanged extends ControlUnavailable {
  constructor() {
    super("the git config has changed");
  }
}
