/**
 * present_peers.ts COUNT RELAY
 *
 * Binds COUNT endpoints that accept connections and serve nothing. Prints the address of each, and then `all are
 * there`. It is one process, since COUNT listeners would take all of the machine's memory.
 */

import { Endpoint } from "../../lib/iroh/endpoint.ts";
import { MUX_ALPN } from "../../lib/protocol/mux.ts";
import { encodeTicket } from "../../lib/repository/ticket.ts";

/** Accepts connections, and keeps each until the dialer closes it. */
async function serve(endpoint: Endpoint): Promise<void> {
  for await (const incoming of endpoint.incoming()) {
    incoming.accept(new AbortController().signal)
      .then(({ closed }) => closed)
      .catch((error) => console.error(error)); // the dialer has given up
  }
}

const [count, relay] = Deno.args as [string, string];
const endpoints: Endpoint[] = [];
for (let i = 0; i < Number(count); i++) {
  const endpoint = await Endpoint.bind({
    alpns: [MUX_ALPN],
    relay: { kind: "custom", urls: [relay] },
    lookup: false,
  });
  endpoints.push(endpoint);
  serve(endpoint);
  await endpoint.online(AbortSignal.timeout(20_000));
  console.log(encodeTicket({ publicKey: endpoint.publicKey, relays: [relay] }));
}
console.log("all are there");
