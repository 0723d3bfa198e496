import assert from "node:assert/strict";
import { abortable } from "../async/abort.ts";
import { splitSocketAddress } from "../platform/socket_address.ts";
import { ownAddresses } from "../platform/network_interfaces.ts";
import { certificatePem, makeCertificate, SERVER_NAME } from "./certificate.ts";
import { runConnectivityChecks } from "./connectivity.ts";
import { LaneEndpoint } from "./gathering.ts";
import { Nomination } from "./nomination.ts";
import { QuicPort } from "./quic.ts";
import { TlsPort } from "./tls.ts";

const LIMIT_MS = 10_000;
/** A handshake on this host takes a few milliseconds. */
const NO_ANSWER_MS = 500;
const HOST = "127.0.0.1";

/** Connects to a port with TLS, and waits for the handshake. */
async function connectTls(
  port: number,
  certificate: Uint8Array,
  limitMs = LIMIT_MS,
): Promise<Deno.TlsConn> {
  const tcp = await Deno.connect({ hostname: HOST, port });
  const caCerts = [certificatePem(certificate)];
  const tls = await Deno.startTls(tcp, { hostname: SERVER_NAME, caCerts });
  try {
    await abortable(tls.handshake(), AbortSignal.timeout(limitMs));
    return tls;
  } catch (error) {
    tls.close();
    throw error;
  }
}

/** Tells whether the other end has closed a connection; waits for a turn of its process. */
async function hasEnded(tls: Deno.TlsConn): Promise<boolean> {
  const ended = tls.read(new Uint8Array(1)).then((read) => read === null, () => true);
  const soon = new Promise<false>((resolve) => setTimeout(() => resolve(false), 100));
  return await Promise.race([ended, soon]);
}

Deno.test("runConnectivityChecks: of nine connections that do not show the secret, the oldest is closed", async () => {
  const certificate = await makeCertificate(), secret = new Uint8Array(32);
  using port = new TlsPort(HOST, certificate);
  const until = new AbortController();
  const remote = { certificate: certificate.der, secret };
  const limits = { maxConnections: 64, verifyTimeoutMs: 120_000, until: until.signal };
  const nomination = new Nomination(false, until.signal);
  runConnectivityChecks(
    [port],
    { tcp: [], udp: [] },
    { local: secret, remote },
    nomination,
    limits,
  );
  const silent: Deno.TlsConn[] = [];
  for (let i = 0; i < 8; i++) silent.push(await connectTls(port.port, certificate.der));
  assert.equal(await hasEnded(silent[0]!), false);
  const first = silent.shift()!, closing = first.read(new Uint8Array(1)).catch(() => null);
  silent.push(await connectTls(port.port, certificate.der));
  assert.equal(await abortable(closing, AbortSignal.timeout(LIMIT_MS)), null);
  for (const tls of silent) assert.equal(await hasEnded(tls), false);
  for (const tls of [first, ...silent]) tls.close();
  until.abort();
});

for (const kind of ["TLS", "QUIC"] as const) {
  Deno.test(`LaneEndpoint: a port for ${kind} answers no connection after 64`, async () => {
    using endpoint = await LaneEndpoint.open([HOST]);
    const stop = new AbortController(), { certificate, tcp, udp } = endpoint.offer;
    const nobody = { ...endpoint.offer, tcp: [], udp: [] };
    const waiting = endpoint.establish(nobody, {}, false, stop.signal).catch(() => {}); // stopped
    const { port } = splitSocketAddress((kind === "TLS" ? tcp : udp)[0]!);
    using dialing = QuicPort.open(HOST, await makeCertificate())!;
    const wrong = new Uint8Array(32);
    const connect = async (limitMs = LIMIT_MS) => {
      if (kind === "TLS") {
        using tls = await connectTls(port, certificate, limitMs);
        await tls.write(wrong);
        await tls.read(new Uint8Array(1)).catch(() => null); // closed, since the secret is wrong
      } else {
        const signal = AbortSignal.timeout(limitMs);
        const quic = await dialing.connect(`${HOST}:${port}`, certificate, signal);
        await quic.write(wrong);
        await quic.read().catch(() => undefined); // closed, since the secret is wrong
        quic.close();
      }
    };
    for (let i = 0; i < 64; i++) await connect();
    await connect(NO_ANSWER_MS).catch(() => {}); // is closed during the handshake, or right after it
    await assert.rejects(connect(NO_ANSWER_MS), { name: "TimeoutError" });
    stop.abort();
    await waiting;
  });
}

Deno.test("LaneEndpoint: dials no address of this host that a peer elsewhere offers", async () => {
  const own = ownAddresses().filter((address) => !/^fe80/i.test(address));
  const services = own.map((hostname) => Deno.listen({ hostname, port: 0 }));
  let connections = 0;
  for (const service of services) {
    service.accept().then((connection) => {
      connections++;
      connection.close();
    }, () => {}); // closed at the end of the test
  }
  using endpoint = await LaneEndpoint.open([HOST, "::1"], { checksMs: 300 });
  const tcp = services.map(({ addr }) =>
    addr.hostname.includes(":")
      ? `[${addr.hostname}]:${addr.port}`
      : `${addr.hostname}:${addr.port}`
  );
  const { certificate, secret } = endpoint.offer;
  const dialing = (observedRemote: string | undefined) =>
    endpoint.establish(
      { certificate, secret, tcp, udp: [] },
      { observedRemote },
      true,
      new AbortController().signal,
    );
  await assert.rejects(dialing(undefined), /nothing gets through/);
  await assert.rejects(dialing("192.0.2.1"), /nothing gets through/);
  assert.equal(connections, 0);
  await assert.rejects(dialing(HOST), /nothing gets through/); // a peer on this host is dialed
  const loopback = own.filter((address) => ["127.0.0.1", "::1"].includes(address));
  assert.equal(connections, loopback.length);
  for (const service of services) service.close();
});
