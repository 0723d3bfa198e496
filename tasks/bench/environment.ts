/** Gives a measurement a test environment of its own. */

import { TestEnv } from "../../tests/testenv.ts";

/**
 * Runs a measurement. If it fails, shows what its processes have printed.
 * A clean-up that fails is reported, and costs no figures: removing thousands of files can take long.
 */
export async function inEnv<T>(
  timeoutMs: number,
  measure: (env: TestEnv) => Promise<T>,
): Promise<T> {
  const env = await TestEnv.make(timeoutMs);
  try {
    return await env.within(measure(env));
  } catch (error) {
    env.show();
    throw error;
  } finally {
    // deno-lint-ignore no-console -- a task talks to the terminal
    await env[Symbol.asyncDispose]().catch((error) => console.error(`${error}`));
  }
}
