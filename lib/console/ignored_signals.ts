/**
 * The signals that this process was started to ignore, as `nohup` does. Half a second after its start, Deno takes over
 * SIGHUP, SIGINT and SIGTERM, and then the system no longer tells. So main.ts loads this module before all others.
 */

/** Bit N - 1 is set if signal N is ignored (Linux, proc(5)); 0 on other systems. */
export const IGNORED_MASK: bigint = Deno.build.os === "linux" ? readMask() : 0n;

function readMask(): bigint {
  try {
    const status = Deno.readTextFileSync("/proc/self/status");
    return BigInt(`0x${/^SigIgn:\s*([0-9a-f]+)$/m.exec(status)?.[1] ?? "0"}`);
  } catch {
    return 0n; // there is no /proc, or there are too many open files
  }
}
