/** The script `install.sh` of a release: it downloads an archive, compares its checksum and installs it. */

import { PROGRAM } from "../../lib/console/program.ts";
import { FOLDER } from "./archives.ts";
import { PLACES } from "./files.ts";
import { METADATA } from "./metadata.ts";

/** Variable that names another place to download from, for tests and mirrors. */
export const DOWNLOADS = "GIT_ANNEX_P2P_IROH_DOWNLOADS";

/** Returns the script. @param checksums SHA-256 of each archive, in hexadecimal, by target. */
export function installer(checksums: ReadonlyMap<string, string>): string {
  const cases = [...checksums].map(([target, sum]) => `  ${target}) sum=${sum} ;;`).join("\n");
  const files = Object.entries(PLACES)
    .map(([name, place]) => `install -m 644 '${name}' "$prefix/${place}"`);
  const folders = Object.values(PLACES).map((place) => place.slice(0, place.lastIndexOf("/")));
  const made = [...new Set(["bin", ...folders])].map((folder) => `"$prefix/${folder}"`).join(" ");
  return `#!/bin/sh
# Installs ${PROGRAM} ${METADATA.version}: sh install.sh [PREFIX]
#
# PREFIX is ~/.local by default. The checksums below are those of this release, and a download with another
# one is not installed. ${DOWNLOADS} names another place to download from.
set -eu
prefix=\${1:-$HOME/.local}
downloads=\${${DOWNLOADS}:-${METADATA.downloads}}

fail() {
  echo "install.sh: $*" >&2
  exit 1
}

case $(uname -s)-$(uname -m) in
  Linux-x86_64 | Linux-amd64) target=linux-x64 ;;
  Linux-aarch64 | Linux-arm64) target=linux-arm64 ;;
  Darwin-arm64) target=macos-arm64 ;;
  *) fail "there is no program for $(uname -s) on $(uname -m); compile it from source" ;;
esac
case $target in
${cases}
  *) fail "this release has no program for $target" ;;
esac
case $target in
  linux-*)
    [ "$(getconf LONG_BIT)" != 32 ] || fail "this system is 32-bit; use a 64-bit one"
    glibc=$(getconf GNU_LIBC_VERSION 2>/dev/null) ||
      fail "this system has no glibc (perhaps musl, as Alpine); use the container"
    glibc=\${glibc#glibc }
    [ "$(printf '%s\\n' "${METADATA.glibc}" "$glibc" | sort -V | head -n 1)" = ${METADATA.glibc} ] ||
      fail "this system has glibc $glibc, and ${METADATA.glibc} is needed: ${METADATA.systems}"
    ;;
esac

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
archive=${PROGRAM}-$target.tar.xz
if command -v curl >/dev/null; then
  download="curl --fail --silent --show-error --location --output"
elif command -v wget >/dev/null; then
  download="wget -q -O"
else
  fail "install curl or wget first"
fi
$download "$work/$archive" "$downloads/$archive" || fail "cannot download $downloads/$archive"
if command -v sha256sum >/dev/null; then
  found=$(sha256sum "$work/$archive")
else
  found=$(shasum -a 256 "$work/$archive")
fi
[ "\${found%% *}" = "$sum" ] || fail "the checksum of $archive is not that of the release; nothing was installed"
tar -xf "$work/$archive" -C "$work" || fail "tar cannot unpack $archive; is xz installed?"

cd "$work/${FOLDER}"
mkdir -p ${made}
${files.join("\n")}
# A running program cannot be overwritten, but replaced.
install -m 755 ${PROGRAM} "$prefix/bin/.${PROGRAM}.new"
mv -f "$prefix/bin/.${PROGRAM}.new" "$prefix/bin/${PROGRAM}"
"$prefix/bin/${PROGRAM}" --version
case :$PATH: in
  *:"$prefix/bin":*) ;;
  *) echo "$prefix/bin is not on PATH, so git-annex does not find the program there" ;;
esac
`;
}
