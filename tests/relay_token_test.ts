/** The token that a relay demands reaches the relays of the setting, and nothing else. */

import assert from "node:assert/strict";
import { join } from "node:path";
import { makeCertificate } from "../lib/lane/certificate.ts";
import { newIdentity } from "../lib/repository/identity.ts";
import { encodeTicket } from "../lib/repository/ticket.ts";
import { makeLoopback, startRelay } from "./network.ts";
import { AUTH_SUCCESS, echo, FakeAnnex, makeRepository } from "./pair.ts";
import { THROUGH, unlessSlow } from "./warm.ts";
import { type Host, scenario, type Started, type TestEnv } from "./testenv.ts";

const TOKEN = "relay-token-0123456789";

/** Makes a repository that uses a relay, with this token. */
async function repositoryWithToken(
  env: TestEnv,
  on: Host,
  relay: string,
  token: string,
  mode = 0o600,
): Promise<string> {
  const cwd = await makeRepository(env, on, token === TOKEN ? "right" : token);
  await env.ok(["git", "config", "p2p-iroh.relay", relay], { on, cwd });
  const creds = join(cwd, ".git/annex/creds");
  await Deno.mkdir(creds, { recursive: true });
  await Deno.writeTextFile(join(creds, "iroh-relay-token"), `${token}\n`);
  await Deno.chmod(join(creds, "iroh-relay-token"), mode);
  return cwd;
}

/** Returns the paths of files below a folder that contain the token, except that of the token itself. */
async function filesWithToken(folder: string): Promise<string[]> {
  const found: string[] = [];
  for await (const { name, isFile, isDirectory } of Deno.readDir(folder)) {
    const path = join(folder, name);
    if (isDirectory) found.push(...await filesWithToken(path));
    if (!isFile || name === "iroh-relay-token") continue;
    const text = await Deno.readTextFile(path).catch(() => ""); // a listener has replaced it
    if (text.includes(TOKEN)) found.push(path);
  }
  return found;
}

/** Checks that no other process of the user can read the token from a running one. */
async function assertNotShown({ pid, stdout, stderr }: Started): Promise<void> {
  const texts = [stdout, stderr];
  for (const name of Deno.build.os === "linux" ? ["environ", "cmdline"] : []) {
    texts.push(await Deno.readTextFile(`/proc/${pid}/${name}`));
  }
  for (const text of texts) assert(!text.includes(TOKEN));
}

scenario(
  "a relay that demands a token lets in listener, dialer, ping and doctor, which show it nowhere",
  {
    waits: true,
    needs: ["iroh-relay", "namespaces"],
  },
  async (env) => {
    const { a, b, relay } = await makeLoopback(env);
    const { url } = await startRelay(env, relay, ["another", TOKEN]);
    for (const host of [a, b]) {
      host.env.GIT_ANNEX_P2P_IROH_RELAY = url;
      host.env.GIT_ANNEX_P2P_IROH_LOG = "debug";
    }
    const cwd = await repositoryWithToken(env, a, url, TOKEN);
    const wrong = await repositoryWithToken(env, a, url, "wrong", 0o644);
    const none = await makeRepository(env, a, "none");
    // These wait until iroh has given up; the rest runs meanwhile.
    const refused = Promise.all(
      [wrong, none].map((cwd) => env.iroh(["doctor"], { on: a, cwd })),
    );
    const fakeAnnex = new FakeAnnex(env, join(a.dir, "socket"), echo);
    const serve = async (cwd: string) => {
      const address = (await env.ok(["git-annex-p2p-iroh", "address"], { on: a, cwd })).trim();
      const command = ["git-annex-p2p-iroh", address, fakeAnnex.path];
      return { address, listener: await env.start(command, { on: a, cwd }) };
    };
    const { address, listener } = await serve(cwd), stranger = await serve(wrong);
    await listener.says(new RegExp(`reachable through relay ${url}`));

    // A dialer outside of a repository has the token from the file that the setting names.
    const file = join(b.dir, "token");
    await Deno.writeTextFile(file, TOKEN, { mode: 0o600 });
    const withFile = { on: b, env: { GIT_ANNEX_P2P_IROH_RELAY_TOKEN_FILE: file } };
    const dialer = await env.start(["git-annex-p2p-iroh", address], { ...withFile, stdin: "open" });
    await dialer.write("hello\n");
    await dialer.says(new RegExp(`${AUTH_SUCCESS}hello\n`));
    await dialer.says(new RegExp(`connected, found by relay ${url}`));
    await assertNotShown(dialer);
    await dialer.end();
    assert.equal((await dialer.ended).code, 0);
    const ping = await env.iroh(["ping", address, "-n", "1"], withFile);
    assert.match(ping.stdout, new RegExp(`found by relay ${url}`));
    // A process of the listener's repository goes through the listener, which has the token.
    const connect = () => env.iroh([stranger.address], { on: a, cwd, stdin: "" });
    const own = await unlessSlow(connect);
    assert.match(own.stderr, THROUGH);
    const status = await env.iroh(["status", "--json"], { on: a, cwd });
    assert.equal(JSON.parse(status.stdout).listener.relay, url);
    const doctor = await env.iroh(["doctor"], { on: a, cwd });
    assert.match(
      doctor.stdout,
      new RegExp(`^ok {7}relay ${url} accepts the token in .*-token$`, "m"),
    );
    assert.doesNotMatch(doctor.stdout, /others may read/);

    await stranger.listener.says(new RegExp(`relay ${url} does not accept this repository; run`));
    const strangers = await env.iroh(["status", "--json"], { on: a, cwd: wrong });
    assert.equal(JSON.parse(strangers.stdout).listener.relay, null);
    const [withWrong, withNone] = await refused;
    assert.match(
      withWrong!.stdout,
      new RegExp(
        `^failure {2}relay ${url} does not accept this machine; correct the token in `,
        "m",
      ),
    );
    assert.match(
      withWrong!.stdout,
      /^warning {2}others may read the relay token file .*chmod 600/m,
    );
    assert.match(withNone!.stdout, /does not accept this machine; if it demands a token, write/);

    await assertNotShown(listener);
    for (const { stdout, stderr } of [ping, own, status, doctor]) {
      assert(!`${stdout}${stderr}`.includes(TOKEN));
    }
    assert.deepEqual(await filesWithToken(a.dir), []);
  },
);

