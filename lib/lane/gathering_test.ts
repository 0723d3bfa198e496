import assert from "node:assert/strict";
import { abortable, RunningTimeout } from "../async/abort.ts";
import { splitSocketAddress } from "../platform/socket_address.ts";
import { certificatePem, makeCertificate, SERVER_NAME } from "./certificate.ts";
import type { Lane } from "./lane.ts";
import { LaneEndpoint } from "./gathering.ts";
import type { Offer } from "./offer.ts";
import { QuicPort } from "./quic.ts";
import { assertCarries, collectUntil } from "../../tests/lanes.ts";
import { named } from "../../tests/testenv.ts";
import { standStill } from "../../tests/event_loop.ts";

const HOSTS = ["127.0.0.1"];
const never = new AbortController().signal;

/** Two ends that make a lane, with what each tells the other changed in between. */
async function makeBoth(
  change: (offer: Offer, which: "controlling" | "other") => Offer,
  hosts: readonly string[] = HOSTS,
  limitMs = 5_000,
): Promise<[PromiseSettledResult<Lane>, PromiseSettledResult<Lane>]> {
  using controlling = await LaneEndpoint.open(hosts), other = await LaneEndpoint.open(hosts);
  const limit = AbortSignal.timeout(limitMs);
  return await Promise.allSettled([
    controlling.establish(change(other.offer, "other"), undefined, true, limit),
    other.establish(change(controlling.offer, "controlling"), undefined, false, limit),
  ]);
}

/** Two ends of a lane that has been made. */
async function lanes(
  change: (offer: Offer, which: "controlling" | "other") => Offer = (offer) => offer,
  hosts = HOSTS,
  limitMs?: number,
): Promise<[Lane, Lane]> {
  const both = await makeBoth(change, hosts, limitMs);
  return both.map((one) => {
    if (one.status === "rejected") throw one.reason;
    return one.value;
  }) as [Lane, Lane];
}

function onlyTcp(offer: Offer): Offer {
  return { ...offer, udp: [] };
}

Deno.test("LaneEndpoint: a lane is made over TLS, the cheapest, and the ports are closed then", async () => {
  const offers: Offer[] = [];
  const made = await lanes((offer) => {
    offers.push(offer);
    return offer;
  });
  assert.deepEqual(made.map(({ kind }) => kind), ["TLS", "TLS"]);
  await assertCarries(made);
  const tcp = offers.flatMap(({ tcp }) => tcp), udp = offers.flatMap(({ udp }) => udp);
  assert.deepEqual([tcp.length, udp.length], [2, 2]);
  for (const address of tcp) {
    const { host, port } = splitSocketAddress(address);
    await assert.rejects(Deno.connect({ hostname: host, port }));
  }
  // Deno closes it when it is collected; until then nobody is let in.
  using stranger = QuicPort.open("127.0.0.1", await makeCertificate())!;
  for (const [i, address] of udp.entries()) {
    const limit = AbortSignal.timeout(2_000);
    await assert.rejects(stranger.connect(address, offers[i]!.certificate, limit));
  }
});

Deno.test("LaneEndpoint: whichever end can be reached, and whichever way, a lane is made", async () => {
  const none = { tcp: [], udp: [] };
  for (const reachable of ["controlling", "other"]) {
    for (const kind of ["tcp", "udp"] as const) {
      const made = await lanes((offer, which) => ({
        ...offer,
        ...none,
        ...which === reachable ? { [kind]: offer[kind] } : {},
      }));
      assert.equal(made[0].kind, kind === "tcp" ? "TLS" : "QUIC");
      await assertCarries(made);
    }
  }
});

Deno.test("LaneEndpoint: a lane is made over IPv6", async () => {
  const made = await lanes((offer) => offer, ["::1"]);
  assert.match(made[0].remote, /^\[::1\]:/);
  await assertCarries(made);
});

