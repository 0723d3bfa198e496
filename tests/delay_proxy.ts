/** A slow path between two UDP sockets on this host. */

/** Delay in each direction; twice this is far beyond a path on this host. */
const DELAY_MS = 20;

/** Passes datagrams on to a port of 127.0.0.1, and the answers back to who sent last. */
export function delayProxy(target: number): { readonly port: number } & Disposable {
  const options = { transport: "udp", hostname: "127.0.0.1", port: 0 } as const;
  const front = Deno.listenDatagram(options), back = Deno.listenDatagram(options);
  const to = { ...options, port: target };
  let sender: Deno.Addr = to, isClosed = false;
  const pass = async (from: Deno.DatagramConn, by: Deno.DatagramConn, isForth: boolean) => {
    for await (const [bytes, address] of from) {
      if (isForth) sender = address;
      setTimeout(() => {
        if (!isClosed) by.send(bytes, isForth ? to : sender).catch(() => {}); // lost, as a datagram may be
      }, DELAY_MS);
    }
  };
  pass(front, back, true);
  pass(back, front, false);
  return {
    port: (front.addr as Deno.NetAddr).port,
    [Symbol.dispose]() {
      isClosed = true;
      front.close();
      back.close();
    },
  };
}
