/** Sets options of sockets for which Deno has no call. They are found among the open files, by their port. */

import { debug } from "../console/stderr.ts";
import { type Libc, openLibc } from "./libc.ts";

/** Folder of a process's open files, on Linux and on macOS. */
const OPEN_FILES = "/dev/fd";
/** From sys/socket.h, netinet/in.h and netinet/tcp.h; both systems have the same values. */
const SOCK_STREAM = 1, SOCK_DGRAM = 2, IPPROTO_TCP = 6, TCP_NODELAY = 1;
/** From sys/socket.h. */
const { SOL_SOCKET, SO_TYPE, SO_RCVBUF } = Deno.build.os === "darwin"
  ? { SOL_SOCKET: 0xffff, SO_TYPE: 0x1008, SO_RCVBUF: 0x1002 }
  : { SOL_SOCKET: 1, SO_TYPE: 3, SO_RCVBUF: 8 };
/** Size of `struct sockaddr_storage`. */
const SOCKET_ADDRESS_BYTES = 128;
/** Offset of the port, in network order, in `struct sockaddr_in` and `sockaddr_in6`. */
const PORT_OFFSET = 2;

/** An option with a number as its value. */
interface Option {
  readonly level: number;
  readonly name: number;
  readonly value: number;
}

/**
 * Sets TCP_NODELAY on the listening socket at `port`. Connections that it accepts from then on inherit the option
 * (Linux: tcp(7); macOS: XNU's tcp_input.c). A connection at that port gets it, too, without harm.
 *
 * Without it, Nagle's algorithm holds a second small write back until the other end has acknowledged the first.
 * The other end delays that by 40 to 50 ms, which each request of git-annex would take longer. Deno has
 * `setNoDelay` for dialed connections and for plain TCP, but none for what `Deno.listenTls` accepts.
 *
 * @returns False if it cannot be set, as on Windows or without libc.
 */
export function setNoDelayForAccepted(port: number): boolean {
  return setOption(port, SOCK_STREAM, { level: IPPROTO_TCP, name: TCP_NODELAY, value: 1 });
}

/**
 * Sets how many bytes the UDP socket at `port` holds until they are read. Linux counts its own overhead as well,
 * gives twice of what is asked for, and lowers what exceeds `net.core.rmem_max` (socket(7)).
 *
 * @returns False if it cannot be set, as on Windows or without libc.
 */
export function setUdpReceiveBuffer(port: number, bytes: number): boolean {
  return setOption(port, SOCK_DGRAM, { level: SOL_SOCKET, name: SO_RCVBUF, value: bytes });
}

function setOption(port: number, type: number, { level, name, value }: Option): boolean {
  try {
    using libc = openLibc();
    if (!libc) return false;
    const option = Int32Array.of(value);
    let isSet = false;
    for (const { name: file } of Deno.readDirSync(OPEN_FILES)) {
      const fd = Number(file);
      if (portOf(libc, fd) !== port || typeOf(libc, fd) !== type) continue;
      if (libc.setsockopt(fd, level, name, option, option.byteLength) === 0) isSet = true;
    }
    return isSet;
  } catch (error) {
    debug(() => `cannot set an option of the socket at port ${port}: ${error}`); // it is only slower
    return false;
  }
}

/** Returns the port of a socket, or a number that is no port for another file. */
function portOf(libc: Libc, fd: number): number {
  const address = new Uint8Array(SOCKET_ADDRESS_BYTES);
  if (libc.getsockname(fd, address, Uint32Array.of(address.length)) !== 0) return -1;
  return new DataView(address.buffer).getUint16(PORT_OFFSET);
}

/** Returns the type of a socket, such as SOCK_STREAM. */
function typeOf(libc: Libc, fd: number): number {
  const type = new Int32Array(1);
  libc.getsockopt(fd, SOL_SOCKET, SO_TYPE, type, Uint32Array.of(type.byteLength));
  return type[0]!;
}
