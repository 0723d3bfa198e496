import assert from "node:assert/strict";
import { parseHostId, thisHost, whereaboutsOf } from "./host.ts";

const here = { name: "laptop", boot: "one", pidNamespace: "pid:[1]" };

Deno.test("whereaboutsOf() tells hosts, starts of a host, and containers apart", () => {
  assert.equal(whereaboutsOf(here, here), "here");
  assert.equal(whereaboutsOf({ ...here, name: "renamed" }, here), "here");
  assert.equal(whereaboutsOf({ ...here, pidNamespace: "pid:[2]" }, here), "container");
  assert.equal(whereaboutsOf({ ...here, boot: "two" }, here), "before");
  assert.equal(whereaboutsOf({ ...here, boot: "two", name: "nas" }, here), "elsewhere");
  assert.equal(whereaboutsOf(thisHost()), "here");
});

Deno.test("thisHost() differs from one start to the next, and from container to container", {
  ignore: Deno.build.os !== "linux",
}, () => {
  assert.match(thisHost().boot, /^[0-9a-f-]{36}$/);
  assert.match(thisHost().pidNamespace, /^pid:\[\d+\]$/);
});

Deno.test("parseHostId() reads what JSON made of an id, and nothing else", () => {
  assert.deepEqual(parseHostId(JSON.parse(JSON.stringify(here))), here);
  for (
    const wrong of [undefined, null, 7, "laptop", [], { ...here, name: 7 }, { name: "laptop" }]
  ) {
    assert.equal(parseHostId(wrong), undefined);
  }
});
