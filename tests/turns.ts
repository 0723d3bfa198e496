/** Time that passes in a test, in turns of the event loop. */

/** Gives up so many, so that things happen in another order. */
export async function turns(count: number): Promise<void> {
  for (let i = 0; i < count; i++) await new Promise((resolve) => setTimeout(resolve, 0));
}
