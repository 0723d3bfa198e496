/**
 * deno task bench [--runs N] [--megabytes N]
 *
 * Measures the program against dumbpipe on two test hosts with a network of their own (network
 * namespaces, so Linux and root), in one run, in turn, and prints medians and their ratio. Needs
 * dumbpipe and iroh-relay on PATH. Measures the compiled program if GIT_ANNEX_P2P_IROH_PROGRAM names
 * one.
 */

import { cpus } from "node:os";
import { dirname, join } from "node:path";
import { parseArgs } from "node:util";
import { makeNetwork, startRelay } from "../tests/network.ts";
import { dumbpipeListener, makeRepository, withDirectAddress } from "../tests/pair.ts";
import { type Host, TestEnv } from "../tests/testenv.ts";
import { runInSandbox, sandbox } from "./sandbox.ts";

const LIMIT_MS = 60 * 60_000;
const NAMES = ["git-annex-p2p-iroh", "dumbpipe"] as const;
type Name = typeof NAMES[number];

/** One measurement of one process that dials. */
interface Dial {
  /** From its start to its end. */
  readonly seconds: number;
  /** From the request to the last byte. */
  readonly transferSeconds: number;
  readonly cpuSeconds: number;
  readonly peakMiB: number;
}

/** A listener that runs. */
interface Served {
  /** Dials it, with its address in the ticket. */
  readonly command: string[];
  readonly pid: number;
}

const SERVICE = `
import socketserver, sys
class Handler(socketserver.StreamRequestHandler):
    wbufsize = 0
    def handle(self):
        # What git-annex says to a peer it lets in.
        self.wfile.write(b"AUTH-SUCCESS 00000000-0000-0000-0000-000000000000\\n")
        verb, amount = self.rfile.readline().split()
        amount = int(amount)
        if verb == b"up":
            while amount > 0:
                got = len(self.rfile.read1(1 << 20))
                if got == 0: return
                amount -= got
            self.wfile.write(b"!")
        else:
            block = bytes(1 << 16)
            while amount > 0:
                amount -= self.connection.send(block[:amount])
class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    request_queue_size = 128
with Server(sys.argv[1], Handler) as server: server.serve_forever()
`;

const DIALER = `
import json, os, subprocess, sys, time
verb, amount, *command = sys.argv[1:]
amount = int(amount)
begin = time.monotonic()
child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
line = b""
while not line.endswith(b"\\n"):
    part = child.stdout.read(1)
    if not part: sys.exit("the connection ended early")
    line += part
request = time.monotonic()
child.stdin.write(b"%s %d\\n" % (verb.encode(), amount))
left = amount
if verb == "up":
    block = memoryview(bytes(1 << 16))
    while left > 0: left -= child.stdin.write(block[:left])
    if child.stdout.read(1) != b"!": sys.exit("no answer")
else:
    while left > 0:
        part = child.stdout.read(1 << 16)
        if not part: sys.exit("cut short")
        left -= len(part)
last = time.monotonic()
child.stdin.close()
_, status, usage = os.wait4(child.pid, 0)
end = time.monotonic()
if status != 0: sys.exit(f"exit status {os.waitstatus_to_exitcode(status)}")
print(json.dumps({"seconds": end - begin, "transferSeconds": last - request,
    "cpuSeconds": usage.ru_utime + usage.ru_stime, "peakMiB": usage.ru_maxrss / 1024}))
`;

function tell(line: string): void {
  // deno-lint-ignore no-console -- a task talks to the terminal
  console.log(line);
}

async function measure(
  env: TestEnv,
  on: Host,
  verb: "up" | "down",
  bytes: number,
  command: readonly string[],
  settings: Record<string, string> = {},
): Promise<Dial> {
  const args = ["python3", "-c", DIALER, verb, `${bytes}`, ...command];
  const started = await env.start(args, { on, env: settings });
  const { code, stdout, stderr } = await env.within(started.ended);
  if (code !== 0) throw new Error(`${command[0]}: ${stderr.trim()}`);
  return JSON.parse(stdout);
}

