import assert from "node:assert/strict";
import { isRemoteDaemon } from "./remote_daemon.ts";

Deno.test("isRemoteDaemon() knows remotedaemon wherever git-annex is, and nothing else", () => {
  for (
    const command of [
      "git-annex remotedaemon --foreground",
      "git-annex remotedaemon",
      "/home/ann/my programs/bin/git-annex remotedaemon",
      "/opt/annex/linux/ld-linux.so --library-path /opt/annex/lib /opt/annex/git-annex remotedaemon",
      "/usr/bin/git-annex.linux/git-annex.bin remotedaemon --foreground",
    ]
  ) assert(isRemoteDaemon(command), command);
  for (
    const command of [
      "git-annex sync remotedaemon",
      "git-annex get --from remotedaemon",
      "git annex remotedaemon --foreground", // git, which has started git-annex
      "sh -c git annex remotedaemon --foreground; status=$?",
      "git-remote-p2p-annex origin p2p-annex::iroh:endpointa",
      "my-git-annex remotedaemon",
      "git-annex remotedaemons",
      "",
    ]
  ) assert(!isRemoteDaemon(command), command);
});