/** Longer than who connects may be silent, at both ends; and than who chooses waits. */
for (const [milliseconds, times] of [[2_100, 2], [8_100, 1]] as const) {
  Deno.test(`LaneEndpoint: a lane is made, also where the process stands still for ${milliseconds} ms`, async () => {
    const { incoming } = QuicPort.prototype;
    const stoodStill = new Set<QuicPort>();
    QuicPort.prototype.incoming = async function* () {
      for await (const accept of incoming.call(this)) {
        yield (signal) => {
          const accepted = accept(signal);
          const isFirst = !stoodStill.has(this) && stoodStill.size < times;
          if (isFirst) standStill(milliseconds);
          stoodStill.add(this);
          return accepted;
        };
      }
    };
    try {
      const made = await lanes((offer) => ({ ...offer, tcp: [] }), HOSTS, 30_000);
      assert.deepEqual(made.map(({ kind }) => kind), ["QUIC", "QUIC"]);
      for (const lane of made) lane.close();
    } finally {
      QuicPort.prototype.incoming = incoming;
    }
  });
}

Deno.test("LaneEndpoint: nothing gets through without the secret, or to another certificate", async () => {
  const { der } = await makeCertificate();
  const secret = crypto.getRandomValues(new Uint8Array(32));
  for (const wrong of [{ secret }, { certificate: der }]) {
    const both = await makeBoth((offer) => ({ ...offer, ...wrong }));
    for (const { status } of both) assert.equal(status, "rejected", Object.keys(wrong)[0]);
  }
});

Deno.test("LaneEndpoint: making a lane can be given up", async () => {
  using endpoint = await LaneEndpoint.open(HOSTS);
  const controller = new AbortController();
  const made = endpoint.establish(
    { ...endpoint.offer, tcp: [], udp: [] },
    undefined,
    true,
    controller.signal,
  );
  controller.abort(new Error("given up"));
  await assert.rejects(made, /given up/);
});

Deno.test("LaneEndpoint: strangers are dropped, and keep nobody out", async () => {
  using controlling = await LaneEndpoint.open(HOSTS), other = await LaneEndpoint.open(HOSTS);
  const waiting = other.establish(
    { ...controlling.offer, tcp: [], udp: [] },
    undefined,
    false,
    never,
  );
  const { host, port } = splitSocketAddress(other.offer.tcp[0]!);
  const connect = () => Deno.connect({ hostname: host, port });
  const show = async (secret: Uint8Array) => {
    const caCerts = [certificatePem(other.offer.certificate)];
    const tls = await Deno.startTls(await connect(), { hostname: SERVER_NAME, caCerts });
    await tls.write(secret);
    return tls;
  };
  const silent = [];
  for (let i = 0; i < 12; i++) silent.push(await connect()); // more than are waited for at once
  const garbage = await connect();
  await garbage.write(crypto.getRandomValues(new Uint8Array(10_000)));
  const wrong = [
    garbage,
    await show(crypto.getRandomValues(new Uint8Array(32))),
    await show(new Uint8Array(31)), // and one byte would be missing
  ];
  using limit = new RunningTimeout(4_000, new Error("they were not dropped in time"));
  const making = controlling.establish(onlyTcp(other.offer), undefined, true, never);
  await assertCarries(await Promise.all([making, waiting]));
  for (const stranger of wrong) {
    const read = () => stranger.read(new Uint8Array(100)).catch(() => null);
    while (await abortable(read(), limit.signal) !== null);
    stranger.close();
  }
  for (const stranger of silent) stranger.close();
});

