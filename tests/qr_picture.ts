/** Draws a QR code of a terminal as a picture, and has another program read it. */

import assert from "node:assert/strict";
import jsqr from "jsqr";

/** Pixels of a module. */
const SCALE = 3;

/** Reads a QR code in half blocks, as a terminal with light text on a dark background shows it. */
export function readQrCode(lines: readonly string[]): string {
  const width = lines[0]!.length * SCALE, height = lines.length * 2 * SCALE;
  const data = new Uint8ClampedArray(width * height * 4).fill(255);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const character = lines[Math.floor(y / SCALE / 2)]![Math.floor(x / SCALE)]!;
      const isUpper = Math.floor(y / SCALE) % 2 === 0;
      const isLight = character === "█" || character === (isUpper ? "▀" : "▄");
      const at = (y * width + x) * 4;
      data.fill(isLight ? 255 : 0, at, at + 3);
    }
  }
  const read = jsqr.default(data, width, height, { inversionAttempts: "dontInvert" });
  assert(read, "no QR code");
  return read.data;
}
