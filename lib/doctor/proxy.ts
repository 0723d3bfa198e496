/**
 * Checks the proxies of the environment. iroh 1.0 asks them when it measures relays over HTTP and when it looks
 * up peers, but connects to a relay without them. A proxy that does not answer can therefore hide relays and
 * peers, and one that answers does not help.
 */

import { abortable } from "../async/abort.ts";
import { type Environment, variable } from "../console/environment.ts";
import { systemReason } from "../console/failure.ts";
import { socketAddress } from "../platform/socket_address.ts";
import type { Settings } from "../repository/settings.ts";
import { type Finding, ok, warning } from "./finding.ts";

/** The variables that iroh reads, in capitals; it reads each in lower case, too. */
const VARIABLES = ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"]
  .flatMap((name) => [name, name.toLowerCase()]);
/** Timeout for a proxy to accept a connection. */
const CONNECT_TIMEOUT_MS = 3_000;

/** Checks each proxy that is set. @returns Nothing if none is set, or if relays and look-up are off. */
export async function checkProxies(
  { relay, lookup }: Settings,
  env: Environment = variable,
): Promise<Finding[]> {
  if (relay.kind === "none" && !lookup) return [];
  const checks = VARIABLES.map((name) => {
    const value = env(name)?.trim();
    return value ? checkProxy(name, value) : undefined;
  });
  return await Promise.all(checks.filter((check) => check !== undefined));
}

/** @param value Of the variable. It may have a password, so no finding shows it. */
async function checkProxy(name: string, value: string): Promise<Finding> {
  const url = URL.parse(/^\w+:\/\//.test(value) ? value : `http://${value}`);
  // A password with "/", "#" or "?" in it: what looks like the host is a part of it.
  const isCut = url && `${url.pathname}${url.search}${url.hash}`.includes("@");
  if (!url?.hostname || isCut) {
    return warning(`${name} names no proxy, and is ignored`, "correct or unset it");
  }
  const port = Number(url.port) || (url.protocol === "https:" ? 443 : 80);
  const hostname = url.hostname.replace(/^\[(.*)\]$/, "$1");
  const proxy = `the proxy of ${name}, ${socketAddress(hostname, port)},`;
  try {
    const connecting = Deno.connect({ hostname, port });
    const timeout = AbortSignal.timeout(CONNECT_TIMEOUT_MS);
    (await abortable(connecting, timeout, (late) => late.close())).close();
    return ok(`${proxy} answers; relays are connected to without it`);
  } catch (error) {
    return warning(
      `${proxy} does not answer (${
        systemReason(error)
      }), so relays and peers may not be found, unless NO_PROXY is set for them`,
      `unset ${name} where git-annex runs, or name the relays in NO_PROXY`,
    );
  }
}