Deno.test("LaneEndpoint: strangers are dropped over QUIC, too, and keep nobody out", async () => {
  using controlling = await LaneEndpoint.open(HOSTS), other = await LaneEndpoint.open(HOSTS);
  const waiting = other.establish(
    { ...controlling.offer, tcp: [], udp: [] },
    undefined,
    false,
    never,
  );
  const [address] = other.offer.udp, { host, port } = splitSocketAddress(address!);
  const garbage = Deno.listenDatagram({ transport: "udp", hostname: "127.0.0.1", port: 0 });
  for (let i = 0; i < 100; i++) {
    await garbage.send(crypto.getRandomValues(new Uint8Array(1200)), {
      transport: "udp",
      hostname: host,
      port,
    });
  }
  garbage.close();
  using dialing = QuicPort.open("127.0.0.1", await makeCertificate())!;
  const connect = () =>
    dialing.connect(address!, other.offer.certificate, AbortSignal.timeout(4_000));
  const silent = await connect(), wrong = await connect(), short = await connect();
  await silent.write(new Uint8Array()); // nothing of a stream is seen before something is sent
  await wrong.write(crypto.getRandomValues(new Uint8Array(32)));
  await short.write(new Uint8Array(31));
  using limit = new RunningTimeout(4_000, new Error("they were not dropped in time"));
  const making = controlling.establish({ ...other.offer, tcp: [] }, undefined, true, never);
  const made = await Promise.all([making, waiting]);
  assert.deepEqual(made.map(({ kind }) => kind), ["QUIC", "QUIC"]);
  for (const stranger of [silent, wrong, short]) {
    const ended = stranger.read().then((piece) => assert.equal(piece, undefined), () => {});
    await abortable(ended, limit.signal);
    stranger.close();
  }
  await assertCarries(made);
});

const NO_FILE = "LaneEndpoint: lanes one after another leave no file open";
Deno.test(named(NO_FILE, "proc"), async () => {
  const openFiles = async () => (await Array.fromAsync(Deno.readDir("/proc/self/fd"))).length;
  // A QUIC dial that came too late holds its socket until it times out: TLS alone.
  await assertCarries(await lanes(onlyTcp));
  const before = await openFiles();
  for (let i = 0; i < 20; i++) await assertCarries(await lanes(onlyTcp));
  await collectUntil(async () => await openFiles() <= before + 3);
});

Deno.test("QuicPort: a peer that stops in the middle of the handshake ends a lane and nothing else", async () => {
  const certificate = await makeCertificate(), limit = AbortSignal.timeout(10_000);
  using dialing = QuicPort.open("127.0.0.1", certificate)!;
  using dialed = QuicPort.open("127.0.0.1", certificate)!;
  const accepting = (async () => {
    for await (const accept of dialed.incoming()) await assert.rejects(accept(limit));
  })();
  // Of the end that dials, the other hears its first packet and no more.
  const between = Deno.listenDatagram({ transport: "udp", hostname: "127.0.0.1", port: 0 });
  let from: Deno.Addr | undefined;
  const passing = (async () => {
    for await (const [packet, source] of between) {
      const isFirst = from === undefined;
      from ??= source;
      if (isFirst) {
        const { port } = dialed;
        await between.send(packet, { transport: "udp", hostname: "127.0.0.1", port });
      } else if ((source as Deno.NetAddr).port === dialed.port) await between.send(packet, from);
    }
  })();
  const { port } = between.addr as Deno.NetAddr;
  const transport = await dialing.connect(`127.0.0.1:${port}`, certificate.der, limit);
  const reading = transport.read();
  dialed[Symbol.dispose]();
  await assert.rejects(reading, /connection lost/); // and no promise that nobody waits for
  await accepting;
  transport.close();
  between.close();
  await passing;
});

Deno.test("QuicPort: who came before it was closed, and was not yet let in, is turned away", async () => {
  const certificate = await makeCertificate(), limit = AbortSignal.timeout(10_000);
  using dialing = QuicPort.open("127.0.0.1", certificate)!;
  const dialed = QuicPort.open("127.0.0.1", certificate)!;
  const coming = dialed.incoming().next();
  const connecting = dialing.connect(`127.0.0.1:${dialed.port}`, certificate.der, limit);
  const { value: accept } = await coming;
  dialed[Symbol.dispose]();
  await assert.rejects(accept!(limit), /its port is closed/); // and the program goes on
  dialing.close();
  await assert.rejects(connecting);
});
