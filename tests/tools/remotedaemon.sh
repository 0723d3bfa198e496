#!/bin/sh
# git-annex remotedaemon ADDRESS: stands in for remotedaemon. It connects to ADDRESS as remotedaemon does, and
# passes on stdin and stdout. Its name must be git-annex, since the program looks at the command line.
git-annex-p2p-iroh "$2"
exit "$?"
