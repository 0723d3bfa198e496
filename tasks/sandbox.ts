/**
 * Running programs under test where they can do no harm: in a network namespace with a loopback and
 * nothing else, so that not a packet leaves the machine (iroh looks for port mappers even when relay
 * and lookup are none), and in a process namespace, so that nothing outlives them.
 */

/** Set in the environment of whatever runs in a sandbox. */
const MARK = "GIT_ANNEX_P2P_IROH_SANDBOX";

/** Whoever ends the task ends what runs in the sandbox. */
const STOP_SIGNALS = ["SIGINT", "SIGTERM"] as const;

/** Raises the loopback, with Python since `ip` is not on every machine (netdevice(7)). */
const LOOPBACK_UP = `
import fcntl, socket, struct
fcntl.ioctl(socket.socket(), 0x8914, struct.pack("16sH14s", b"lo", 0x1 | 0x40, b""))
`;

/** Where `ip netns` keeps the names of network namespaces (ip-netns(8)). */
const NAMES = "/run/netns";

/** Where programs under test run. */
export type Sandbox =
  /** With all of root's rights inside: a test can make further network namespaces, if they can be named. */
  | "namespaces"
  /** There are no namespaces to be had on this machine. */
  | "none";

/** Where this process runs. */
export function sandbox(): Sandbox {
  return Deno.env.get(MARK) === "namespaces" ? "namespaces" : "none";
}

/**
 * Whether `ip netns add` can name a network namespace here. It cannot where the folder for it is that
 * of another root than the sandbox's, and nothing could be mounted over it.
 */
export function canNameNamespaces(): boolean {
  try {
    return sandbox() === "namespaces" && Deno.statSync(NAMES).uid === Deno.uid();
  } catch {
    return false; // it is not there
  }
}

/**
 * Runs a command in a sandbox, as far as the machine lets one be made, and ends it, and everything it
 * has started, after a time.
 *
 * @returns Its exit status.
 */
export async function runInSandbox(command: string[], limitMs: number): Promise<number> {
  const prefix = sandbox() === "namespaces" ? [] : await namespacePrefix();
  const [program, ...args] = [...prefix, ...command];
  const child = new Deno.Command(program!, {
    args,
    env: { [MARK]: prefix.length > 0 || sandbox() === "namespaces" ? "namespaces" : "none" },
  }).spawn();
  const end = () => child.kill("SIGKILL");
  const timer = setTimeout(() => {
    // deno-lint-ignore no-console -- a task talks to the terminal
    console.error(`ended after ${limitMs / 60_000} minutes, which is the limit`);
    end();
  }, limitMs);
  for (const signal of STOP_SIGNALS) Deno.addSignalListener(signal, end);
  const { code } = await child.status;
  for (const signal of STOP_SIGNALS) Deno.removeSignalListener(signal, end);
  clearTimeout(timer);
  return code;
}

/** What to put before a command to run it in new namespaces; nothing if they cannot be had. */
async function namespacePrefix(): Promise<string[]> {
  if (Deno.build.os !== "linux") return [];
  const flags = ["--net", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child"];
  const asRoot = Deno.uid() === 0 ? [] : ["--map-root-user"];
  // A folder of the sandbox's own for the names: the machine's is root's, and names would stay in it.
  const names = `{ mkdir -p ${NAMES} && mount -t tmpfs names ${NAMES}; } 2>/dev/null`;
  // Not with exec: the shell, as process 1, collects the orphans that have ended.
  const start = `${names}; python3 -c "$0" && "$@"; exit $?`;
  const prefix = ["unshare", ...asRoot, ...flags, "sh", "-c", start, LOOPBACK_UP];
  return await succeeds([...prefix, "true"]) ? prefix : [];
}

async function succeeds([program, ...args]: string[]): Promise<boolean> {
  try {
    const command = new Deno.Command(program!, { args, stdout: "null", stderr: "null" });
    return (await command.output()).success;
  } catch {
    return false; // it is not there
  }
}
