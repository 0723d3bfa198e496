import assert from "node:assert/strict";
import { abortable, RunningTimeout } from "../async/abort.ts";
import { splitSocketAddress } from "../platform/socket_address.ts";
import { certificatePem, makeCertificate, SERVER_NAME } from "./certificate.ts";
import type { Transport } from "./lane.ts";
import { LANE_TIMEOUTS, LaneEndpoint, type LaneTimeouts, type ObservedPeer } from "./gathering.ts";
import type { Offer } from "./offer.ts";
import { QuicPort } from "./quic.ts";
import { StripedTransport } from "./striped_transport.ts";
import { assertCarries, assertClosed, collectUntil } from "../../tests/lanes.ts";
import { named } from "../../tests/testenv.ts";
import { standStill } from "../../tests/event_loop.ts";

const HOSTS = ["127.0.0.1"];
const SEEN = { observedRemote: "127.0.0.1" };
/** Timeouts that a lane on this host keeps with ease, although the machine has other work. */
const SHORT: LaneTimeouts = { checksMs: 1_500, verifyMs: 700, stripesMs: 700 };
const never = new AbortController().signal;

/** Lets two ends make a lane. @param change Returns what the other end gets in place of an offer. */
async function makeBoth(
  change: (offer: Offer, which: "controlling" | "other") => Offer,
  hosts: readonly string[] = HOSTS,
  { limitMs = 5_000, timeouts = {}, seen = { observedRemote: hosts[0] } }: {
    limitMs?: number;
    timeouts?: Partial<LaneTimeouts>;
    seen?: ObservedPeer;
  } = {},
): Promise<[PromiseSettledResult<Transport>, PromiseSettledResult<Transport>]> {
  using controlling = await LaneEndpoint.open(hosts, timeouts);
  using other = await LaneEndpoint.open(hosts, timeouts);
  const limit = AbortSignal.timeout(limitMs);
  return await Promise.allSettled([
    controlling.establish(change(other.offer, "other"), seen, true, limit),
    other.establish(change(controlling.offer, "controlling"), seen, false, limit),
  ]);
}

/** Returns both ends of a lane that was made. */
async function lanes(
  change: (offer: Offer, which: "controlling" | "other") => Offer = (offer) => offer,
  hosts = HOSTS,
  options?: Parameters<typeof makeBoth>[2],
): Promise<[Transport, Transport]> {
  const both = await makeBoth(change, hosts, options);
  return both.map((one) => {
    if (one.status === "rejected") throw one.reason;
    return one.value;
  }) as [Transport, Transport];
}

function onlyTcp(offer: Offer): Offer {
  return { ...offer, udp: [] };
}

Deno.test("LaneEndpoint: makes a lane over TLS without dialing QUIC, and then closes the ports", async () => {
  const { connect } = QuicPort.prototype;
  let dials = 0;
  QuicPort.prototype.connect = function (...args) {
    dials++;
    return connect.apply(this, args);
  };
  using _ = { [Symbol.dispose]: () => void (QuicPort.prototype.connect = connect) };
  const offers: Offer[] = [];
  const made = await lanes((offer) => {
    offers.push(offer);
    return offer;
  });
  assert.deepEqual(made.map(({ kind }) => kind), ["TLS", "TLS"]);
  assert.equal(dials, 0);
  await assertCarries(made);
  const tcp = offers.flatMap(({ tcp }) => tcp), udp = offers.flatMap(({ udp }) => udp);
  assert.deepEqual([tcp.length, udp.length], [2, 2]);
  for (const [i, address] of tcp.entries()) await assertClosed(address, offers[i]!.certificate);
  // Deno closes a QUIC port when it is garbage-collected. Until then the port lets no connection in.
  using stranger = QuicPort.open("127.0.0.1", await makeCertificate())!;
  const limit = AbortSignal.timeout(1_000);
  await Promise.all(udp.map(async (address, i) => {
    await assert.rejects(stranger.connect(address, offers[i]!.certificate, limit));
  }));
});

