import assert from "node:assert/strict";
import { cronLine, launchdAgent, systemdTemplate, systemdUnit, UnfitName } from "./boot_files.ts";

const fine = { folder: "/home/ann/annex", path: "/usr/bin:/bin", program: "/usr/bin/p" };

Deno.test("systemdUnit() escapes what systemd gives a meaning", () => {
  const unit = systemdUnit({
    folder: '/home/ann/100% "odd"',
    path: '/mnt/c/Program Files:/"odd"\\%',
    program: "/opt/a $b %/p",
  });
  assert.match(unit, /^WorkingDirectory=\/home\/ann\/100%% "odd"$/m);
  assert.match(unit, /^Environment="PATH=\/mnt\/c\/Program Files:\/\\"odd\\"\\\\%%"$/m);
  assert.match(unit, /^ExecStart="\/opt\/a \$b %%\/p" up$/m);
  assert.match(systemdTemplate(), /^WorkingDirectory=\/%I$/m);
});

Deno.test("files that start up refuse names that they cannot hold", () => {
  for (
    const make of [systemdUnit, cronLine, (options: typeof fine) => launchdAgent("x", options)]
  ) {
    for (const bad of ["\n", "\r", "\0", "\x1b", "\x7f", "\u2028", "\u202e", "\ufffd"]) {
      for (const name of ["folder", "path", "program"] as const) {
        assert.throws(() => make({ ...fine, [name]: `/a${bad}b` }), UnfitName);
      }
    }
    make(fine);
  }
  for (const end of ["\\", " "]) {
    assert.throws(() => systemdUnit({ ...fine, folder: `/a${end}` }), UnfitName);
  }
  // systemd takes no such name of a program, whatever the quotes around it.
  for (const bad of ['"', "'", "\\"]) {
    assert.throws(() => systemdUnit({ ...fine, program: `/a${bad}b` }), UnfitName);
  }
});

Deno.test("launchdAgent() and cronLine() escape what has a meaning there", () => {
  const agent = launchdAgent("label", { ...fine, folder: "/a&b<c>" });
  assert.match(agent, /<string>\/a&amp;b&lt;c&gt;<\/string>/);
  assert.equal(
    cronLine({ ...fine, folder: "/it's 100%" }),
    "@reboot cd '/it'\\''s 100\\%' && PATH='/usr/bin:/bin' '/usr/bin/p' up --background",
  );
});
