import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { StripedTransport } from "./striped_transport.ts";
import { Candidate } from "./candidate.ts";
import { type Certificate, makeCertificate } from "./certificate.ts";
import { LaneError, type Transport } from "./lane.ts";
import { QuicPort } from "./quic.ts";
import { addStripes, type StripingOptions } from "./striping.ts";
import { assertCarries, collectUntil } from "../../tests/lanes.ts";
import { named } from "../../tests/testenv.ts";

type Bytes = Uint8Array<ArrayBuffer>;

/** Round trips at which an end asks for three further connections, and for none. */
const FAR_MS = 2, NEAR_MS = 1;
const never = new AbortController().signal;
/** Timeout for the further connections, with ease enough for some on this host. */
const TIMEOUT_MS = 500;
/** Length of the message that names three ports. */
const PORTS_BYTES = 7;

/** One end of a connection in memory. */
interface End extends Transport {
  /** What it was given to send, piece by piece. */
  readonly said: Bytes[];
  isClosed: boolean;
}

/** Returns a connection in memory, as if to this host. @param change Changes what the first end sends. */
function connection(change: (bytes: Bytes) => Bytes = (bytes) => bytes): [End, End] {
  const room = { highWaterMark: 100 };
  const [there, back] = [1, 2].map(() => new TransformStream<Bytes, Bytes>(undefined, room, room));
  const end = (
    readable: ReadableStream<Bytes>,
    writable: WritableStream<Bytes>,
    change: (bytes: Bytes) => Bytes,
  ): End => {
    const reader = readable.getReader(), writer = writable.getWriter();
    return {
      kind: "QUIC",
      remote: "127.0.0.1:1",
      said: [],
      isClosed: false,
      read: async () => (await reader.read()).value,
      async write(bytes) {
        this.said.push(Uint8Array.from(bytes));
        await writer.write(change(Uint8Array.from(bytes)));
      },
      close() {
        this.isClosed = true;
        reader.cancel().catch(() => {});
        writer.abort(new Error("closed")).catch(() => {});
      },
    };
  };
  return [
    end(back!.readable, there!.writable, change),
    end(there!.readable, back!.writable, (bytes) => bytes),
  ];
}

/** Returns the ports that an end has named. */
function portsOf({ said }: End): number[] {
  const [, ...bytes] = said.find(({ length }) => length === PORTS_BYTES)!;
  return [0, 2, 4].map((at) => bytes[at]! << 8 | bytes[at + 1]!);
}

/** Returns two ends that know each other, on a connection that has been chosen. */
async function ends([a, b] = connection()) {
  const secret = new Uint8Array(32);
  const candidates = Promise.all([
    Candidate.authenticate(a, secret, never),
    Candidate.verify(b, secret, never).then((candidate) => candidate.prove(never)),
  ]);
  const certificates = await Promise.all([makeCertificate(), makeCertificate()]);
  const secrets = [randomBytes(32), randomBytes(32)];
  const ends = (await candidates).map((first, i) => {
    const remote = { certificate: certificates[1 - i]!.der, secret: secrets[1 - i]! };
    return {
      first,
      addStripes: (
        isControlling: boolean,
        options: Partial<StripingOptions> = {},
        certificate: Certificate = certificates[i]!,
      ) =>
        addStripes(first, certificate, { local: secrets[i]!, remote }, {
          isControlling,
          roundTripMs: FAR_MS,
          signal: never,
          ...options,
        }),
    };
  });
  return { a: ends[0]!, b: ends[1]!, certificates, secrets };
}

/** Returns the sockets of this machine's open UDP ports, as the numbers of their inodes (proc_net_udp(5)). */
async function udpSockets(): Promise<Map<number, string>> {
  const lines = (await Deno.readTextFile("/proc/self/net/udp")).trim().split("\n").slice(1);
  return new Map(lines.map((line) => {
    const columns = line.trim().split(/\s+/);
    return [parseInt(columns[1]!.split(":")[1]!, 16), columns[9]!];
  }));
}

