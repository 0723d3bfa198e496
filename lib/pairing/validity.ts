/** How long an invitation is valid, as the user writes it. */

import { UsageError } from "../console/failure.ts";

/** Without `--valid`: long enough for a message to be read, and short for one that is not. */
export const DEFAULT_VALIDITY = "1h";
const UNITS = { s: 1, m: 60, h: 60 * 60, d: 24 * 60 * 60 } as const;
/** Maximum time of an invitation: a day, within which most people read a message. */
export const MAX_VALID_MS = UNITS.d * 1000;

/** Returns a time such as `15m`, `1h` or `1d` in milliseconds. @throws {UsageError} if it is not valid. */
export function parseValidity(text: string): number {
  const [, number, unit] = /^([1-9]\d{0,4})([smhd])$/.exec(text) ?? [];
  const milliseconds = Number(number) * UNITS[unit as keyof typeof UNITS] * 1000;
  if (milliseconds <= MAX_VALID_MS) return milliseconds;
  throw new UsageError(`--valid ${text} is no time`, "write 15m, 1h or 1d, which is the longest");
}

/** Returns a time for people: `15 minutes`, `1 hour`. */
export function validityText(milliseconds: number): string {
  const seconds = milliseconds / 1000;
  const names = [["day", UNITS.d], ["hour", UNITS.h], ["minute", UNITS.m], ["second", 1]] as const;
  const [name, size] = names.find(([, size]) => seconds % size === 0)!;
  const count = seconds / size;
  return `${count} ${name}${count === 1 ? "" : "s"}`;
}
