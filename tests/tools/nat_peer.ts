/**
 * A peer in a test of two NATs, made of the program's own endpoint:
 *
 * - `reflect`: tells each dialer from which address it came. Prints `KEY PORT`.
 * - `serve RELAY REFLECTOR`: learns its public address from the reflector, accepts connections, and sends back
 *   what comes. Prints `KEY`.
 * - `dial RELAY REFLECTOR KEY`: connects through the relay, learns its public address from the reflector, and
 *   waits for a direct path. Prints both paths.
 */

import { dialPeer } from "../../lib/dial/dialer.ts";
import type { Duplex } from "../../lib/streams/duplex.ts";
import type { Connection } from "../../lib/iroh/connection.ts";
import { Endpoint } from "../../lib/iroh/endpoint.ts";
import { describePath } from "../../lib/iroh/path.ts";
import { parseSettings } from "../../lib/repository/settings.ts";

const ALPN = "test", REFLECT = "reflect";
const signal = AbortSignal.timeout(60_000);

async function readText(stream: Duplex): Promise<string> {
  return await new Response(stream.readable).text();
}

async function writeText(stream: Duplex, text: string): Promise<void> {
  const writer = stream.writable.getWriter();
  await writer.write(new TextEncoder().encode(text));
  await writer.close();
}

async function reflect(): Promise<void> {
  const endpoint = await Endpoint.bind({
    alpns: [REFLECT],
    relay: { kind: "none" },
    lookup: false,
  });
  const port = endpoint.boundSockets()[0]!.split(":").at(-1);
  console.log(`${endpoint.publicKey.toHex()} ${port}`);
  for await (const incoming of endpoint.incoming()) {
    const connection = await incoming.accept(signal);
    const stream = await connection.accept(signal);
    await readText(stream);
    await writeText(stream, connection.path!.address);
  }
}

/** Tells an endpoint its public address, as the reflector sees it. */
async function learnAddress(endpoint: Endpoint, reflector: string): Promise<void> {
  const [key, at] = reflector.split("@");
  const peer = { publicKey: Uint8Array.fromHex(key!), direct: [at!] };
  const connection = await endpoint.connect(peer, REFLECT, signal);
  const stream = await connection.open();
  await writeText(stream, "?");
  await endpoint.addExternalAddress(await readText(stream));
}

async function serve(relay: string, reflector: string): Promise<void> {
  const setting = { kind: "custom", urls: [relay] } as const;
  const endpoint = await Endpoint.bind({ alpns: [ALPN], relay: setting, lookup: false });
  await learnAddress(endpoint, reflector);
  while (!endpoint.addresses().relay) await new Promise((resolve) => setTimeout(resolve, 20));
  console.log(endpoint.publicKey.toHex());
  for await (const incoming of endpoint.incoming()) {
    const connection = await incoming.accept(signal);
    for (;;) {
      const stream = await connection.accept(signal);
      await writeText(stream, await readText(stream));
    }
  }
}

async function dial(relay: string, reflector: string, key: string): Promise<void> {
  const ticket = { publicKey: Uint8Array.fromHex(key), relays: [relay], direct: [] };
  const environment = new Map([
    ["GIT_ANNEX_P2P_IROH_RELAY", relay],
    ["GIT_ANNEX_P2P_IROH_LAN", "false"],
  ]);
  const settings = parseSettings("", (name) => environment.get(name));
  const { connection } = await dialPeer(ticket, settings, [ALPN], signal);
  console.log(await exchange(connection));
  await learnAddress(connection.endpoint as Endpoint, reflector);
  while (connection.path?.kind !== "direct") {
    await exchange(connection);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  console.log(await exchange(connection));
}

/** Sends bytes in both directions. @returns The path that they took. */
async function exchange(connection: Connection): Promise<string> {
  const stream = await connection.open();
  await writeText(stream, "there");
  if (await readText(stream) !== "there") throw new Error("not what was sent");
  return describePath(connection.path);
}

const [mode, ...args] = Deno.args;
if (mode === "reflect") await reflect();
else if (mode === "serve") await serve(args[0]!, args[1]!);
else await dial(args[0]!, args[1]!, args[2]!);
Deno.exit();
