import { ImageError } from './errors.ts';

/** Bytes that stand as they are in a field: printable ASCII without space and backslash. In attributes "=" does not. */
const plain = Uint8Array.from({ length: 256 }, (_, byte) =>
  byte > 0x20 && byte < 0x7f && byte !== 0x5c ? 1 : 0,
);
const plainInXattr = plain.with('='.charCodeAt(0), 0);
const backslash = 0x5c;
/** What follows the backslash, by byte; every other byte becomes \xHH. */
const shortEscapes: ReadonlyMap<number, number> = new Map([
  [backslash, backslash],
  [0x0a, 0x6e],
  [0x0d, 0x72],
  [0x09, 0x74],
]);
const hexDigits = Buffer.from('0123456789abcdef');
const escapeBytesMax = 4;

/** The text of a dump as it grows: lines of fields, escaped as composefs-dump(5) says. */
export class DumpWriter {
  readonly #bytesMax: number;
  #buffer: Buffer;
  #length = 0;

  /** Room for `bytes` to begin with; more than `bytesMax` are an ImageError. */
  constructor(bytes: number, bytesMax: number) {
    this.#bytesMax = bytesMax;
    this.#buffer = Buffer.allocUnsafe(Math.min(bytes, bytesMax));
  }

  /** How many bytes were written. */
  get length(): number {
    return this.#length;
  }

  /** What was written: no copy, so nothing may be written after it. */
  taken(): Uint8Array {
    return this.#buffer.subarray(0, this.#length);
  }

  /** Text of ASCII that needs no escapes. */
  ascii(text: string): void {
    this.#reserve(text.length);
    const buffer = this.#buffer;
    for (let index = 0; index < text.length; index++) buffer[this.#length++] = text.charCodeAt(index);
  }

  /** A space and a number, as digits. */
  field(value: number): void {
    this.ascii(value < 10 ? (smallFields[value] ?? '') : ` ${value}`);
  }

  /** The `bytes` bytes that were written at `offset`, once more. */
  again(offset: number, bytes: number): void {
    this.#reserve(bytes);
    this.#buffer.copyWithin(this.#length, offset, offset + bytes);
    this.#length += bytes;
  }

  /** A field that is always there: the bytes of `from` between two offsets. */
  escaped(from: Uint8Array, start: number, end: number): void {
    this.#escape(from, start, end, plain);
  }

  /** A name or value of an extended attribute, likewise. */
  escapedXattr(from: Uint8Array, start: number, end: number): void {
    this.#escape(from, start, end, plainInXattr);
  }

  /** A field that could be absent: where it is just "-" it is not to be taken for nothing. */
  optional(from: Uint8Array, start: number, end: number): void {
    if (end - start === 1 && from[start] === 0x2d) this.ascii('\\x2d');
    else this.#escape(from, start, end, plain);
  }

  /** The field that was written at `offset`, up to the next space, once more. */
  fieldAgain(offset: number): void {
    this.again(offset, this.#buffer.indexOf(0x20, offset) - offset);
  }

  #escape(from: Uint8Array, start: number, end: number, asItIs: Uint8Array): void {
    this.#reserve((end - start) * escapeBytesMax);
    const buffer = this.#buffer;
    let length = this.#length;
    for (let index = start; index < end; index++) {
      const byte = from[index] ?? 0;
      if (asItIs[byte] === 1) {
        buffer[length++] = byte;
        continue;
      }
      buffer[length++] = backslash;
      const short = shortEscapes.get(byte);
      if (short !== undefined) {
        buffer[length++] = short;
        continue;
      }
      buffer[length++] = 0x78;
      buffer[length++] = hexDigits[byte >> 4] ?? 0;
      buffer[length++] = hexDigits[byte & 15] ?? 0;
    }
    this.#length = length;
  }

  #reserve(bytes: number): void {
    const needed = this.#length + bytes;
    if (needed <= this.#buffer.length) return;
    if (needed > this.#bytesMax)
      throw new ImageError(0, `the dump would have more than ${this.#bytesMax} bytes`);
    const larger = Buffer.allocUnsafe(Math.min(this.#bytesMax, 2 * needed));
    this.#buffer.copy(larger, 0, 0, this.#length);
    this.#buffer = larger;
  }
}

const smallFields = Array.from({ length: 10 }, (_, value) => ` ${value}`);
