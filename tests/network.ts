/**
 * Hosts with networks of their own, on one machine. Where there are no namespaces to be had, the hosts
 * are folders, and share the loopback.
 */

import { sandbox } from "../tasks/sandbox.ts";
import type { Host, Started, TestEnv } from "./testenv.ts";

/** Two hosts and one for a relay. */
export interface Network {
  readonly a: Host;
  readonly b: Host;
  readonly relay: Host;
}

/** How the hosts of a {@linkcode Network} are connected. */
export type Topology =
  /** All on one network. */
  | "lan"
  /** Each with the relay's host alone, which passes nothing on. */
  | "relay only";

/** A port that is free where hosts share a loopback. */
export function freePort(): number {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  return listener.addr.port;
}

/** Makes two hosts and one for a relay; the test's end removes them. */
export async function makeNetwork(env: TestEnv, topology: Topology): Promise<Network> {
  if (sandbox() === "none") return await makeLoopback(env);
  const id = crypto.randomUUID().slice(0, 8);
  const relay = `${id}-r`;
  await addNamespace(env, relay);
  const ips: string[] = [];
  for (const [i, name] of [`${id}-a`, `${id}-b`].entries()) {
    await addNamespace(env, name);
    const network = topology === "lan" ? "10.77.0" : `10.77.${i + 1}`;
    ips.push(`${network}.${i + 1}`);
    await ip(
      "link",
      "add",
      "eth0",
      "netns",
      name,
      "type",
      "veth",
      "peer",
      "name",
      `to-${i}`,
      "netns",
      relay,
    );
    await ip("-n", name, "addr", "add", `${ips[i]}/24`, "dev", "eth0");
    await ip("-n", name, "link", "set", "eth0", "up");
    await ip("-n", name, "route", "add", "default", "via", `${network}.254`);
    if (topology === "relay only") {
      await ip("-n", relay, "addr", "add", `${network}.254/24`, "dev", `to-${i}`);
    }
    await ip("-n", relay, "link", "set", `to-${i}`, "up");
  }
  if (topology === "lan") await bridge(relay);
  // One address for the relay that both hosts can reach.
  await ip("-n", relay, "addr", "add", "10.77.9.9/32", "dev", "lo");
  const prefix = (name: string) => ["ip", "netns", "exec", name];
  return {
    a: await env.host("a", prefix(`${id}-a`), ips[0]),
    b: await env.host("b", prefix(`${id}-b`), ips[1]),
    relay: await env.host("relay", prefix(relay), "10.77.9.9"),
  };
}

/** Hosts that are folders, and share the test's own loopback. */
export async function makeLoopback(env: TestEnv): Promise<Network> {
  return { a: await env.host("a"), b: await env.host("b"), relay: await env.host("relay") };
}

async function addNamespace(env: TestEnv, name: string): Promise<void> {
  await ip("netns", "add", name);
  env.cleanup(() => ip("netns", "del", name));
  await ip("-n", name, "link", "set", "lo", "up");
}

async function bridge(relay: string): Promise<void> {
  await ip("-n", relay, "link", "add", "br0", "type", "bridge");
  await ip("-n", relay, "addr", "add", "10.77.0.254/24", "dev", "br0");
  await ip("-n", relay, "link", "set", "br0", "up");
  for (const i of [0, 1]) await ip("-n", relay, "link", "set", `to-${i}`, "master", "br0");
}

async function ip(...args: string[]): Promise<void> {
  const run = await new Deno.Command("ip", { args }).output();
  if (!run.success) {
    throw new Error(`ip ${args.join(" ")}: ${new TextDecoder().decode(run.stderr)}`);
  }
}

/** A relay that runs. */
export interface Relay {
  readonly url: string;
  /** Ends it, and starts it again at the same place. */
  stop(): Promise<void>;
  start(): Promise<void>;
}

/** Starts an iroh-relay. */
export async function startRelay(env: TestEnv, on: Host): Promise<Relay> {
  const port = freePort();
  const config = `${on.dir}/relay-${port}.toml`;
  // Every part that would take a port but the relay itself is left out.
  await Deno.writeTextFile(
    config,
    `http_bind_addr = "0.0.0.0:${port}"\nenable_metrics = false\nenable_quic_addr_discovery = false\n`,
  );
  let running: Started | undefined;
  const relay = {
    url: `http://${on.ip}:${port}/`,
    async start() {
      running = await env.start(["iroh-relay", "--dev", "--config-path", config], { on });
      await env.until("the relay to listen", () => listens(env, on, port));
    },
    async stop() {
      running?.kill("SIGTERM");
      await running?.ended;
    },
  };
  await relay.start();
  return relay;
}

async function listens(env: TestEnv, on: Host, port: number): Promise<boolean> {
  const probe = `import socket; socket.create_connection(("127.0.0.1", ${port})).close()`;
  return (await env.run(["python3", "-c", probe], { on })).code === 0;
}
