/** What packages, formula, container and SBOM say of the program: the one place where they take it from. */

import config from "../../deno.json" with { type: "json" };
import { SUMMARY } from "../../lib/console/manual.ts";
import { HOMEPAGE, ISSUES_URL, PROGRAM } from "../../lib/console/program.ts";
import { OLDEST_GIT_ANNEX } from "../../lib/doctor/programs.ts";
import { GLIBC_MINOR, GLIBC_SYSTEMS } from "../../lib/platform/glibc.ts";

export const VERSION: string = config.version;

export const METADATA = {
  name: PROGRAM,
  version: VERSION,
  summary: SUMMARY,
  description:
    "git-annex runs this program to connect a repository with repositories on other machines, " +
    "directly through NATs and firewalls, or through a relay. Nobody has to run a server.",
  homepage: HOMEPAGE,
  license: config.license,
  maintainer: `the ${PROGRAM} authors <${ISSUES_URL}>`,
  /** Where the files of this version are. */
  downloads: `${HOMEPAGE}/releases/download/v${VERSION}`,
  glibc: `2.${GLIBC_MINOR}`,
  systems: GLIBC_SYSTEMS,
  gitAnnex: OLDEST_GIT_ANNEX,
} as const;

/** Time of each file in archives and packages, the earliest that all formats can hold: 1 January 1980. */
export const FILE_TIME_S = 315_532_800;
