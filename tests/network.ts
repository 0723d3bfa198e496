/**
 * Hosts with networks of their own, on one machine. If there are no namespaces, the hosts are folders, and
 * share the loopback.
 */

import { hasTool, type Host, type Started, type TestEnv } from "./testenv.ts";
import { python } from "./tools.ts";

/** Two hosts, and one for a relay. */
export interface Network {
  readonly a: Host;
  readonly b: Host;
  readonly relay: Host;
}

/** How the hosts of a {@linkcode Network} are connected. */
export type Topology =
  /** All on one network. */
  | "lan"
  /** All on one network, which carries only IPv6. */
  | "lan, IPv6"
  /** All on one network, `b` with a cable that takes {@linkcode LONG_CABLE_MS} each way. */
  | "lan, long cable"
  /** Each on a network with the relay's host, which forwards nothing. */
  | "relay only"
  /** Each behind a router that masquerades and has a firewall; the relay is outside. */
  | "nat";

const LONG_CABLE_MS = 25;

/** Returns a port that is free on the test's own loopback, for TCP and for UDP. */
export function freePort(): number {
  for (;;) {
    using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
    const { port } = listener.addr;
    try {
      Deno.listenDatagram({ transport: "udp", hostname: "127.0.0.1", port }).close();
      return port;
    } catch (error) {
      if (!(error instanceof Deno.errors.AddrInUse)) throw error; // an endpoint has the number
    }
  }
}

/** A cable from a host to another one. */
interface Cable {
  readonly from: string;
  readonly name: string;
  readonly address: string;
  readonly to: string;
  readonly toName: string;
}

/** Makes two hosts, and one for a relay; the end of the test removes them. */
export async function makeNetwork(env: TestEnv, topology: Topology): Promise<Network> {
  return await makeNetworkOf(env, topology, ["a", "b"]);
}

/** Makes hosts of these names, and one for a relay; the end of the test removes them. */
export async function makeNetworkOf<Name extends string>(
  env: TestEnv,
  topology: Topology,
  names: readonly Name[],
): Promise<Record<Name | "relay", Host>> {
  if (!hasTool("namespaces")) return await makeLoopbackOf(env, names);
  const id = crypto.randomUUID().slice(0, 8), relay = `${id}-r`;
  await addNamespace(env, relay);
  const prefix = (name: string) => ["ip", "netns", "exec", name];
  const ips: string[] = [];
  for (const [i, name] of names.entries()) {
    const host = `${id}-${name}`;
    await addNamespace(env, host);
    ips.push(
      await (topology === "nat" ? behindRouter(env, id, name, i) : onCable(id, name, i, topology)),
    );
  }
  const cables = names.map((_, i) => `to-${i}`);
  if (topology === "nat") await bridge(relay, "203.0.113.254/24", cables);
  else if (topology !== "relay only") await bridge(relay, "10.77.0.254/24", cables);
  if (topology === "lan, long cable") {
    await lengthen(env, { prefix: prefix(`${id}-b`), ip: ips[1]! }, 1, LONG_CABLE_MS);
  }
  // The relay needs one address that both hosts can reach.
  const relayIp = topology === "nat" ? "203.0.113.254" : "10.77.9.9";
  if (topology !== "nat") await ip("-n", relay, "addr", "add", `${relayIp}/32`, "dev", "lo");
  return await byName(
    names,
    (name, i) => env.host(name, prefix(`${id}-${name}`), ips[i]),
    await env.host("relay", prefix(relay), relayIp),
  );
}

