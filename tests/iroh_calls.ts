/**
 * Has each test file end only when no call of iroh is under way in it. Deno runs each file in a thread. If a call
 * ends when its thread no longer is, iroh crashes the whole run.
 */

import * as iroh from "@number0/iroh";

/** Timeout for calls to end, after the last test of a file. */
const TIMEOUT_MS = 10_000;
/** The call that iroh may never end, as lib/iroh/endpoint.ts says. No crash comes of it. */
const ENDLESS = "Endpoint.close";

/** Names of the calls that are under way, each as often as it is. */
const underWay: string[] = [];

/** Notes while a promise of iroh is pending. */
function note(name: string, result: unknown): unknown {
  if (!(result instanceof Promise)) return result;
  underWay.push(name);
  const settled = () => void underWay.splice(underWay.indexOf(name), 1);
  result.then(settled, settled);
  return result;
}

for (const [className, exported] of Object.entries(iroh)) {
  if (typeof exported !== "function") continue;
  const prototype = exported.prototype as Record<string, unknown>;
  for (const name of Object.getOwnPropertyNames(prototype)) {
    const { value: method } = Object.getOwnPropertyDescriptor(prototype, name)!;
    if (name === "constructor" || typeof method !== "function") continue;
    prototype[name] = function (...args: unknown[]) {
      return note(`${className}.${name}`, method.apply(this, args));
    };
  }
}

Deno.test.afterAll(async () => {
  const deadline = performance.now() + TIMEOUT_MS;
  while (underWay.length > 0) {
    if (performance.now() > deadline) {
      const message = `still under way: ${underWay.join(", ")}`;
      if (underWay.some((name) => name !== ENDLESS)) throw new Error(message);
      return console.log(message);
    }
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
});
