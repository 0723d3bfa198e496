/**
 * deno task notes TAG
 *
 * Prints the text of a release: its part of CHANGELOG.md, and how to check the files. Fails if CHANGELOG.md says
 * nothing of that version.
 */

import { dirname, join } from "node:path";
import { HOMEPAGE, PROGRAM } from "../lib/console/program.ts";

/** Returns the text. @param changelog Content of CHANGELOG.md. @param deno Version of Deno. */
export function releaseText(tag: string, changelog: string, deno: string): string {
  const version = tag.replace(/^v/, "");
  const part = changelog.split(/^## /m).slice(1).find((part) => part.startsWith(`${version}\n`));
  const changes = part?.slice(version.length).trim();
  if (!changes) throw new Error(`CHANGELOG.md has no text under "## ${version}"`);
  const repository = new URL(HOMEPAGE).pathname.slice(1);
  return `${changes}

## Check the files

The programs are compiled with Deno ${deno}. \`SHA256SUMS\` has the checksum of each file, and
\`${PROGRAM}.cdx.json\` lists what is in the programs. GitHub attests where each file was made:

    gh attestation verify FILE --repo ${repository}

To compile a program yourself, and get the same bytes:

    git clone --branch ${tag} ${HOMEPAGE}
    cd ${PROGRAM}
    npx -y deno@${deno} task compile --target linux-x64 --output program
    sha256sum program
`;
}

if (import.meta.main) {
  const root = dirname(import.meta.dirname!);
  const changelog = await Deno.readTextFile(join(root, "CHANGELOG.md"));
  try {
    console.log(releaseText(Deno.args[0] ?? "", changelog, Deno.version.deno));
  } catch (error) {
    console.error((error as Error).message);
    Deno.exit(1);
  }
}
