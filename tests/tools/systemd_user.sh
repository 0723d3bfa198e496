#!/bin/sh
# Runs systemd as in a user's session, in a mount namespace of its own. It demands that the system was started
# by systemd, and looks for this folder.
set -eu
mount -t tmpfs tmpfs /run
mkdir -p /run/systemd/system
exec /usr/lib/systemd/systemd --user --log-target=console
