/** What `deno task fuzz` tries, and the random input that several targets share. */

import fc from "fast-check";
import type { Duplex } from "../../lib/streams/duplex.ts";

/** Something that reads what comes from outside. */
export interface FuzzTarget {
  /** One word, for `--only`. */
  readonly name: string;
  readonly property: fc.IAsyncProperty<unknown> | fc.IProperty<unknown>;
  /** Number of inputs in one round: what takes up to about a second. */
  readonly inputs: number;
}

type Bytes = Uint8Array<ArrayBuffer>;

/** A change of one place. */
interface Edit {
  readonly kind: "set" | "flip" | "remove" | "insert" | "repeat" | "cut";
  readonly at: number;
  readonly bytes: Uint8Array;
}

const edits: fc.Arbitrary<Edit[]> = fc.array(
  fc.record({
    kind: fc.constantFrom("set", "flip", "remove", "insert", "repeat", "cut"),
    at: fc.nat(),
    bytes: fc.oneof(
      fc.uint8Array({ minLength: 1, maxLength: 8 }),
      fc.constantFrom(Uint8Array.of(0), Uint8Array.of(0xff), Uint8Array.of(0xff, 0xff, 0xff, 0xff)),
    ),
  }),
  { maxLength: 4 },
);

/** Returns valid bytes with up to four changes: what a random input alone would never come near. */
export function damaged(valid: fc.Arbitrary<Uint8Array>): fc.Arbitrary<Bytes> {
  return fc.tuple(valid, edits).map(([bytes, edits]) => {
    let damaged = Uint8Array.from(bytes);
    for (const edit of edits) damaged = apply(damaged, edit);
    return damaged;
  });
}

function apply(all: Bytes, { kind, at, bytes }: Edit): Bytes {
  const place = all.length === 0 ? 0 : at % all.length, end = place + bytes.length;
  const [before, after] = [all.subarray(0, place), all.subarray(place)];
  switch (kind) {
    case "set":
      return Uint8Array.from([...before, ...bytes, ...all.subarray(end)]);
    case "flip":
      return all.map((byte, i) => i === place ? byte ^ (1 << (bytes[0]! & 7)) : byte);
    case "remove":
      return Uint8Array.from([...before, ...all.subarray(end)]);
    case "insert":
      return Uint8Array.from([...before, ...bytes, ...after]);
    case "repeat":
      return Uint8Array.from([...before, ...after.subarray(0, 64), ...after]);
    case "cut":
      return Uint8Array.from(before);
  }
}

/** Returns text with up to four of its UTF-8 bytes changed. */
export function damagedText(valid: fc.Arbitrary<string>): fc.Arbitrary<string> {
  return damaged(valid.map((text) => new TextEncoder().encode(text)))
    .map((bytes) => new TextDecoder().decode(bytes));
}

/** Cuts bytes into pieces. @param at Where, each modulo the rest. */
export function pieces(bytes: Bytes, at: readonly number[]): Bytes[] {
  const cut: Bytes[] = [];
  let rest = bytes;
  for (const length of at) {
    if (rest.length === 0) break;
    const end = 1 + length % rest.length;
    cut.push(rest.slice(0, end));
    rest = rest.subarray(end);
  }
  return rest.length > 0 ? [...cut, rest.slice()] : cut;
}

/** Where to cut. */
export const cuts = fc.array(fc.nat(), { maxLength: 8 });

/** Returns a stream on which these pieces come, and then its end. */
export function streamOf(pieces: readonly Uint8Array<ArrayBuffer>[]): Duplex {
  const rest = [...pieces];
  return {
    readable: new ReadableStream({
      type: "bytes",
      pull(controller) {
        const piece = rest.shift();
        if (piece) return controller.enqueue(piece);
        controller.close();
        controller.byobRequest?.respond(0);
      },
    }),
    writable: new WritableStream(),
  };
}

/** Runs a function that may throw errors of the given kinds, and no others. */
export function throwsOnly<T>(
  run: () => T,
  ...kinds: (abstract new (...args: never[]) => Error)[]
): T | undefined {
  try {
    return run();
  } catch (error) {
    if (kinds.some((kind) => error instanceof kind)) return undefined;
    throw error;
  }
}

/** Waits for a promise that may reject with errors of the given kinds, and no others. */
export async function rejectsOnly<T>(
  running: Promise<T>,
  ...kinds: (abstract new (...args: never[]) => Error)[]
): Promise<T | undefined> {
  const outcome = await running.then((value) => () => value, (error) => () => {
    throw error;
  });
  return throwsOnly(outcome, ...kinds);
}
