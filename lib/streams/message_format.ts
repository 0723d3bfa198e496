/** Messages on a byte stream: one byte for the kind, the length of the body, and the body. */

/** How messages are laid out. The length is big-endian. */
export class MessageFormat {
  /** Bytes before the body. */
  readonly headerBytes: number;
  /** Maximum length that the header can express. */
  readonly maxLength: number;

  constructor(lengthBytes: 1 | 2 | 3 | 4) {
    this.headerBytes = 1 + lengthBytes;
    this.maxLength = 2 ** (8 * lengthBytes) - 1;
  }

  /** Returns a message as bytes. @throws {RangeError} if the body is too long. */
  encode(kind: number, body: Uint8Array): Uint8Array<ArrayBuffer> {
    if (body.length > this.maxLength) throw new RangeError(`a body of ${body.length} bytes`);
    const message = new Uint8Array(this.headerBytes + body.length);
    message[0] = kind;
    for (let i = 1, shift = 8 * (this.headerBytes - 2); i < this.headerBytes; i++, shift -= 8) {
      message[i] = body.length >>> shift;
    }
    message.set(body, this.headerBytes);
    return message;
  }

  /** Reads a header. @param header {@linkcode headerBytes} bytes. */
  decodeHeader(header: Uint8Array): { readonly kind: number; readonly length: number } {
    let length = 0;
    for (const byte of header.subarray(1, this.headerBytes)) length = length * 256 + byte;
    return { kind: header[0]!, length };
  }
}
