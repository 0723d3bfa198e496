import assert from "node:assert/strict";
import { makeCertificate } from "./certificate.ts";
import { QuicPort } from "./quic.ts";

const HOST = "127.0.0.1";
/** More than fit into the buffer that Linux gives a UDP socket, and less than twice as many. */
const PACKETS = 150, PACKET_BYTES = 1200;

/** Returns how many packets the system has dropped at a UDP port (proc_net_udp(5)). */
async function droppedAt(port: number): Promise<number> {
  const hex = port.toString(16).toUpperCase().padStart(4, "0");
  const lines = (await Deno.readTextFile("/proc/net/udp")).split("\n");
  return Number(lines.find((line) => line.includes(`:${hex} `))!.trim().split(/\s+/).at(-1));
}

Deno.test("QUIC lane: packets that come while the process does something else are not lost", {
  ignore: Deno.build.os !== "linux",
}, async () => {
  using port = QuicPort.open(HOST, await makeCertificate())!;
  port.keep();
  const sender = Deno.listenDatagram({ transport: "udp", hostname: HOST, port: 0 });
  const to: Deno.NetAddr = { transport: "udp", hostname: HOST, port: port.port };
  const packet = new Uint8Array(PACKET_BYTES);
  await sender.send(packet, to); // from now on, send() passes on at once what the system takes
  const sending: Promise<number>[] = [];
  for (let i = 0; i < PACKETS; i++) sending.push(sender.send(packet, to));
  await Promise.all(sending);
  assert.equal(await droppedAt(port.port), 0);
  sender.close();
  port.close();
});
