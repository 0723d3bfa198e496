/** Waits for a promise that may outlive the caller. */

/** The callbacks that wait for each promise. */
const callbacks = new WeakMap<Promise<unknown>, Set<(value: never) => void>>();

/**
 * Calls back once a promise has resolved, unless it is disposed of before. What is given to `then` stays in the
 * memory of a promise that lives for days; a callback that is disposed of does not.
 *
 * @param promise One that never rejects.
 */
export function onResolved<T>(promise: Promise<T>, callback: (value: T) => void): Disposable {
  let waiting = callbacks.get(promise) as Set<(value: T) => void> | undefined;
  if (!waiting) {
    const created = waiting = new Set();
    callbacks.set(promise, created);
    promise.then((value) => {
      callbacks.delete(promise); // a later one is called in a turn of its own
      for (const callback of created) callback(value);
    });
  }
  // A function of its own, since the same one may wait twice.
  const own = (value: T) => callback(value);
  waiting.add(own);
  const all = waiting;
  return { [Symbol.dispose]: () => void all.delete(own) };
}