/** Returns the sockets of these ports, all of which are open. */
async function socketsOf(ports: readonly number[]): Promise<string[]> {
  const sockets = await udpSockets();
  return ports.map((port) => {
    const socket = sockets.get(port);
    assert(socket, `port ${port} is not open`);
    return socket;
  });
}

/** Waits until sockets are closed. Their ports may be those of other tests by then. */
async function closed(sockets: readonly string[]): Promise<void> {
  await collectUntil(async () => {
    const open = new Set((await udpSockets()).values());
    return !sockets.some((socket) => open.has(socket));
  });
}

const EACH_SOCKET =
  "addStripes: makes three more connections, each with a socket of its own at either end";
Deno.test(named(EACH_SOCKET, "proc"), async () => {
  const sockets = await (async () => {
    const both = connection(), { a, b } = await ends(both);
    const striped = await Promise.all([a.addStripes(true), b.addStripes(false)]);
    const sockets = await socketsOf(both.flatMap(portsOf));
    assert.equal(sockets.length, 6);
    await assertCarries(striped);
    return sockets;
  })(); // a function of its own, so that its objects can be garbage-collected
  await closed(sockets);
});

Deno.test("addStripes: does not use a connection that does not get through", async () => {
  // The other end gets a wrong number for one of the three ports.
  const others = Deno.listenDatagram({ transport: "udp", hostname: "127.0.0.1", port: 0 });
  const { port } = others.addr as Deno.NetAddr;
  const wrong = [port >> 8, port & 0xff];
  const both = connection((bytes) =>
    bytes.length === PORTS_BYTES
      ? Uint8Array.from([...bytes.subarray(0, 3), ...wrong, ...bytes.subarray(5)])
      : bytes
  );
  const { a, b } = await ends(both);
  // Nor does the end with those ports get through: it expects another certificate.
  const other = await makeCertificate();
  const striped = await Promise.all([
    a.addStripes(true, { timeoutMs: TIMEOUT_MS }),
    b.addStripes(false, {}, other),
  ]);
  others.close();
  assert.deepEqual(both[0].said.at(-1), Uint8Array.of(0b101)); // the selection
  await assertCarries(striped);
});

Deno.test("addStripes: uses the first connection alone if the other end asks for no more", async () => {
  const { a, b } = await ends();
  const striped = a.addStripes(true);
  await b.first.write(Uint8Array.of(0));
  assert.equal((await b.first.readExactly(PORTS_BYTES))[0], 3);
  assert.deepEqual(await b.first.readExactly(1), Uint8Array.of(0));
  assert.equal(await striped, a.first);
});

Deno.test("addStripes: uses the first connection alone if either end is near the other", async () => {
  for (
    const [ours, theirs] of [[NEAR_MS, NEAR_MS], [NEAR_MS, FAR_MS], [FAR_MS, NEAR_MS]] as const
  ) {
    const both = connection(), { a, b } = await ends(both);
    const used = await Promise.all([
      a.addStripes(true, { roundTripMs: ours }),
      b.addStripes(false, { roundTripMs: theirs }),
    ]);
    assert.deepEqual(used, [a.first, b.first]);
    const asked = both.map(({ said }) =>
      said.findIndex(({ length }) => length === PORTS_BYTES) >= 0
    );
    assert.deepEqual(asked, [ours === FAR_MS, theirs === FAR_MS]);
    await assertCarries(used);
  }
});

Deno.test("addStripes: an end that does not know the round trip asks for three more", async () => {
  const { a, b } = await ends();
  const striped = a.addStripes(true, { roundTripMs: undefined });
  assert.equal((await b.first.readExactly(PORTS_BYTES))[0], 3);
  await b.first.write(Uint8Array.of(0));
  assert.equal(await striped, a.first);
});

