/**
 * Bytes in the form in which iroh-js takes and gives them: arrays of numbers in version 1.1, which cost
 * some hundred times as much as the bytes themselves, and Uint8Array in a version to come
 * (https://github.com/n0-computer/iroh-ffi/pull/282).
 */

/** The form that one version of iroh-js has. */
export class IrohBytes {
  /** Whether it takes Uint8Array. */
  readonly isNative: boolean;

  /** @param take Takes 32 bytes of any value, and throws where it does not take their form. */
  constructor(take: (bytes: number[]) => unknown) {
    this.isNative = takes(take);
  }

  /**
   * To iroh-js.
   *
   * @param memory Is used if an array is needed, and can be used again once iroh-js has it.
   */
  to(bytes: Uint8Array, memory: number[] = []): number[] {
    // The types are those of the version at hand.
    if (this.isNative) return bytes as unknown as number[];
    memory.length = bytes.length;
    // A loop is several times faster than `Array.from`.
    for (let i = 0; i < bytes.length; i++) memory[i] = bytes[i]!;
    return memory;
  }

  /** From iroh-js. */
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
    return false; // it wants numbers, and says so if those are wrong, too
  }
}