/** Connects a host with that of the relay. @returns Its IP address. */
async function onCable(id: string, name: string, i: number, topology: Topology): Promise<string> {
  const host = `${id}-${name}`, relay = `${id}-r`;
  const network = topology === "relay only" ? `10.77.${i + 1}` : "10.77.0";
  const address = topology === "lan, IPv6" ? `fd77::${i + 1}` : `${network}.${i + 1}`;
  const bits = topology === "lan, IPv6" ? 64 : 24;
  const cable = { from: host, name: "eth0", address: `${address}/${bits}` };
  await plug({ ...cable, to: relay, toName: `to-${i}` });
  if (topology === "relay only") {
    await ip("-n", relay, "addr", "add", `${network}.254/24`, "dev", `to-${i}`);
  }
  if (topology !== "lan, IPv6") {
    await ip("-n", host, "route", "add", "default", "via", `${network}.254`);
  }
  return address;
}

/** Puts a host behind a router that is connected with the relay's host. @returns Its IP address. */
async function behindRouter(env: TestEnv, id: string, name: string, i: number): Promise<string> {
  const host = `${id}-${name}`, router = `${id}-r${name}`;
  await addNamespace(env, router);
  const lan = { from: host, name: "eth0", address: "192.168.7.2/24" };
  await plug({ ...lan, to: router, toName: "lan" });
  await ip("-n", router, "addr", "add", "192.168.7.1/24", "dev", "lan");
  await ip("-n", host, "route", "add", "default", "via", "192.168.7.1");
  const wan = { from: router, name: "wan", address: `203.0.113.${i + 1}/24` };
  await plug({ ...wan, to: `${id}-r`, toName: `to-${i}` });
  const rules = [
    "-t nat -A POSTROUTING -o wan -j MASQUERADE",
    "-A INPUT -i wan -m state --state ESTABLISHED,RELATED -j ACCEPT",
    "-A INPUT -i wan -j DROP",
    "-A FORWARD -i wan -m state --state ESTABLISHED,RELATED -j ACCEPT",
    "-A FORWARD -i wan -j DROP",
  ];
  for (const rule of rules) await inNamespace(router, "iptables", ...rule.split(" "));
  await inNamespace(router, "sh", "-c", "echo 1 >/proc/sys/net/ipv4/ip_forward");
  return "192.168.7.2";
}

/** Replaces the cable of a host on one network by one that takes `milliseconds` each way. @param i Its number. */
export async function lengthen(
  env: TestEnv,
  { prefix, ip: address }: Pick<Host, "prefix" | "ip">,
  i: number,
  milliseconds: number,
): Promise<void> {
  const host = prefix.at(-1)!, hub = host.replace(/-[^-]*$/, "-r");
  await ip("-n", host, "link", "del", "eth0");
  const ends = [host, `${address}/24`, hub, `to-${i}`, "br0"];
  const cable = await env.start(python("delay_link.py", ...ends, `${milliseconds}`), {
    on: await env.host(`cable-${i}`),
  });
  await cable.says(/ready/);
  await ip("-n", host, "route", "add", "default", "via", "10.77.0.254");
}

/** Closes the firewall of a host, except for UDP at these ports. */
export async function closeFirewall({ prefix }: Host, ...open: readonly number[]): Promise<void> {
  const rules = [
    "-i lo -j ACCEPT",
    "-m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT",
    ...open.map((port) => `-p udp --dport ${port} -j ACCEPT`),
    "-j DROP",
  ];
  for (const rule of rules) {
    await done(prefix[0]!, [...prefix.slice(1), "iptables", "-A", "INPUT", ...rule.split(" ")]);
  }
}

/** Limits the network interfaces of hosts to `megabits` per second. */
export async function limitRate(megabits: number, ...hosts: readonly Host[]): Promise<void> {
  const rule = `tc qdisc replace dev eth0 root tbf rate ${megabits}mbit burst 256kb latency 50ms`;
  for (const { prefix } of hosts) await done(prefix[0]!, [...prefix.slice(1), ...rule.split(" ")]);
}

/** Takes a host off its network. */
export async function unplug({ prefix }: Host): Promise<void> {
  await done(prefix[0]!, [...prefix.slice(1), "ip", "link", "set", "eth0", "down"]);
}

