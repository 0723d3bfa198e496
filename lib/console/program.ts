/** What the program says about itself: its name, its version and its home. */

import config from "../../deno.json" with { type: "json" };

/** The name under which git-annex finds the program on PATH. */
export const PROGRAM = "git-annex-p2p-iroh";

/** Text of `--version`. */
export const VERSION_TEXT = `${PROGRAM} ${config.version}\n`;

/** Home of the project. README.md links to the same place; tests/docs_test.ts compares them. */
export const HOMEPAGE = "https://github.com/git-annex-p2p-iroh/git-annex-p2p-iroh";

/** Where users report a bug. */
export const ISSUES_URL = `${HOMEPAGE}/issues`;