Deno.test("addStripes: waits for nominations after the selection, and closes what is not selected", async () => {
  const both = connection(), { a, b, certificates, secrets } = await ends(both);
  const striped = a.addStripes(false);
  await b.first.write(Uint8Array.of(3, ...[1, 2, 3].flatMap((port) => [0, port])));
  await b.first.readExactly(PORTS_BYTES);
  const limit = AbortSignal.timeout(10_000);
  const dialed = await Promise.all(
    portsOf(both[0]).map(async (port) => {
      using from = QuicPort.open("127.0.0.1", certificates[1]!)!;
      const dialing = from.connect(`127.0.0.1:${port}`, certificates[0]!.der, limit);
      const candidate = await Candidate.authenticate(await dialing, secrets[0]!, limit);
      candidate.keep();
      return candidate;
    }),
  );
  await b.first.write(Uint8Array.of(0b011));
  for (const candidate of dialed) await candidate.nominate();
  await assertCarries([await striped, new StripedTransport([b.first, dialed[0]!, dialed[1]!])]);
  await assert.rejects(dialed[2]!.readExactly(1));
  dialed[2]!.close();
});

Deno.test("addStripes: a port answers no connection after 8", async () => {
  const both = connection(), { a, b, certificates } = await ends(both);
  const stop = new AbortController();
  const striped = a.addStripes(false, { signal: stop.signal });
  await b.first.write(Uint8Array.of(1, 0, 1));
  await b.first.readExactly(PORTS_BYTES);
  const [port] = portsOf(both[0]);
  using from = QuicPort.open("127.0.0.1", certificates[1]!)!;
  const connect = async (limitMs = 10_000) => {
    const limit = AbortSignal.timeout(limitMs);
    const quic = await from.connect(`127.0.0.1:${port}`, certificates[0]!.der, limit);
    await quic.write(new Uint8Array(32)).catch(() => {}); // a wrong secret: it is closed
    await quic.read().catch(() => undefined); // closed
    quic.close();
  };
  for (let i = 0; i < 8; i++) await connect();
  await connect(TIMEOUT_MS).catch(() => {}); // is closed during the handshake, or right after it
  await assert.rejects(connect(TIMEOUT_MS), { name: "TimeoutError" });
  stop.abort(new Error("given up"));
  await assert.rejects(striped, /given up/);
});

Deno.test("addStripes: gives up the lane if the other end breaks the protocol", async () => {
  for (
    const [isControlling, said, error] of [
      [true, [9], /9 more ports/],
      [true, [1, 0, 0], /names port 0/],
      [false, [0, 1], /a connection that does not exist/],
      [false, [4, 0, 1, 0, 1, 0, 1, 0, 1, 8], /a connection that does not exist/],
    ] as const
  ) {
    const both = connection();
    const { a, b } = await ends(both);
    const striped = a.addStripes(isControlling);
    await b.first.write(Uint8Array.from(said));
    const isThat = (thrown: unknown) => thrown instanceof LaneError && error.test(thrown.message);
    await assert.rejects(striped, isThat);
    assert(both[0].isClosed);
  }
});

for (const isControlling of [true, false]) {
  const end = isControlling ? "the end that controls" : "the other end";
  for (const what of ["given up", "broken"]) {
    const name = `addStripes: leaves no socket open when it is ${what} at ${end}`;
    Deno.test(named(name, "proc"), async () => {
      const sockets = await (async () => {
        const both = connection(), { a, b } = await ends(both);
        const controller = new AbortController();
        const { signal } = controller;
        const striped = a.addStripes(isControlling, { signal, timeoutMs: TIMEOUT_MS });
        await b.first.write(Uint8Array.of(1, 0, 1)); // a port that does not answer
        const sockets = await socketsOf(portsOf(both[0]));
        assert.equal(sockets.length, 3);
        if (what === "given up") controller.abort(new Error("given up"));
        else both[1].close();
        await assert.rejects(striped, what === "given up" ? /given up/ : /./);
        assert(both[0].isClosed);
        return sockets;
      })();
      await closed(sockets);
    });
  }
}
