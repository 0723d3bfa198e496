#!/bin/sh
# The script of git-annex's documentation, which has the calls and the key file of this program. It runs
# dumbpipe.
set -e
creds=$(git rev-parse --git-dir)/annex/creds
if [ "$1" != address ] && [ -z "$2" ]; then exec dumbpipe connect "$1"; fi
if [ ! -e "$creds/iroh-secret" ]; then
  mkdir -p "$creds"
  (umask 077; od -An -N32 -tx1 /dev/urandom | tr -d ' \n' >"$creds/iroh-secret")
fi
IROH_SECRET=$(cat "$creds/iroh-secret")
export IROH_SECRET
if [ "$1" = address ]; then exec dumbpipe generate-ticket 2>/dev/null; fi
exec dumbpipe listen-unix --socket-path="$2"
