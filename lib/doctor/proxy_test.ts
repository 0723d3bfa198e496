import assert from "node:assert/strict";
import { parseSettings } from "../repository/settings.ts";
import { checkProxies } from "./proxy.ts";

const by = (values: Record<string, string>) => (name: string) => values[name];
const settings = parseSettings("");

Deno.test("checkProxies() says nothing without a proxy, or if nothing would ask it", async () => {
  assert.deepEqual(await checkProxies(settings, by({ HTTP_PROXY: " ", NO_PROXY: "*" })), []);
  const off = parseSettings("p2p-iroh.relay\nnone\0");
  assert.deepEqual(await checkProxies(off, by({ HTTP_PROXY: "http://127.0.0.1:9" })), []);
});

Deno.test("checkProxies() tells which proxy answers, and shows no password", async () => {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const { port } = listener.addr;
  {
    using closed = Deno.listen({ hostname: "127.0.0.1", port: 0 });
    const dead = closed.addr.port;
    closed.close();
    const env = by({
      HTTPS_PROXY: `http://user:secret@127.0.0.1:${port}`,
      https_proxy: `127.0.0.1:${dead}`,
      all_proxy: "http://",
      ALL_PROXY: "http://user:1/secret@127.0.0.1:9",
    });
    const findings = await checkProxies(settings, env);
    assert.deepEqual(findings.map(({ state }) => state), ["ok", "warning", "warning", "warning"]);
    const [answers, silent, slash, malformed] = findings.map(({ what, todo }) =>
      `${what}; ${todo}`
    );
    assert.match(
      answers!,
      /^the proxy of HTTPS_PROXY, 127\.0\.0\.1:\d+, answers; relays are connected to without it/,
    );
    assert.match(
      silent!,
      /^the proxy of https_proxy, 127\.0\.0\.1:\d+, does not answer \(connection refused\), so relays and peers may not be found, unless NO_PROXY is set for them; unset https_proxy/,
    );
    assert.match(malformed!, /^all_proxy names no proxy, and is ignored; correct or unset it$/);
    assert.match(slash!, /^ALL_PROXY names no proxy, and is ignored/);
    assert.doesNotMatch(JSON.stringify(findings), /secret|user@|user:/);
  }
});