/** CPU seconds a process has used, and the most memory it had, in MiB (proc(5)). */
async function usage(pid: number): Promise<{ cpuSeconds: number; peakMiB: number }> {
  const stat = await Deno.readTextFile(`/proc/${pid}/stat`);
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  const status = await Deno.readTextFile(`/proc/${pid}/status`);
  const TICKS_PER_SECOND = 100; // fixed in Linux's interface
  return {
    cpuSeconds: (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND,
    peakMiB: Number(/VmHWM:\s+(\d+) kB/.exec(status)![1]) / 1024,
  };
}

/** Who goes first changes from run to run. */
function inTurn(run: number): readonly Name[] {
  return run % 2 === 0 ? NAMES : NAMES.toReversed();
}

function median(numbers: readonly number[]): number {
  const sorted = numbers.toSorted((a, b) => a - b), middle = sorted.length >> 1;
  return sorted.length % 2 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

/** A row of the table: what each run has measured. */
class Row {
  #values: Record<Name, number[]> = { "git-annex-p2p-iroh": [], dumbpipe: [] };
  constructor(readonly what: string, readonly unit: string, readonly digits: number) {}

  add(name: Name, value: number): void {
    this.#values[name].push(value);
  }

  toString(): string {
    const [ours, theirs] = NAMES.map((name) => median(this.#values[name])) as [number, number];
    const column = (value: number) => `${value.toFixed(this.digits)} ${this.unit}`.padStart(14);
    const ratio = (ours / theirs).toFixed(2).padStart(8);
    return `${this.what.padEnd(44)}${column(ours)}${column(theirs)}${ratio}`;
  }
}

/** Both programs' listeners on one host, with the same service behind them. */
async function serveBoth(
  env: TestEnv,
  on: Host,
  relay: string,
): Promise<{ served: Record<Name, Served>; address: string }> {
  const socketPath = join(on.dir, "service");
  await env.start(["python3", "-c", SERVICE, socketPath], { on });
  await env.until("the service", () => Deno.stat(socketPath).then(() => true, () => false));

  const cwd = await makeRepository(env, on, "repository");
  const bare = await env.ok(["git-annex-p2p-iroh", "address"], { on, cwd });
  const settings = { GIT_ANNEX_P2P_IROH_RELAY: relay, GIT_ANNEX_P2P_IROH_LAN: "true" };
  const address = (await env.ok(["git-annex-p2p-iroh", "address"], { on, cwd, env: settings }))
    .trim();
  const ours = await env.start(["git-annex-p2p-iroh", address, socketPath], {
    on,
    cwd,
    env: settings,
  });
  await ours.says(/reachable through relay/);
  const direct = await withDirectAddress(on, address);

  const { started: theirs, ticket } = await dumbpipeListener(env, on, socketPath);
  return {
    served: {
      "git-annex-p2p-iroh": { command: ["git-annex-p2p-iroh", direct], pid: ours.pid },
      dumbpipe: { command: ["dumbpipe", "connect", ticket], pid: theirs.pid },
    },
    address: bare.trim(),
  };
}

async function bench(env: TestEnv, runs: number, megabytes: number): Promise<void> {
  const { a, b, relay: relayHost } = await makeNetwork(env, "lan");
  const relay = await startRelay(env, relayHost);
  const { served, address } = await serveBoth(env, a, relay.url);
  const bytes = megabytes * 1_000_000;

  const startUp = new Row("start-up: print the address, whole process", "ms", 0);
  const oneByte = new Row("one byte there and back, whole process", "ms", 0);
  // dumbpipe cannot do without the address in its ticket, so it is always measured with that.
  const found = new Row("  this program: found on the LAN, no relay", "ms", 0);
  const withRelay = new Row("  this program: found on the LAN, relay on", "ms", 0);
  const rows = [startUp, oneByte, found, withRelay];
  const repository = await makeRepository(env, b, "repository");
  const addressCalls: Record<Name, string[]> = {
    "git-annex-p2p-iroh": ["git-annex-p2p-iroh", "address"],
    dumbpipe: ["dumbpipe", "generate-ticket"],
  };
  for (let run = 0; run < runs; run++) {
    for (const name of inTurn(run)) {
      const cwd = repository, secret = { IROH_SECRET: "00".repeat(32) };
      const begin = performance.now();
      await env.ok(addressCalls[name], { on: b, cwd, env: secret });
      startUp.add(name, performance.now() - begin);
      const known = (await measure(env, b, "up", 1, served[name].command)).seconds * 1000;
      oneByte.add(name, known);
      for (const [row, url] of [[found, "none"], [withRelay, relay.url]] as const) {
        if (name === "dumbpipe") {
          row.add(name, known);
          continue;
        }
        const settings = { GIT_ANNEX_P2P_IROH_LAN: "true", GIT_ANNEX_P2P_IROH_RELAY: url };
        const dial = await measure(env, b, "up", 1, ["git-annex-p2p-iroh", address], settings);
        row.add(name, dial.seconds * 1000);
      }
    }
  }
  for (const verb of ["up", "down"] as const) {
    const speed = new Row(`${megabytes} MB ${verb}`, "MB/s", 1);
    const cpuDial = new Row("  CPU of the dialing process", "s/GB", 1);
    const cpuServe = new Row("  CPU of the listener", "s/GB", 1);
    const memory = new Row("  most memory of the dialing process", "MiB", 0);
    for (let run = 0; run < runs; run++) {
      for (const name of inTurn(run)) {
        const { command, pid } = served[name];
        const before = await usage(pid);
        const dial = await measure(env, b, verb, bytes, command);
        const after = await usage(pid);
        speed.add(name, megabytes / dial.transferSeconds);
        cpuDial.add(name, dial.cpuSeconds * 1e9 / bytes);
        cpuServe.add(name, (after.cpuSeconds - before.cpuSeconds) * 1e9 / bytes);
        memory.add(name, dial.peakMiB);
      }
    }
    rows.push(speed, cpuDial, cpuServe, memory);
  }
  const listener = new Row("most memory of the listener, after all that", "MiB", 0);
  for (const name of NAMES) listener.add(name, (await usage(served[name].pid)).peakMiB);
  rows.push(listener);

  const version = (await env.ok(["dumbpipe", "--version"])).trim();
  const processors = cpus();
  tell(`${processors.length} × ${processors[0]?.model}, Deno ${Deno.version.deno}, ${version}`);
  tell(
    `medians of ${runs} runs, in turn, two hosts on one LAN (network namespaces), direct path`,
  );
  tell(
    "dumbpipe prints an address from a key alone; this program asks git for its repository, too\n",
  );
  tell(
    `${"".padEnd(44)}${"this program".padStart(14)}${"dumbpipe".padStart(14)}${
      "ratio".padStart(8)
    }`,
  );
  for (const row of rows) tell(row.toString());
}

async function main(): Promise<number> {
  const { values } = parseArgs({
    args: Deno.args,
    options: {
      runs: { type: "string", default: "5" },
      megabytes: { type: "string", default: "50" },
      inside: { type: "boolean" },
    },
  });
  if (!values.inside) {
    Deno.chdir(dirname(import.meta.dirname!));
    const self = [Deno.execPath(), "run", "--allow-all", import.meta.url];
    return await runInSandbox([...self, ...Deno.args, "--inside"], LIMIT_MS);
  }
  if (sandbox() !== "namespaces") {
    tell("the test hosts need network namespaces: run it as root on Linux");
    return 1;
  }
  const [runs, megabytes] = [Number(values.runs), Number(values.megabytes)];
  if (!(runs >= 1) || !(megabytes >= 1)) {
    tell("--runs and --megabytes are numbers from 1");
    return 2;
  }
  await using env = await TestEnv.make(LIMIT_MS);
  try {
    await bench(env, runs, megabytes);
    return 0;
  } catch (error) {
    env.show();
    tell(`cannot measure: ${(error as Error).message}`);
    return 1;
  }
}

if (import.meta.main) Deno.exit(await main());
