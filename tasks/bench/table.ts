/** What has been measured, side by side. */

/** The programs that are compared, this one first. */
export const NAMES = ["git-annex-p2p-iroh", "dumbpipe"] as const;
export type Name = typeof NAMES[number];

/** Who goes first changes from run to run. */
export function inTurn<T>(names: readonly T[], run: number): readonly T[] {
  return run % 2 === 0 ? names : names.toReversed();
}

/** A row: what each run has measured. */
export class Row {
  #values = new Map<string, number[]>();

  constructor(readonly what: string, readonly unit: string, readonly digits: number) {}

  add(name: string, value: number): void {
    this.#values.set(name, [...this.#values.get(name) ?? [], value]);
  }

  /** The median; undefined if there is none. */
  of(name: string): number | undefined {
    const values = this.#values.get(name);
    return values && median(values);
  }

  /** The least and the most; undefined if there are none. */
  spread(name: string): readonly [least: number, most: number] | undefined {
    const values = this.#values.get(name);
    return values && [Math.min(...values), Math.max(...values)];
  }

  /** As Markdown. */
  toString(): string {
    const [ours, theirs] = NAMES.map((name) => this.of(name));
    const cell = (value?: number) => value === undefined ? "" : value.toFixed(this.digits);
    const ratio = ours !== undefined && theirs !== undefined ? (ours / theirs).toFixed(2) : "";
    return `| ${this.what}, ${this.unit} | ${cell(ours)} | ${cell(theirs)} | ${ratio} |`;
  }
}

/** A table of rows, as Markdown. */
export function table(rows: readonly Row[]): string {
  return ["| | this program | dumbpipe | ratio |", "| --- | --: | --: | --: |", ...rows].join("\n");
}

function median(numbers: readonly number[]): number {
  const sorted = numbers.toSorted((a, b) => a - b), middle = sorted.length >> 1;
  return sorted.length % 2 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}
