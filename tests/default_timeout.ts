/**
 * Gives a time limit to each test that declares none. `deno task test` preloads this module in each test
 * file. Without it a test that waits for ever, or loops, would hold up the whole run.
 */

/** Timeout for a test; the longest unit test takes half of it if other tests keep the processors busy. */
const TIMEOUT_MS = 180_000;

type Definition = Partial<Deno.TestDefinition>;
type Declare = (...args: unknown[]) => void;

const declare = Deno.test as unknown as Declare;

/** Declares a test. As with `Deno.test`, a name, a definition and a function are each optional. */
function declareWithTimeout(...args: unknown[]): void {
  const definition = args.find((arg) => typeof arg === "object") as Definition | undefined;
  const body = args.find((arg) => typeof arg === "function") as
    | Deno.TestDefinition["fn"]
    | undefined;
  const name = args.find((arg) => typeof arg === "string") as string | undefined;
  declare({
    timeout: TIMEOUT_MS,
    name: name ?? body?.name,
    ...body && { fn: body },
    ...definition,
  });
}

Object.assign(Deno, { test: Object.assign(declareWithTimeout, Deno.test) });
