/**
 * Sets TCP_NODELAY for the connections that a listening socket accepts.
 *
 * Without it, Nagle's algorithm holds a second small write back until the other end has acknowledged the first.
 * The other end delays that by 40 to 50 ms, which each request of git-annex would take longer. Deno has
 * `setNoDelay` for dialed connections and for plain TCP, but none for what `Deno.listenTls` accepts.
 */

import { debug } from "../console/stderr.ts";
import { openLibc } from "./libc.ts";

/** Folder of a process's open files, on Linux and on macOS. */
const OPEN_FILES = "/dev/fd";
/** From netinet/in.h and netinet/tcp.h; both systems have the same values. */
const IPPROTO_TCP = 6, TCP_NODELAY = 1;
/** Size of `struct sockaddr_storage`. */
const SOCKET_ADDRESS_BYTES = 128;
/** Offset of the port, in network order, in `struct sockaddr_in` and `sockaddr_in6`. */
const PORT_OFFSET = 2;

/**
 * Sets TCP_NODELAY on the listening socket at `port`. Connections that it accepts from then on inherit the option
 * (Linux: tcp(7); macOS: XNU's tcp_input.c).
 *
 * @returns False if it cannot be set, as on Windows or without libc.
 */
export function setNoDelayForAccepted(port: number): boolean {
  try {
    using libc = openLibc();
    if (!libc) return false;
    let isSet = false;
    for (const { name } of Deno.readDirSync(OPEN_FILES)) {
      const fd = Number(name), address = new Uint8Array(SOCKET_ADDRESS_BYTES);
      const length = new Uint32Array([address.length]);
      if (libc.getsockname(fd, address, length) !== 0) continue; // not a socket
      if (new DataView(address.buffer).getUint16(PORT_OFFSET) !== port) continue;
      // A UDP socket at that port refuses the option. A connection at that port gets it, too, without harm.
      const on = new Int32Array([1]);
      if (libc.setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, on, on.byteLength) === 0) isSet = true;
    }
    return isSet;
  } catch (error) {
    debug(() => `cannot set TCP_NODELAY for port ${port}: ${error}`); // the lane is only slower
    return false;
  }
}
