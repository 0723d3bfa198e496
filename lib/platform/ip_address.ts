/**
 * Recognises IP addresses, like `node:net`, which takes 3 ms to load. Each connecting process reads settings
 * that may contain one.
 */

const BYTE = "(?:25[0-5]|2[0-4]\\d|1\\d\\d|[1-9]?\\d)";
const IPV4 = new RegExp(`^(?:${BYTE}\\.){3}${BYTE}$`);
/** What an IPv6 address may contain, and its scope. */
const IPV6_LIKE = /^([\da-f:.]+)(?:%[\da-z.:-]+)?$/i;

/** Tells whether a text is an IPv4 address in the usual notation. */
export function isIPv4(text: string): boolean {
  return IPV4.test(text);
}

/** Tells whether a text is an IPv6 address, perhaps with a scope. */
export function isIPv6(text: string): boolean {
  const address = IPV6_LIKE.exec(text)?.[1];
  if (address === undefined || !URL.canParse(`http://[${address}]`)) return false;
  // A URL may have a shorter notation of an IPv4 address at its end.
  return !address.includes(".") || isIPv4(address.slice(address.lastIndexOf(":") + 1));
}

/** Returns the version of an IP address; 0 if the text is none. */
export function isIP(text: string): 0 | 4 | 6 {
  return isIPv4(text) ? 4 : isIPv6(text) ? 6 : 0;
}

/** Tells whether an IP address is one of the loopback, which leads to this host. */
export function isLoopback(host: string): boolean {
  return host === "::1" || host.startsWith("127.");
}
