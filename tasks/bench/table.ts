/** Tables of measurements. */

/** The programs that a table compares, this one first. */
export const NAMES = ["git-annex-p2p-iroh", "dumbpipe"] as const;
export type Name = typeof NAMES[number];

/** Ways from one repository to another: by this program, by dumbpipe, and by git-annex's unix socket itself. */
export const REMOTES = [...NAMES, "unix-socket"] as const;
export type Remote = typeof REMOTES[number];

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

/** Returns medians with minimum and maximum, and this program's ratio to each of the others, as Markdown. */
export function remotesTable(rows: readonly Row[]): string {
  const [ours, ...others] = REMOTES;
  const cell = (row: Row, name: string) => {
    const [least, most] = row.spread(name)!.map((value) => value.toFixed(row.digits));
    return `${row.of(name)!.toFixed(row.digits)} (${least} to ${most})`;
  };
  const lines = rows.map((row) => {
    const ratios = others.map((name) => (row.of(ours)! / row.of(name)!).toFixed(2));
    const cells = REMOTES.map((name) => cell(row, name));
    return `| ${[`${row.what}, ${row.unit}`, ...cells, ...ratios].join(" | ")} |`;
  });
  return [
    "| | this program | dumbpipe | unix socket | of dumbpipe | of the socket |",
    "| --- | --: | --: | --: | --: | --: |",
    ...lines,
  ].join("\n");
}

function median(numbers: readonly number[]): number {
  const sorted = numbers.toSorted((a, b) => a - b), middle = sorted.length >> 1;
  return sorted.length % 2 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}
