/** Gives a measurement a test environment of its own. */

import { TestEnv } from "../../tests/testenv.ts";

/** Runs a measurement. If it fails, shows what its processes have printed. */
export async function inEnv<T>(
  timeoutMs: number,
  measure: (env: TestEnv) => Promise<T>,
): Promise<T> {
  await using env = await TestEnv.make(timeoutMs);
  try {
    return await env.within(measure(env));
  } catch (error) {
    env.show();
    throw error;
  }
}
