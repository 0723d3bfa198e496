import assert from "node:assert/strict";
import { pipe } from "../../tests/pipe.ts";
import { Failure } from "../console/failure.ts";
import type { DialOptions, DialResult } from "../dial/dialer.ts";
import { Unreachable } from "../dial/unreachable.ts";
import { DUMBPIPE_ALPN } from "../protocol/dumbpipe.ts";
import { MUX_ALPN, readStreamHeader, StreamType } from "../protocol/mux.ts";
import { parseSettings } from "../repository/settings.ts";
import { encodeTicket, type Ticket } from "../repository/ticket.ts";
import { type Duplex, StreamError } from "../streams/duplex.ts";
import { parseAnnexLine } from "./annex_line.ts";
import { Exchange, type ExchangeOptions } from "./exchange.ts";
import { type PairingAnswer, type PairingRequest, readRequest, sendAnswer } from "./messages.ts";

const INVITATION = {
  publicKey: new Uint8Array(32).fill(1),
  secret: new Uint8Array(16).fill(2),
  relay: "https://relay.example/",
};
const KEY = new Uint8Array(32).fill(3);
const ADDRESS = encodeTicket({ publicKey: INVITATION.publicKey, relays: [] });
const LINE = parseAnnexLine(`p2p-annex::iroh:${ADDRESS}:token`)!;
const UUID = "01234567-89ab-cdef-0123-456789abcdef";
const WELCOME: PairingAnswer = { kind: "welcome", name: "b", uuid: UUID, line: LINE, branch: "m" };
const LINKED: PairingAnswer = { kind: "linked", remote: "ann", wasLinked: false };
const OVER: PairingAnswer = { kind: "over" };

/** What the inviter does with the next request: answers, or gives up its stream with a code, or the connection. */
type Reply = PairingAnswer | bigint | "lost" | "silence";

/** An inviter in memory. It replies in turn, with the last reply for ever. */
class Inviter {
  readonly requests: PairingRequest[] = [];
  readonly dials: { ticket: Ticket; options: DialOptions }[] = [];
  readonly closed: bigint[] = [];
  endpointsClosed = 0;
  alpn: string = MUX_ALPN;
  /** Errors of the next dials. */
  dialErrors: Error[] = [];

  constructor(readonly replies: Reply[]) {}

  readonly dial = (
    ticket: Ticket,
    _settings: unknown,
    _alpns: unknown,
    _signal: AbortSignal,
    options: DialOptions = {},
  ): Promise<DialResult> => {
    this.dials.push({ ticket, options });
    const error = this.dialErrors.shift();
    if (error) return Promise.reject(error);
    const lost = Promise.withResolvers<void>();
    const close = (code: bigint) => {
      this.closed.push(code);
      lost.resolve();
      return Promise.resolve();
    };
    const connection = {
      alpn: this.alpn,
      closed: lost.promise,
      close,
      closeAndSend: close,
      noticeLossWithin: () => {},
      endpoint: options.from ?? {
        [Symbol.asyncDispose]: () => Promise.resolve(void this.endpointsClosed++),
      },
      open: () => {
        const [near, far] = pipe();
        this.#serve(far, lost.resolve).catch(() => {}); // the joiner has given up the stream
        return Promise.resolve(near);
      },
    };
    return Promise.resolve({ connection, route: { kind: "relay" } } as unknown as DialResult);
  };

  async #serve(stream: Duplex, lose: () => void): Promise<void> {
    assert.equal((await readStreamHeader(stream)).type, StreamType.PAIR);
    this.requests.push(await readRequest(stream));
    const reply = this.replies.length > 1 ? this.replies.shift()! : this.replies[0]!;
    if (reply === "silence") return;
    if (typeof reply === "object") return await sendAnswer(stream, reply);
    const code = reply === "lost" ? undefined : reply;
    if (reply === "lost") lose();
    await stream.writable.abort(
      new StreamError(code === undefined ? "lost" : "refused", "gone", { code }),
    );
  }
}

function exchangeWith(inviter: Inviter, options: Partial<ExchangeOptions> = {}): Exchange {
  return new Exchange(INVITATION, {
    secretKey: KEY,
    settings: parseSettings(""),
    dial: inviter.dial as ExchangeOptions["dial"] & object,
    pauseMs: 1,
    ...options,
  });
}

const { signal } = new AbortController();

Deno.test("Exchange asks one request after another, on one connection", async () => {
  const inviter = new Inviter([WELCOME, LINKED, OVER]);
  {
    await using exchange = exchangeWith(inviter);
    assert.deepEqual(await exchange.join("ann", signal), WELCOME);
    assert.deepEqual(await exchange.link(LINE, signal), LINKED);
    await exchange.done(signal);
    await exchange.cancel("no room", signal);
  }
  const { secret } = INVITATION;
  assert.deepEqual(inviter.requests, [
    { kind: "join", secret, name: "ann" },
    { kind: "link", secret, line: LINE },
    { kind: "done", secret },
    { kind: "cancel", secret, reason: "no room" },
  ]);
  assert.equal(inviter.dials.length, 1);
  const [{ ticket, options }] = inviter.dials as [Inviter["dials"][0]];
  const { publicKey, relay } = INVITATION;
  assert.deepEqual(ticket, { publicKey, relays: [relay], direct: [] });
  assert.deepEqual(options, { secretKey: KEY });
  assert.deepEqual([inviter.closed, inviter.endpointsClosed], [[0n], 1]);
});

