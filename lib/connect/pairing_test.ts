import assert from "node:assert/strict";
import { isPairingCommand } from "./pairing.ts";

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
