/** Draws a QR code in the characters of a terminal. */

import { encodeQR } from "qr";

/** Light modules around the code, as ISO/IEC 18004 demands. */
const QUIET_ZONE = 4;

/**
 * Returns an invitation as a QR code, in lines. A light module is a block in the colour of the text, which is light on
 * most terminals; most readers also take a code whose colours are exchanged. Two modules are one character.
 *
 * @param text An invitation: in capital letters, of which a code takes more, it is the same.
 */
export function qrCode(text: string): string {
  const options = { ecc: "medium", border: QUIET_ZONE } as const;
  const rows = encodeQR(text.toUpperCase(), "raw", options);
  const lines: string[] = [];
  for (let y = 0; y < rows.length; y += 2) {
    const upper = rows[y]!, lower = rows[y + 1] ?? upper.map(() => true);
    lines.push(upper.map((isDark, x) => BLOCKS[Number(!isDark)]![Number(!lower[x])]).join(""));
  }
  return lines.map((line) => `${line}\n`).join("");
}

/** Returns the number of columns that a code takes. */
export function qrColumns(code: string): number {
  return code.indexOf("\n");
}

/** Characters by whether the upper and the lower module are light. */
const BLOCKS = [[" ", "▄"], ["▀", "█"]] as const;
