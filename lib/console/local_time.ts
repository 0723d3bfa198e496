/** Times as people read them. */

/** Returns the local time, to the second. @param time A date, or its text in ISO 8601. */
export function localTime(time: Date | string): string {
  const date = new Date(time);
  const local = new Date(date.getTime() - date.getTimezoneOffset() * 60_000).toISOString();
  return local.slice(0, "2026-11-21T10:00:00".length).replace("T", " ");
}
