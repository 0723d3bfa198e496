/**
 * TCP_NODELAY for the connections that a listening socket accepts. Without it, Nagle's algorithm holds a
 * second small write back until the other end, whose acknowledgements are delayed, has acknowledged the
 * first: 40 to 50 ms for each question of git-annex's. Deno has `setNoDelay` for connections that were
 * dialed, and for accepted ones over plain TCP, but none for `Deno.listenTls`.
 */

import { debug } from "../console/stderr.ts";
import { openLibc } from "./libc.ts";

/** Where a process finds its own open files, on Linux and on macOS. */
const OPEN_FILES = "/dev/fd";
/** The same on both systems (netinet/in.h, netinet/tcp.h). */
const IPPROTO_TCP = 6, TCP_NODELAY = 1;
/** The size of `struct sockaddr_storage`. */
const SOCKET_ADDRESS_BYTES = 128;
/** Where `struct sockaddr_in` and `sockaddr_in6` have the port, in network order. */
const PORT_OFFSET = 2;

/**
 * Sets TCP_NODELAY on the listening socket at `port`, from which each connection that it accepts from
 * then on inherits the option (Linux: tcp(7); macOS: XNU's tcp_input.c).
 *
 * @returns Whether it is set. It is not on Windows, nor where the system's calls cannot be had.
 */
export function setNoDelayForAccepted(port: number): boolean {
  try {
    using libc = openLibc();
    if (!libc) return false;
    let isSet = false;
    for (const { name } of Deno.readDirSync(OPEN_FILES)) {
      const fd = Number(name), address = new Uint8Array(SOCKET_ADDRESS_BYTES);
      const length = new Uint32Array([address.length]);
      if (libc.getsockname(fd, address, length) !== 0) continue; // no socket
      if (new DataView(address.buffer).getUint16(PORT_OFFSET) !== port) continue;
      // A UDP socket with that number refuses, and a connection that has it is none the worse.
      const on = new Int32Array([1]);
      if (libc.setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, on, on.byteLength) === 0) isSet = true;
    }
    return isSet;
  } catch (error) {
    debug(() => `no TCP_NODELAY for what port ${port} accepts: ${error}`); // which only costs time
    return false;
  }
}