/** A relay that writes down what asks for it. */
class Recorder implements AsyncDisposable {
  readonly #server: Deno.HttpServer<Deno.NetAddr>;
  /** The header with the token in each request to be relayed; null if it has none. */
  readonly tokens: (string | null)[] = [];

  /**
   * @param redirect Where it sends these requests, if anywhere.
   * @param pingStatus Its answer to a request that measures the time of a round trip.
   */
  constructor(redirect?: string, pingStatus = 200) {
    const options = { hostname: "127.0.0.1", port: 0, onListen() {} };
    this.#server = Deno.serve(options, ({ url, headers }) => {
      const { pathname } = new URL(url);
      if (pathname !== "/relay") return new Response(null, { status: pingStatus });
      this.tokens.push(headers.get("authorization"));
      if (!redirect) return new Response(null, { status: 503 });
      return Response.redirect(new URL("/relay", redirect), 307);
    });
  }

  url(hostname = "127.0.0.1"): string {
    return `http://${hostname}:${this.#server.addr.port}/`;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#server.shutdown();
  }
}

/** A relay with a certificate of its own, which no client trusts. It takes one client. */
class Untrusted implements Disposable {
  readonly #listener: Deno.TlsListener;
  /** What its client has sent beyond the handshake: an error if the client does not trust it. */
  readonly received: Promise<string>;

  constructor(listener: Deno.TlsListener) {
    this.#listener = listener;
    this.received = this.#receive();
  }

  static async listen(): Promise<Untrusted> {
    const { certificatePem: cert, privateKeyPem: key } = await makeCertificate();
    const options = { cert, key, hostname: "127.0.0.1", port: 0 };
    return new Untrusted(Deno.listenTls(options));
  }

  get url(): string {
    return `https://127.0.0.1:${this.#listener.addr.port}/`;
  }

  async #receive(): Promise<string> {
    using client = await this.#listener.accept();
    const bytes = new Uint8Array(1024);
    try {
      return new TextDecoder().decode(bytes.subarray(0, await client.read(bytes) ?? 0));
    } catch (error) {
      return String(error);
    }
  }

  [Symbol.dispose](): void {
    this.#listener.close();
  }
}

scenario("the token goes to the relays of the setting, and to no other URL", {}, async (env) => {
  const on = await env.host("host");
  await using inAddress = new Recorder();
  await using byName = new Recorder();
  await using redirecting = new Recorder(inAddress.url());
  using untrusted = await Untrusted.listen();
  const setting = `${redirecting.url()} ${byName.url("localhost")} ${untrusted.url}`;
  const cwd = await repositoryWithToken(env, on, setting, TOKEN);
  on.env.GIT_ANNEX_P2P_IROH_RELAY = setting;
  const { publicKey } = newIdentity();
  const address = encodeTicket({ publicKey, relays: [inAddress.url()] });
  const dialer = await env.start(["git-annex-p2p-iroh", address], { on, cwd, stdin: "open" });
  const recorders = [redirecting, byName, inAddress];
  await env.until(
    "each relay to be asked twice",
    () => recorders.every(({ tokens }) => tokens.length > 1),
  );
  const seen = recorders.map(({ tokens }) => [...new Set(tokens)]);
  assert.deepEqual(seen, [[`Bearer ${TOKEN}`], [null], [null]]);
  assert.match(await untrusted.received, /UnknownIssuer|alert/);
  await assertNotShown(dialer);
});

for (const [which, status, used] of [["first", 200, 0], ["second", 503, 1]] as const) {
  scenario(
    `of two relays, the listener gives the token to the ${which} if that is up`,
    { waits: true }, // iroh may be about to look at its relays, and looks again some 20 s later
    async (env) => {
      const on = await env.host("host");
      await using first = new Recorder(undefined, status);
      await using second = new Recorder();
      const setting = `${first.url()} ${second.url()}`;
      const cwd = await repositoryWithToken(env, on, setting, TOKEN);
      const options = { on, cwd, env: { GIT_ANNEX_P2P_IROH_RELAY: setting } };
      const address = (await env.ok(["git-annex-p2p-iroh", "address"], options)).trim();
      const fakeAnnex = new FakeAnnex(env, join(on.dir, "socket"), echo);
      await env.start(["git-annex-p2p-iroh", address, fakeAnnex.path], options);
      const { tokens } = [first, second][used]!;
      await env.until("the relay to be asked", () => tokens.length > 0);
      assert.equal(tokens[0], `Bearer ${TOKEN}`);
    },
  );
}