Deno.test("LaneEndpoint: makes a lane if one end can be reached, by TLS or by QUIC", async () => {
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

Deno.test("LaneEndpoint: makes a lane over IPv6", async () => {
  const made = await lanes((offer) => offer, ["::1"]);
  assert.match(made[0].remote, /^\[::1\]:/);
  await assertCarries(made);
});

Deno.test("LANE_TIMEOUTS: a few round trips for each step, and seconds for all", () => {
  assert.deepEqual(LANE_TIMEOUTS, { checksMs: 8_000, verifyMs: 2_000, stripesMs: 2_000 });
});

// Longer than each timeout. The first concerns both ends, the second only the end that controls.
for (const [timeout, times] of [["verifyMs", 2], ["checksMs", 1]] as const) {
  Deno.test(`LaneEndpoint: makes a lane although the process stands still for longer than ${timeout}`, async () => {
    const { incoming } = QuicPort.prototype;
    const stoodStill = new Set<QuicPort>();
    QuicPort.prototype.incoming = async function* () {
      for await (const accept of incoming.call(this)) {
        yield (signal) => {
          const accepted = accept(signal);
          const isFirst = !stoodStill.has(this) && stoodStill.size < times;
          if (isFirst) standStill(SHORT[timeout] + 100);
          stoodStill.add(this);
          return accepted;
        };
      }
    };
    try {
      const options = { limitMs: 30_000, timeouts: SHORT };
      const made = await lanes((offer) => ({ ...offer, tcp: [] }), HOSTS, options);
      assert.deepEqual(made.map(({ kind }) => kind), ["QUIC", "QUIC"]);
      for (const lane of made) lane.close();
    } finally {
      QuicPort.prototype.incoming = incoming;
    }
  });
}

Deno.test("LaneEndpoint: makes no lane without the secret, or if the certificate is another", async () => {
  const { der } = await makeCertificate();
  const secret = crypto.getRandomValues(new Uint8Array(32));
  await Promise.all([{ secret }, { certificate: der }].map(async (wrong) => {
    const both = await makeBoth((offer) => ({ ...offer, ...wrong }), HOSTS, { limitMs: 2_000 });
    for (const { status } of both) assert.equal(status, "rejected", Object.keys(wrong)[0]);
  }));
});

Deno.test("LaneEndpoint: stripes a QUIC lane unless iroh knows that the way of the lane is short", async () => {
  for (
    const [seen, isStriped] of [
      [{ observedRemote: "127.0.0.1", roundTripMs: 1 }, false],
      [{ observedRemote: "127.0.0.1", roundTripMs: 2 }, true],
      [{ observedRemote: "127.0.0.1" }, true],
      [{ observedRemote: "::1", roundTripMs: 1 }, true], // the lane goes another way, by IPv4
    ] as const
  ) {
    const made = await lanes((offer) => ({ ...offer, tcp: [] }), HOSTS, { seen });
    assert.deepEqual(
      made.map((lane) => lane instanceof StripedTransport),
      [isStriped, isStriped],
      JSON.stringify(seen),
    );
    await assertCarries(made);
  }
});

Deno.test("LaneEndpoint: gives up when its signal aborts", async () => {
  using endpoint = await LaneEndpoint.open(HOSTS);
  const controller = new AbortController();
  const made = endpoint.establish(
    { ...endpoint.offer, tcp: [], udp: [] },
    {},
    true,
    controller.signal,
  );
  controller.abort(new Error("given up"));
  await assert.rejects(made, /given up/);
});

Deno.test("LaneEndpoint: drops strangers over TLS, and they do not keep the peer out", async () => {
  using controlling = await LaneEndpoint.open(HOSTS);
  using other = await LaneEndpoint.open(HOSTS, SHORT);
  const waiting = other.establish(
    { ...controlling.offer, tcp: [], udp: [] },
    SEEN,
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
  for (let i = 0; i < 12; i++) silent.push(await connect()); // more than a port waits for at once
  const garbage = await connect();
  await garbage.write(crypto.getRandomValues(new Uint8Array(10_000)));
  const wrong = [
    garbage,
    await show(crypto.getRandomValues(new Uint8Array(32))),
    await show(new Uint8Array(31)), // one byte is missing
  ];
  using limit = new RunningTimeout(4_000, new Error("they were not dropped in time"));
  const making = controlling.establish(onlyTcp(other.offer), SEEN, true, never);
  await assertCarries(await Promise.all([making, waiting]));
  for (const stranger of wrong) {
    const read = () => stranger.read(new Uint8Array(100)).catch(() => null);
    while (await abortable(read(), limit.signal) !== null);
    stranger.close();
  }
  for (const stranger of silent) stranger.close();
});

Deno.test("LaneEndpoint: drops strangers over QUIC, and they do not keep the peer out", async () => {
  using controlling = await LaneEndpoint.open(HOSTS);
  using other = await LaneEndpoint.open(HOSTS, SHORT);
  const waiting = other.establish(
    { ...controlling.offer, tcp: [], udp: [] },
    SEEN,
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
  await silent.write(new Uint8Array()); // its stream stays invisible to the other end
  await wrong.write(crypto.getRandomValues(new Uint8Array(32)));
  await short.write(new Uint8Array(31));
  using limit = new RunningTimeout(4_000, new Error("they were not dropped in time"));
  const making = controlling.establish({ ...other.offer, tcp: [] }, SEEN, true, never);
  const made = await Promise.all([making, waiting]);
  assert.deepEqual(made.map(({ kind }) => kind), ["QUIC", "QUIC"]);
  for (const stranger of [silent, wrong, short]) {
    const ended = stranger.read().then((piece) => assert.equal(piece, undefined), () => {});
    await abortable(ended, limit.signal);
    stranger.close();
  }
  await assertCarries(made);
});

const NO_FILE = "LaneEndpoint: leaves no file open, however many lanes are made";
Deno.test(named(NO_FILE, "proc"), async () => {
  const openFiles = async () => (await Array.fromAsync(Deno.readDir("/proc/self/fd"))).length;
  // TLS alone: a QUIC dial that was given up holds its socket until it times out.
  await assertCarries(await lanes(onlyTcp));
  const before = await openFiles();
  for (let i = 0; i < 20; i++) await assertCarries(await lanes(onlyTcp));
  await collectUntil(async () => await openFiles() <= before + 3);
});

Deno.test("QuicPort: a peer that stops during the handshake ends a lane and nothing else", async () => {
  const certificate = await makeCertificate(), limit = AbortSignal.timeout(10_000);
  using dialing = QuicPort.open("127.0.0.1", certificate)!;
  using dialed = QuicPort.open("127.0.0.1", certificate)!;
  const accepting = (async () => {
    for await (const accept of dialed.incoming()) await assert.rejects(accept(limit));
  })();
  // Only the first packet of the dialing end gets through.
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
  await assert.rejects(reading, /its connection is lost/); // and no unhandled rejection
  await accepting;
  transport.close();
  between.close();
  await passing;
});

Deno.test("QuicPort: turns away a connection that came before it was closed, and was not accepted yet", async () => {
  const certificate = await makeCertificate(), limit = AbortSignal.timeout(10_000);
  using dialing = QuicPort.open("127.0.0.1", certificate)!;
  const dialed = QuicPort.open("127.0.0.1", certificate)!;
  const coming = dialed.incoming().next();
  const connecting = dialing.connect(`127.0.0.1:${dialed.port}`, certificate.der, limit);
  const { value: accept } = await coming;
  dialed[Symbol.dispose]();
  await assert.rejects(accept!(limit), /its port is closed/); // and the program does not end
  dialing.close();
  await assert.rejects(connecting);
});

// Deno 2.9 panics, and with it the program ends, if a packet comes after the listener was stopped for a
// connection that was not taken before.
Deno.test("QuicPort: a connection that came before it was closed, and was not taken, does no harm", async () => {
  const certificate = await makeCertificate(), given = new AbortController();
  using dialing = QuicPort.open("127.0.0.1", certificate)!;
  const between = Deno.listenDatagram({ transport: "udp", hostname: "127.0.0.1", port: 0 });
  const { port } = between.addr as Deno.NetAddr;
  const connecting = dialing.connect(`127.0.0.1:${port}`, certificate.der, given.signal);
  const [first] = await between.receive();
  for (const isKept of [false, true]) {
    using dialed = QuicPort.open("127.0.0.1", certificate)!;
    if (isKept) dialed.keep();
    const to = { transport: "udp", hostname: "127.0.0.1", port: dialed.port } as const;
    await between.send(first, to);
    await new Promise((resolve) => setTimeout(resolve, 50)); // Deno takes the packet
    dialed[Symbol.dispose]();
    for (let i = 0; i < 5; i++) {
      await between.send(first, to);
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    dialed.close();
  }
  given.abort();
  await assert.rejects(connecting);
  between.close();
});
