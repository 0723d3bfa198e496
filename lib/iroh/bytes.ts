/**
 * Converts bytes to and from the form in which iroh-js passes them. Version 1.1 passes arrays of numbers, which
 * are about a hundred times as slow as Uint8Array. A later version will pass Uint8Array
 * (https://github.com/n0-computer/iroh-ffi/pull/282).
 */

/** Converts bytes for one version of iroh-js. */
export class IrohBytes {
  /** True if iroh-js passes Uint8Array. */
  readonly isNative: boolean;

  /** @param take A function of iroh-js that takes any 32 bytes, and throws if they have the other form. */
  constructor(take: (bytes: number[]) => unknown) {
    this.isNative = takes(take);
  }

  /**
   * Converts bytes for iroh-js.
   *
   * @param memory Array to use if one is needed. The caller may use it again after the call of iroh-js.
   */
  to(bytes: Uint8Array, memory: number[] = []): number[] {
    // The types of the installed version know arrays only.
    if (this.isNative) return bytes as unknown as number[];
    memory.length = bytes.length;
    // A loop is several times faster than `Array.from`.
    for (let i = 0; i < bytes.length; i++) memory[i] = bytes[i]!;
    return memory;
  }

  /** Converts bytes from iroh-js. */
  from(given: readonly number[] | Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer> {
    if (given instanceof Uint8Array) return given;
    const bytes = new Uint8Array(given.length);
    for (let i = 0; i < given.length; i++) bytes[i] = given[i]!;
    return bytes;
  }
}

function takes(take: (bytes: number[]) => unknown): boolean {
  try {
    take(new Uint8Array(32) as unknown as number[]);
    return true;
  } catch {
    return false; // it takes arrays of numbers
  }
}
