/** The files beside the program in archives and packages, and where a Unix system has them. */

import { dirname, join } from "node:path";
import { UNIT_NAME } from "../../lib/supervisor/boot_files.ts";
import { PROGRAM } from "../../lib/console/program.ts";
import { extras, LICENSES } from "../extras.ts";
import { thirdPartyLicenses } from "../licenses.ts";

const project = dirname(dirname(import.meta.dirname!));
/** Files of the project that go with the program. */
const OF_PROJECT = ["LICENSE", "README.md", "CHANGELOG.md"];

/** Where man page, completions, unit and documents go, below a prefix such as `/usr`. */
export const PLACES: Readonly<Record<string, string>> = {
  [`${PROGRAM}.1`]: `share/man/man1/${PROGRAM}.1`,
  [`completions/${PROGRAM}.bash`]: `share/bash-completion/completions/${PROGRAM}`,
  [`completions/_${PROGRAM}`]: `share/zsh/site-functions/_${PROGRAM}`,
  [`completions/${PROGRAM}.fish`]: `share/fish/vendor_completions.d/${PROGRAM}.fish`,
  [`${UNIT_NAME}@.service`]: `share/systemd/user/${UNIT_NAME}@.service`,
  LICENSE: `share/doc/${PROGRAM}/LICENSE`,
  "README.md": `share/doc/${PROGRAM}/README.md`,
  "CHANGELOG.md": `share/doc/${PROGRAM}/CHANGELOG.md`,
  [LICENSES]: `share/doc/${PROGRAM}/${LICENSES}`,
};

/** Returns the files, by name. */
export async function companions(): Promise<Map<string, string>> {
  const files = extras().set(LICENSES, await thirdPartyLicenses());
  for (const name of OF_PROJECT) files.set(name, await Deno.readTextFile(join(project, name)));
  return files;
}
