/** Tables of measurements. */

/** The programs that a table compares, this one first. */
export const NAMES = ["git-annex-p2p-iroh", "dumbpipe"] as const;
export type Name = typeof NAMES[number];

/** Returns the order of a run: each second run goes backwards. */
export function inTurn<T>(names: readonly T[], run: number): readonly T[] {
  return run % 2 === 0 ? names : names.toReversed();
}

/** A row: the values of all runs. */
export class Row {
  #values = new Map<string, number[]>();

  constructor(readonly what: string, readonly unit: string, readonly digits: number) {}

  add(name: string, value: number): void {
    this.#values.set(name, [...this.#values.get(name) ?? [], value]);
  }

  /** Returns the median; undefined if there are no values. */
  of(name: string): number | undefined {
    const values = this.#values.get(name);
    return values && median(values);
  }

  /** Returns minimum and maximum; undefined if there are no values. */
  spread(name: string): readonly [min: number, max: number] | undefined {
    const values = this.#values.get(name);
    return values && [Math.min(...values), Math.max(...values)];
  }

  /** Returns the row as Markdown. */
  toString(): string {
    const [ours, theirs] = NAMES.map((name) => this.of(name));
    const cell = (value?: number) => value === undefined ? "" : value.toFixed(this.digits);
    const ratio = ours !== undefined && theirs !== undefined ? (ours / theirs).toFixed(2) : "";
    return `| ${this.what}, ${this.unit} | ${cell(ours)} | ${cell(theirs)} | ${ratio} |`;
  }
}

/** Returns a table as Markdown. */
export function table(rows: readonly Row[]): string {
  return ["| | this program | dumbpipe | ratio |", "| --- | --: | --: | --: |", ...rows].join("\n");
}

function median(numbers: readonly number[]): number {
  const sorted = numbers.toSorted((a, b) => a - b), middle = sorted.length >> 1;
  return sorted.length % 2 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}
