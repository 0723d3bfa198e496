/**
 * Runs programs under test in namespaces, if the machine permits:
 *
 * - a network namespace with nothing but a loopback, so that no packet leaves the machine
 * - a process namespace, so that no process outlives the run
 * - a mount namespace, for the names of further network namespaces
 *
 * Settings alone would not keep packets back: iroh looks for port mappers even without relay and look-up.
 */

/** Variable that tells a process in which sandbox it runs. */
const MARK = "GIT_ANNEX_P2P_IROH_SANDBOX";

/** Signals to the task that end all processes in the sandbox. */
const STOP_SIGNALS = ["SIGINT", "SIGTERM"] as const;

/** Raises the loopback (netdevice(7)), with Python, since some machines lack `ip`. */
const LOOPBACK_UP = `
import fcntl, socket, struct
fcntl.ioctl(socket.socket(), 0x8914, struct.pack("16sH14s", b"lo", 0x1 | 0x40, b""))
`;

/** Where `ip netns` keeps the names of network namespaces (ip-netns(8)). */
const NETNS_FOLDER = "/run/netns";

/** Where programs under test run. */
export type Sandbox =
  /** Inside it the process is root, so a test can make further network namespaces. */
  | "namespaces"
  /** The machine permits no namespaces. */
  | "none";

/** Returns the sandbox in which this process runs. */
export function sandbox(): Sandbox {
  return Deno.env.get(MARK) === "namespaces" ? "namespaces" : "none";
}

/**
 * Tells whether `ip netns add` can name a network namespace. It cannot if the folder for the names belongs
 * to another root than the sandbox's, and the sandbox could not mount its own folder there.
 */
export function canNameNamespaces(): boolean {
  try {
    return sandbox() === "namespaces" && Deno.statSync(NETNS_FOLDER).uid === Deno.uid();
  } catch {
    return false; // no such folder
  }
}

/**
 * Runs a command in a sandbox, or without one if the machine permits none. After the timeout it kills the
 * command and, in a sandbox, all processes.
 *
 * @returns The exit status of the command.
 */
export async function runInSandbox(command: string[], timeoutMs: number): Promise<number> {
  const prefix = sandbox() === "namespaces" ? [] : await namespacePrefix();
  const [program, ...args] = [...prefix, ...command];
  const child = new Deno.Command(program!, {
    args,
    env: { [MARK]: prefix.length > 0 || sandbox() === "namespaces" ? "namespaces" : "none" },
  }).spawn();
  const end = () => child.kill("SIGKILL");
  const timer = setTimeout(() => {
    // deno-lint-ignore no-console -- a task talks to the terminal
    console.error(`killed after ${timeoutMs / 60_000} minutes, the timeout`);
    end();
  }, timeoutMs);
  for (const signal of STOP_SIGNALS) Deno.addSignalListener(signal, end);
  const { code } = await child.status;
  for (const signal of STOP_SIGNALS) Deno.removeSignalListener(signal, end);
  clearTimeout(timer);
  return code;
}

/** Returns the words that run a command in new namespaces; none if the machine permits no namespaces. */
async function namespacePrefix(): Promise<string[]> {
  if (Deno.build.os !== "linux") return [];
  const flags = ["--net", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child"];
  const asRoot = Deno.uid() === 0 ? [] : ["--map-root-user"];
  // The sandbox mounts its own folder for the names. In the machine's they would outlive it.
  const mount = `mount -t tmpfs names ${NETNS_FOLDER}`;
  const mountNames = `{ mkdir -p ${NETNS_FOLDER} && ${mount}; } 2>/dev/null`;
  // Without exec, since the shell is process 1 and collects orphans that have ended.
  const start = `${mountNames}; python3 -c "$0" && "$@"; exit $?`;
  const prefix = ["unshare", ...asRoot, ...flags, "sh", "-c", start, LOOPBACK_UP];
  return await succeeds([...prefix, "true"]) ? prefix : [];
}

async function succeeds([program, ...args]: string[]): Promise<boolean> {
  try {
    const command = new Deno.Command(program!, { args, stdout: "null", stderr: "null" });
    return (await command.output()).success;
  } catch {
    return false; // no such program
  }
}
