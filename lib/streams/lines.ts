/** Reads text by lines. */

/**
 * Reads the lines of a UTF-8 text, without line ends.
 *
 * @param maxCharacters Of a longer line, only the beginning is given.
 */
export async function* readLines(
  readable: ReadableStream<Uint8Array>,
  maxCharacters: number,
): AsyncGenerator<string, void> {
  const decoder = new TextDecoder();
  let line = "";
  for await (const bytes of readable) {
    const pieces = decoder.decode(bytes, { stream: true }).split("\n");
    for (const [i, piece] of pieces.entries()) {
      if (i > 0) {
        yield line;
        line = "";
      }
      line += piece.slice(0, maxCharacters - line.length);
    }
  }
  if (line) yield line;
}
