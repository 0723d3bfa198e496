/** Checks that this system is one of those for which there is a program. */

import { GLIBC_MINOR, GLIBC_SYSTEMS, glibcVersion, isOldGlibc } from "../platform/glibc.ts";
import { failure, type Finding, ok } from "./finding.ts";

/** Version of Darwin that macOS 11 has, the first one for which there is a program. */
const DARWIN_OF_MACOS_11 = 20;

/** Checks the system. */
export function checkSystem(
  os: typeof Deno.build.os = Deno.build.os,
  glibc: string | undefined = glibcVersion(),
  release: string = Deno.osRelease(),
): Finding {
  switch (os) {
    case "windows":
      return ok(`Windows ${release}, where this program connects to peers but cannot be reached`);
    case "darwin":
      if (Number(release.split(".")[0]) >= DARWIN_OF_MACOS_11) {
        return ok(`macOS, Darwin ${release}`);
      }
      return failure(`Darwin ${release} is older than macOS 11`, "update macOS");
    default:
      if (glibc === undefined) {
        return failure("this system has no glibc", `use a system with glibc: ${GLIBC_SYSTEMS}`);
      }
      if (!isOldGlibc(glibc)) return ok(`glibc ${glibc}`);
      return failure(
        `glibc ${glibc} is older than 2.${GLIBC_MINOR}, which iroh's native code needs`,
        `use ${GLIBC_SYSTEMS}`,
      );
  }
}
