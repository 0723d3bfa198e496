import assert from "node:assert/strict";
import { setNoDelayForAccepted } from "../platform/socket_options.ts";
import { makeCertificate } from "./certificate.ts";
import type { Transport } from "./lane.ts";
import { connectTls, TlsPort } from "./tls.ts";

const HOST = "127.0.0.1";
const EXCHANGES = 50;
/** Less than Linux's delayed acknowledgement takes, 40 ms. An exchange takes 1 ms. */
const MAX_MS = 30;

/** Returns both ends of a lane over TLS. */
async function makeLane(limit: AbortSignal): Promise<{ dialed: Transport; accepted: Transport }> {
  const certificate = await makeCertificate();
  using port = new TlsPort(HOST, certificate);
  const accepting = port.incoming().next();
  const [dialed, accepted] = await Promise.all([
    connectTls(`${HOST}:${port.port}`, certificate.der, limit),
    accepting.then(({ value }) => value!(limit)),
  ]);
  return { dialed, accepted };
}

Deno.test("TLS lane: tells the IP addresses of both ends", async () => {
  const { dialed, accepted } = await makeLane(AbortSignal.timeout(10_000));
  assert.deepEqual([dialed.local, accepted.local], [HOST, HOST]);
  dialed.close();
  accepted.close();
});

/** Writes as git-annex does for each file: a line, and at once what belongs to it. */
async function sayTwice(lane: Transport): Promise<void> {
  await lane.write(new TextEncoder().encode("GET 0 file key\n"));
  await lane.write(new TextEncoder().encode("DATA 3\nabc"));
}

async function hear(lane: Transport): Promise<void> {
  for (let left = 25; left > 0;) {
    const piece = await lane.read();
    assert(piece && piece.length <= left);
    left -= piece.length;
  }
}

for (const asks of ["dialed", "accepted"] as const) {
  const answers = asks === "dialed" ? "accepted" : "dialed";
  Deno.test(`TLS lane: does not hold back two small writes, if the end that ${asks} asks`, async () => {
    const lanes = await makeLane(AbortSignal.timeout(10_000));
    const times: number[] = [];
    for (let i = 0; i < EXCHANGES; i++) {
      const began = performance.now();
      const answer = hear(lanes[answers]).then(() => sayTwice(lanes[answers]));
      await Promise.all([sayTwice(lanes[asks]), answer, hear(lanes[asks])]);
      times.push(performance.now() - began);
    }
    lanes.dialed.close();
    lanes.accepted.close();
    // What is held back is so in each exchange. A busy machine delays only some.
    assert(Math.min(...times) < MAX_MS, `exchanges take ${times} ms`);
  });
}

Deno.test("setNoDelayForAccepted() returns false if nothing listens on the port", () => {
  const listener = Deno.listen({ hostname: HOST, port: 0 });
  const { port } = listener.addr;
  const canBeSet = Deno.build.os !== "windows";
  assert.equal(setNoDelayForAccepted(port), canBeSet);
  listener.close();
  assert.equal(setNoDelayForAccepted(port), false);
});
