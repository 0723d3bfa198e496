import assert from "node:assert/strict";
import { isPairingCommand, isRemoteDaemon } from "./started_by.ts";

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

Deno.test("isPairingCommand() knows git annex p2p --link and --pair", () => {
  for (
    const command of [
      "git-annex p2p --link --name=friend",
      "/usr/bin/git-annex p2p --pair",
      "/lib64/ld-linux-x86-64.so.2 --library-path /opt/my annex/lib /opt/my annex/git-annex p2p --name x --link",
    ]
  ) assert(isPairingCommand(command), command);
  for (
    const command of [
      "git-annex p2p --gen-addresses",
      "git-annex sync p2p --linked",
      "git-annex remotedaemon --foreground",
      "git-annex get --from=p2p --pair",
    ]
  ) assert(!isPairingCommand(command), command);
});