for (const reply of ["lost", 1n, 3n, 8n] as const) {
  Deno.test(`Exchange asks again on another connection: ${reply}`, async () => {
    const inviter = new Inviter([reply, WELCOME]);
    await using exchange = exchangeWith(inviter);
    assert.deepEqual(await exchange.join("ann", signal), WELCOME);
    assert.equal(inviter.dials.length, 2);
    assert.equal(inviter.dials[1]!.options.secretKey, KEY);
    assert.notEqual(inviter.dials[1]!.options.from, undefined); // two endpoints of one key disturb each other
  });
}

Deno.test("Exchange tells whether the inviter may have heard of the joiner", async () => {
  const away = new Inviter([WELCOME]);
  away.dialErrors = Array.from({ length: 9 }, () => new Unreachable("no route"));
  for (const [inviter, hasAsked] of [[away, false], [new Inviter(["lost"]), true]] as const) {
    await using exchange = exchangeWith(inviter);
    await assert.rejects(exchange.join("ann", signal), Failure);
    assert.equal(exchange.hasAsked, hasAsked);
  }
});

Deno.test("Exchange asks five times, and then says that the inviter is away", async () => {
  const inviter = new Inviter(["lost"]);
  await using exchange = exchangeWith(inviter);
  await assert.rejects(exchange.join("ann", signal), { name: "InviterAway" });
  assert.equal(inviter.requests.length, 5);
});

Deno.test("Exchange dials again if a dial fails soon", async () => {
  const inviter = new Inviter([WELCOME]);
  inviter.dialErrors = [new Unreachable("cannot reach the peer; tried relay (refused)")];
  await using exchange = exchangeWith(inviter);
  assert.deepEqual(await exchange.join("ann", signal), WELCOME);
});

const refusals: [reply: Reply, name: string, message: RegExp][] = [
  [{ kind: "refused" }, "InvitationRefused", /not valid, or no longer/],
  [5n, "InvitationRefused", /not valid, or no longer/],
  [7n, "InviterUnable", /takes no invitations/],
  [{ kind: "failed", message: "no git-annex" }, "InviterFailed", /its part: no git-annex/],
  [LINKED, "InviterUnable", /something else than was asked/],
  [OVER, "AlreadyJoined", /used here before/],
];
for (const [reply, name, message] of refusals) {
  Deno.test(`Exchange asks no second time: ${name} for ${JSON.stringify(reply, text)}`, async () => {
    const inviter = new Inviter([reply]);
    await using exchange = exchangeWith(inviter);
    await assert.rejects(exchange.join("ann", signal), (error) => {
      assert(error instanceof Failure && error.name === name && error.hint !== undefined);
      assert.match(error.message, message);
      return true;
    });
    assert.equal(inviter.requests.length, 1);
  });
}

function text(_key: string, value: unknown): unknown {
  return typeof value === "bigint" ? `code ${value}` : value;
}

Deno.test("Exchange: a peer with dumbpipe's protocol takes no invitations", async () => {
  const inviter = new Inviter([WELCOME]);
  inviter.alpn = DUMBPIPE_ALPN;
  await using exchange = exchangeWith(inviter);
  await assert.rejects(exchange.join("ann", signal), {
    name: "InviterUnable",
    hint: "pair with git annex p2p --pair, or with its --gen-addresses and --link",
  });
  assert.deepEqual(inviter.closed, [0n]); // dumbpipe takes it for an orderly end
});

Deno.test("Exchange: an answer has a time limit", async () => {
  const inviter = new Inviter(["silence"]);
  await using exchange = exchangeWith(inviter, { answerTimeoutMs: 5 });
  await assert.rejects(exchange.join("ann", signal), {
    name: "InviterAway",
    message: "the other side does not answer within 0.005 s",
  });
  assert.deepEqual(inviter.closed, [3n]);
});

Deno.test("Exchange ends when it is told to", async () => {
  const inviter = new Inviter(["silence"]), stop = new AbortController();
  await using exchange = exchangeWith(inviter);
  const joining = exchange.join("ann", stop.signal);
  while (inviter.requests.length === 0) await new Promise((next) => setTimeout(next, 1));
  stop.abort(new Error("told to"));
  await assert.rejects(joining, /told to/);
});

Deno.test("Exchange takes a damaged answer for that of another program", async () => {
  const inviter = new Inviter([WELCOME]);
  const dial = async (...args: Parameters<typeof inviter.dial>) => {
    const { connection, route } = await inviter.dial(...args);
    const open = () => {
      const [near, far] = pipe();
      far.writable.getWriter().write(new TextEncoder().encode("HTTP/1.1 400")).catch(() => {});
      return Promise.resolve(near);
    };
    return { connection: { ...connection, open }, route } as unknown as DialResult;
  };
  await using exchange = exchangeWith(inviter, { dial: dial as ExchangeOptions["dial"] & object });
  await assert.rejects(exchange.join("ann", signal), {
    name: "InviterUnable",
    message: /does not answer as it should/,
  });
});
