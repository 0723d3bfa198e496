/** Sends traffic through two programs: a service behind the listening one, and a driver of the other. */

import { join } from "node:path";
import type { Network } from "../../tests/network.ts";
import { dumbpipeListener, makeRepository, withDirectAddress } from "../../tests/pair.ts";
import type { Host, TestEnv } from "../../tests/testenv.ts";
import type { Name } from "./table.ts";

/** Direction of the bytes, as the dialing end sees it. With `stall` their reader first waits for 10 s. */
export type Verb = "up" | "down" | "both" | "up-stall" | "down-stall";

/** Measurements of one dialing process. */
export interface Dial {
  /** From the start of the process to its end. */
  readonly seconds: number;
  /** From the request to the last byte. */
  readonly transferSeconds: number;
  readonly cpuSeconds: number;
  readonly peakMiB: number;
}

/** A running listener. */
export interface Served {
  /** Command that connects to it. */
  readonly command: string[];
  readonly pid: number;
}

/** Seconds for which a reader waits. */
const STALL_S = 10;

const COMMON = `
import sys, threading, time
def receive(read, amount):
    while amount > 0:
        got = len(read(min(amount, 1 << 16)))
        if got == 0: sys.exit("cut short")
        amount -= got
def send(write, amount):
    block = memoryview(bytes(1 << 16))
    while amount > 0: amount -= write(block[:amount])
`;

const SERVICE = `${COMMON}
import socketserver
class Handler(socketserver.BaseRequestHandler):
    def handle(self):
        # What git-annex sends to a peer that it admits.
        self.request.sendall(b"AUTH-SUCCESS 00000000-0000-0000-0000-000000000000\\n")
        line = b""
        while not line.endswith(b"\\n"): line += self.request.recv(1)
        verb, amount = line.split()
        amount = int(amount)
        sending = threading.Thread(target=send, args=(self.request.send, amount))
        if verb in (b"down", b"both", b"down-stall"): sending.start()
        if verb == b"up-stall": time.sleep(${STALL_S})
        if verb in (b"up", b"both", b"up-stall"):
            receive(self.request.recv, amount)
            if verb == b"both": sending.join()
            self.request.sendall(b"!")
        if sending.ident: sending.join()
        if verb == b"byte": self.request.sendall(self.request.recv(1))
class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    request_queue_size = 128
with Server(sys.argv[1], Handler) as server: server.serve_forever()
`;

const DIALER = `${COMMON}
import json, os, subprocess
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
sending = threading.Thread(target=send, args=(child.stdin.write, amount))
if verb in ("up", "both", "up-stall"): sending.start()
if verb == "down-stall": time.sleep(${STALL_S})
if verb in ("down", "both", "down-stall"): receive(child.stdout.read, amount)
if sending.ident:
    sending.join()
    if child.stdout.read(1) != b"!": sys.exit("no answer")
last = time.monotonic()
child.stdin.close()
_, status, usage = os.wait4(child.pid, 0)
end = time.monotonic()
if status != 0: sys.exit(f"exit status {os.waitstatus_to_exitcode(status)}")
print(json.dumps({"seconds": end - begin, "transferSeconds": last - request,
    "cpuSeconds": usage.ru_utime + usage.ru_stime, "peakMiB": usage.ru_maxrss / 1024}))
`;

const BYTE_DIALER = `
import os, subprocess, sys, time
begin = time.monotonic()
child = subprocess.Popen(sys.argv[1:], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
child.stdin.write(b"byte 1\\nx")
child.stdin.close()
answer = b""
while part := child.stdout.read(100): answer += part
_, status = os.waitpid(child.pid, 0)
end = time.monotonic()
if status != 0 or not answer.endswith(b"\\nx"): sys.exit(f"status {status}, {answer}")
print(end - begin)
`;

/** Sends a byte there and back. @returns Milliseconds from the start of the process to its end. */
export async function dialForByte(
  env: TestEnv,
  on: Host,
  command: readonly string[],
  settings: Record<string, string>,
): Promise<number> {
  const args = ["python3", "-c", BYTE_DIALER, ...command];
  const started = await env.start(args, { on, env: settings });
  const { code, stdout, stderr } = await env.within(started.ended);
  if (code !== 0) throw new Error(`${command[0]}: ${stderr.trim()}`);
  return Number(stdout) * 1000;
}

/** Runs one dialing process. */
export async function dial(
  env: TestEnv,
  on: Host,
  verb: Verb,
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

/** Returns the CPU time of a process, and its peak memory (proc(5)). */
export async function usage(pid: number): Promise<{ cpuSeconds: number; peakMiB: number }> {
  const stat = await Deno.readTextFile(`/proc/${pid}/stat`);
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  const status = await Deno.readTextFile(`/proc/${pid}/status`);
  const TICKS_PER_SECOND = 100; // fixed in Linux's interface
  return {
    cpuSeconds: (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND,
    peakMiB: Number(/VmHWM:\s+(\d+) kB/.exec(status)![1]) / 1024,
  };
}

/** Resets the peak memory of a process (proc(5), clear_refs). */
export async function forgetPeak(pid: number): Promise<void> {
  await Deno.writeTextFile(`/proc/${pid}/clear_refs`, "5");
}

/** The listeners of both programs on host `a`, with the same service behind them. */
export interface BothServed {
  readonly served: Record<Name, Served>;
  /** This program's address, without socket addresses. */
  readonly address: string;
}

/** Starts both listeners. @param settings This program's. */
export async function serveBoth(
  env: TestEnv,
  { a }: Network,
  settings: Record<string, string>,
): Promise<BothServed> {
  const socketPath = join(a.dir, "service");
  await env.start(["python3", "-c", SERVICE, socketPath], { on: a });
  await env.until("the service", () => Deno.stat(socketPath).then(() => true, () => false));

  const cwd = await makeRepository(env, a, "repository");
  const bare = await env.ok(["git-annex-p2p-iroh", "address"], { on: a, cwd });
  const address = (await env.ok(["git-annex-p2p-iroh", "address"], { on: a, cwd, env: settings }))
    .trim();
  const ours = await env.start(["git-annex-p2p-iroh", address, socketPath], {
    on: a,
    cwd,
    env: settings,
  });
  const hasRelay = (settings.GIT_ANNEX_P2P_IROH_RELAY ?? "none") !== "none";
  await ours.says(hasRelay ? /reachable through relay/ : /serving endpoint/);
  const direct = await withDirectAddress(a, address);

  const { started: theirs, ticket } = await dumbpipeListener(env, a, socketPath);
  return {
    served: {
      "git-annex-p2p-iroh": { command: ["git-annex-p2p-iroh", direct], pid: ours.pid },
      dumbpipe: { command: ["dumbpipe", "connect", ticket], pid: theirs.pid },
    },
    address: bare.trim(),
  };
}
