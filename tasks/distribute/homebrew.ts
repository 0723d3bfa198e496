/** A formula for Homebrew, on macOS and Linux. */

import { PROGRAM } from "../../lib/console/program.ts";
import { METADATA } from "./metadata.ts";

/** Where the formula's blocks for a system and a processor are. */
const BLOCKS: Readonly<Record<string, readonly [string, string]>> = {
  "macos-arm64": ["on_macos", "on_arm"],
  "linux-arm64": ["on_linux", "on_arm"],
  "linux-x64": ["on_linux", "on_intel"],
};

/** Returns the formula. @param checksums SHA-256 of each archive, in hexadecimal, by target. */
export function formula(checksums: ReadonlyMap<string, string>): string {
  const systems = new Map<string, string[]>();
  for (const [target, sum] of checksums) {
    const [system, processor] = BLOCKS[target] ?? [];
    if (!system) continue;
    const lines = systems.get(system) ?? [];
    lines.push(
      `    ${processor} do`,
      `      url "${METADATA.downloads}/${PROGRAM}-${target}.tar.xz"`,
      `      sha256 "${sum}"`,
      "    end",
    );
    systems.set(system, lines);
  }
  const blocks = [...systems].map(([system, lines]) =>
    `  ${system} do\n${lines.join("\n")}\n  end`
  );
  return `# Homebrew takes formulas from a tap: put this file into its folder Formula.
class GitAnnexP2pIroh < Formula
  desc "${METADATA.summary[0]!.toUpperCase()}${METADATA.summary.slice(1)}"
  homepage "${METADATA.homepage}"
  version "${METADATA.version}"
  license "${METADATA.license}"

${blocks.join("\n\n")}

  depends_on "git-annex"

  def install
    bin.install "${PROGRAM}"
    man1.install "${PROGRAM}.1"
    bash_completion.install "completions/${PROGRAM}.bash" => "${PROGRAM}"
    zsh_completion.install "completions/_${PROGRAM}"
    fish_completion.install "completions/${PROGRAM}.fish"
    doc.install "LICENSE", "THIRD-PARTY-LICENSES", "README.md", "CHANGELOG.md"
  end

  test do
    assert_match version.to_s, shell_output("#{bin}/${PROGRAM} --version")
  end
end
`;
}
