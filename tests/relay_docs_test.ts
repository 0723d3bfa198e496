/** docs/relay.md: iroh-relay does with its configuration what the page says. */

import assert from "node:assert/strict";
import { dirname, join } from "node:path";
import { Endpoint } from "../lib/iroh/endpoint.ts";
import { makeCertificate, SERVER_NAME } from "../lib/lane/certificate.ts";
import { containerFiles } from "../tasks/distribute/container.ts";
import { freePort, listens, makeLoopback } from "./network.ts";
import { scenario } from "./testenv.ts";

const TOKEN = "relay-token-0123456789";

const root = dirname(import.meta.dirname!);

/** Returns the configuration on the page, without the indentation of the list that it is in. */
async function configuration(): Promise<string> {
  const page = await Deno.readTextFile(join(root, "docs/relay.md"));
  return /```toml\n([^]*?)```/.exec(page)![1]!.replaceAll(/^ {3}/gm, "").trimEnd() + "\n";
}

/** Replaces what must occur once. */
function replaced(text: string, changes: Readonly<Record<string, string>>): string {
  for (const [before, after] of Object.entries(changes)) {
    assert.equal(text.split(before).length, 2, before);
    text = text.replace(before, after);
  }
  return text;
}

Deno.test("docs: the relay's configuration is the one in the container", async () => {
  assert.equal(await configuration(), containerFiles("").get("relay.toml"));
});

Deno.test("docs: page, container and CI install the same iroh-relay", async () => {
  const page = await Deno.readTextFile(join(root, "docs/relay.md"));
  const ci = await Deno.readTextFile(join(root, ".github/workflows/ci.yml"));
  const [version, ...others] = [page, containerFiles("").get("relay.Dockerfile")!, ci]
    .map((text) => /iroh-relay@(\d+\.\d+\.\d+)/.exec(text)?.[1]);
  assert(version !== undefined && page.includes(`tested with version ${version}:`));
  assert.deepEqual(others, [version, version]);
});

scenario("docs: the relay's configuration gives TLS, and demands the token", {
  needs: ["iroh-relay"],
}, async (env) => {
  const { relay: on } = await makeLoopback(env);
  const [http, https, quic] = [freePort(), freePort(), freePort()];
  const { certificatePem, privateKeyPem } = await makeCertificate();
  await Deno.writeTextFile(join(on.dir, "default.crt"), certificatePem);
  await Deno.writeTextFile(join(on.dir, "default.key"), privateKeyPem);
  const config = join(on.dir, "relay.toml"), bind = 'bind_addr = "127.0.0.1';
  // No certificate can be had from Let's Encrypt here, nor the usual ports.
  await Deno.writeTextFile(
    config,
    replaced(await configuration(), {
      "enable_metrics": `http_${bind}:${http}"\nenable_metrics`,
      "# access.shared_token = [": "access.shared_token = [",
      "REPLACE-BY-A-LONG-RANDOM-TEXT": TOKEN,
      "[tls]\n": `[tls]\nhttps_${bind}:${https}"\nquic_${bind}:${quic}"\n`,
      '"LetsEncrypt"': '"Reloading"',
      "/var/lib/iroh-relay": on.dir,
    }),
  );
  const command = ["iroh-relay", "--config-path", config];
  const withTls = await env.start(command, { on });
  await env.until("the relay to listen", () => listens(env, on, https));
  const tcp = await Deno.connect({ hostname: "127.0.0.1", port: https });
  using tls = await Deno.startTls(tcp, { hostname: SERVER_NAME, caCerts: [certificatePem] });
  await tls.write(new TextEncoder().encode("GET /ping HTTP/1.1\r\nHost: relay\r\n\r\n"));
  const answer = new Uint8Array(1024);
  const length = await tls.read(answer) ?? 0;
  assert.match(new TextDecoder().decode(answer.subarray(0, length)), /^HTTP\/1\.1 200 /);
  // Address discovery, by which peers learn their public address.
  assert.throws(() => Deno.listenDatagram({ transport: "udp", hostname: "127.0.0.1", port: quic }));
  withTls.kill("SIGKILL");
  await withTls.ended;

  // iroh trusts no certificate of a test, so the token is tried without TLS, as --dev has it.
  const env_ = { RUST_LOG: "iroh_relay=trace" };
  const withoutTls = await env.start([...command, "--dev"], { on, env: env_ });
  await env.until("the relay to listen", () => listens(env, on, http));
  const relay = { kind: "custom", urls: [`http://127.0.0.1:${http}/`] } as const;
  const token = { path: "", forRelay: () => TOKEN };
  await using _refused = await Endpoint.bind({ relay, lookup: false });
  await withoutTls.says(/denying client auth/);
  await using accepted = await Endpoint.bind({ relay: { ...relay, token }, lookup: false });
  await accepted.online(env.signal);
});
