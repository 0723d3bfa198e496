import assert from "node:assert/strict";
import { asEndpoint, FakeEndpoint, SETTINGS } from "../../tests/dials.ts";
import type { EndpointOptions } from "../iroh/endpoint.ts";
import { DialEndpoints, type EndpointSettings } from "./dial_endpoints.ts";

function makeEndpoints(
  settings: EndpointSettings,
): { endpoints: DialEndpoints; bound: FakeEndpoint[] } {
  const bound: FakeEndpoint[] = [];
  const endpoints = new DialEndpoints(settings, (options: EndpointOptions) => {
    bound.push(new FakeEndpoint(options, () => "silence"));
    return Promise.resolve(asEndpoint(bound.at(-1)!));
  });
  return { endpoints, bound };
}

Deno.test("DialEndpoints binds an endpoint that knows only its route", async () => {
  const { endpoints, bound } = makeEndpoints(SETTINGS);
  await endpoints.bindShared();
  await endpoints.bindFor({ kind: "relay", relay: "https://relay.example/" });
  await endpoints.bindFor({ kind: "lookup" });
  for (const kind of ["same-host", "address", "local-network"] as const) {
    await endpoints.bindFor({ kind, direct: ["10.0.0.1:1"] });
  }
  const { relay } = SETTINGS, none = { kind: "none" };
  assert.deepEqual(bound.map(({ options }) => [options.relay, options.lookup]), [
    [relay, true],
    [relay, false],
    [relay, true],
    [none, false],
    [none, false],
    [none, false],
  ]);
});

Deno.test("DialEndpoints leaves the key and the port to the listener", async () => {
  const bind = "10.0.0.1:4711";
  for (const [external, expected] of [["1.2.3.4:99", undefined], ["1.2.3.4", "1.2.3.4"]] as const) {
    const { endpoints, bound } = makeEndpoints({ ...SETTINGS, bind, external });
    await endpoints.bindShared();
    assert.equal(bound[0]!.options.bind, "10.0.0.1:0");
    assert.equal(bound[0]!.options.external, expected);
    assert.equal(bound[0]!.options.secretKey, undefined);
  }
});

Deno.test("DialEndpoints closes all endpoints but the released one, also those bound later", async () => {
  const { endpoints, bound } = makeEndpoints(SETTINGS);
  await endpoints.bindShared();
  endpoints.release(await endpoints.bindShared());
  const late = endpoints.bindShared();
  endpoints[Symbol.dispose]();
  await late;
  assert.deepEqual(bound.map(({ isClosed }) => isClosed), [true, false, true]);
});