/** Puts a host on its network again. Its routes are gone. */
export async function plugIn({ prefix }: Host): Promise<void> {
  await done(prefix[0]!, [...prefix.slice(1), "ip", "link", "set", "eth0", "up"]);
}

async function plug({ from, name, address, to, toName }: Cable): Promise<void> {
  const peer = ["type", "veth", "peer", "name", toName, "netns", to];
  await ip("link", "add", name, "netns", from, ...peer);
  // Without nodad, an IPv6 address does not work in its first second.
  const nodad = address.includes(":") ? ["nodad"] : [];
  await ip("-n", from, "addr", "add", address, "dev", name, ...nodad);
  await ip("-n", from, "link", "set", name, "up");
  await ip("-n", to, "link", "set", toName, "up");
}

/** Makes hosts that are folders, and share the test's own loopback. */
export async function makeLoopback(env: TestEnv): Promise<Network> {
  return await makeLoopbackOf(env, ["a", "b"]);
}

async function makeLoopbackOf<Name extends string>(
  env: TestEnv,
  names: readonly Name[],
): Promise<Record<Name | "relay", Host>> {
  return await byName(names, (name) => env.host(name), await env.host("relay"));
}

async function byName<Name extends string>(
  names: readonly Name[],
  make: (name: Name, i: number) => Promise<Host>,
  relay: Host,
): Promise<Record<Name | "relay", Host>> {
  const hosts = await Promise.all(names.map(make));
  const entries = names.map((name, i) => [name, hosts[i]!]);
  return { ...Object.fromEntries(entries), relay };
}

async function addNamespace(env: TestEnv, name: string): Promise<void> {
  await ip("netns", "add", name);
  env.cleanup(() => ip("netns", "del", name));
  await ip("-n", name, "link", "set", "lo", "up");
}

async function bridge(
  relay: string,
  address: string,
  cables: readonly string[],
): Promise<void> {
  await ip("-n", relay, "link", "add", "br0", "type", "bridge");
  await ip("-n", relay, "addr", "add", address, "dev", "br0");
  await ip("-n", relay, "link", "set", "br0", "up");
  for (const cable of cables) await ip("-n", relay, "link", "set", cable, "master", "br0");
}

async function ip(...args: string[]): Promise<void> {
  await done("ip", args);
}

async function inNamespace(name: string, ...command: string[]): Promise<void> {
  await done("ip", ["netns", "exec", name, ...command]);
}

async function done(program: string, args: string[]): Promise<void> {
  const run = await new Deno.Command(program, { args }).output();
  if (!run.success) {
    throw new Error(`${program} ${args.join(" ")}: ${new TextDecoder().decode(run.stderr)}`);
  }
}

/** A relay of a test. */
export interface Relay {
  readonly url: string;
  /** Ends the relay. */
  stop(): Promise<void>;
  /** Starts the relay again at the same URL. */
  start(): Promise<void>;
}

/** Starts an iroh-relay. @param tokens Of these it demands one; none by default. */
export async function startRelay(
  env: TestEnv,
  on: Host,
  tokens: readonly string[] = [],
): Promise<Relay> {
  const port = freePort();
  const config = `${on.dir}/relay-${port}.toml`;
  // Parts of the program that would open further ports are switched off.
  const lines = [
    `http_bind_addr = "0.0.0.0:${port}"`,
    "enable_metrics = false",
    "enable_quic_addr_discovery = false",
    ...tokens.length > 0 ? [`access.shared_token = ${JSON.stringify(tokens)}`] : [],
  ];
  await Deno.writeTextFile(config, `${lines.join("\n")}\n`);
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

/** Tells whether a program on a host listens at a TCP port. */
export async function listens(env: TestEnv, on: Host, port: number): Promise<boolean> {
  return (await env.run(python("probe_tcp_port.py", `${port}`), { on })).code === 0;
}
