/**
 * Makes text from outside harmless: from peers, and names of remotes and folders. A terminal obeys control
 * characters, and format characters such as bidirectional overrides make a text look like another one. All text
 * passes this file before it reaches a terminal, a log, or JSON.
 */

/** Maximum length of a line, so that a peer's text cannot flood a log. */
const MAX_LINE_CHARACTERS = 2000;

/** Control characters (C0, DEL, C1), format characters, and separators of lines and paragraphs. */
const UNPRINTABLE = "\\p{Cc}\\p{Cf}\\p{Zl}\\p{Zp}";
const SPACES = new RegExp(`[${UNPRINTABLE}\\s]+`, "gu");
const UNPRINTABLE_BUT_LINE_ENDS = new RegExp(`(?!\n)[${UNPRINTABLE}]`, "gu");
const ANY_UNPRINTABLE = new RegExp(`[${UNPRINTABLE}]`, "u");
const EACH_UNPRINTABLE = new RegExp(`[${UNPRINTABLE}]`, "gu");

/** Returns one line of printable text: control characters become spaces, and a long text is cut. */
export function printable(text: string, maxCharacters: number = MAX_LINE_CHARACTERS): string {
  const line = text.replace(SPACES, " ").trim();
  return line.length > maxCharacters ? `${line.slice(0, maxCharacters - 1)}…` : line;
}

/** Returns printable text of several lines: control characters become spaces, except line ends. */
export function printableLines(text: string): string {
  return text.replace(UNPRINTABLE_BUT_LINE_ENDS, " ");
}

/** Tells whether a text, such as a name in a file that another program reads, is printable as it is. */
export function isPrintable(text: string): boolean {
  return !ANY_UNPRINTABLE.test(text);
}

/** Returns a value as JSON in one line, in which control characters are escaped: JSON itself escapes few of them. */
export function printableJson(value: unknown): string {
  return JSON.stringify(value).replace(
    EACH_UNPRINTABLE,
    (character) =>
      [...Array(character.length).keys()]
        .map((i) => `\\u${character.charCodeAt(i).toString(16).padStart(4, "0")}`)
        .join(""),
  );
}
