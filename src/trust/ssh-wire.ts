import { concatBytes } from '../base/bytes.ts';

// The data types of RFC 4251, section 5, as keys and signatures of OpenSSH use them.

/** The bytes are not what the wire format demands; the message says where. */
export class SshWireInvalid extends Error {
  override readonly name = 'SshWireInvalid';
}

/** Takes one field after another. Each method throws SshWireInvalid where the bytes end early or have another form. */
export class SshReader {
  readonly #bytes: Uint8Array;
  #at = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  /** So many bytes as they are. */
  raw(length: number): Uint8Array {
    const end = this.#at + length;
    if (end > this.#bytes.length) throw new SshWireInvalid('cut short');
    const found = this.#bytes.slice(this.#at, end);
    this.#at = end;
    return found;
  }

  uint32(): number {
    const bytes = this.raw(4);
    return new DataView(bytes.buffer, bytes.byteOffset).getUint32(0);
  }

  /** A `string`: bytes behind their length. */
  bytes(): Uint8Array {
    return this.raw(this.uint32());
  }

  /** A `string` of printable ASCII, as all names are. */
  name(): string {
    const bytes = this.bytes();
    if (bytes.some((byte) => byte < 0x20 || byte > 0x7e))
      throw new SshWireInvalid('a name that is not ASCII');
    return Buffer.from(bytes).toString('latin1');
  }

  /** An `mpint` above zero, without its sign byte; only the shortest form is taken, as RFC 4251 wants it. */
  positiveInteger(): Uint8Array {
    const bytes = this.bytes();
    const [first = 0, second = 0] = bytes;
    if (bytes.length === 0 || first >= 0x80 || (first === 0 && second < 0x80)) {
      throw new SshWireInvalid('a number that is not positive, or not in its shortest form');
    }
    return first === 0 ? bytes.subarray(1) : bytes;
  }

  /** Called last: nothing may follow. */
  end(): void {
    if (this.#at !== this.#bytes.length) throw new SshWireInvalid('bytes behind the end');
  }
}

/** A `string`: the bytes, or the text in ASCII, behind their length. */
export function sshString(value: Uint8Array | string): Uint8Array {
  const bytes = typeof value === 'string' ? Buffer.from(value, 'latin1') : value;
  return concatBytes(sshUint32(bytes.length), bytes);
}

export function sshUint32(value: number): Uint8Array {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, value);
  return bytes;
}

/** An `mpint` of a number above zero, big-endian. */
export function sshPositiveInteger(bigEndian: Uint8Array): Uint8Array {
  const start = bigEndian.findIndex((byte) => byte !== 0);
  const bytes = start < 0 ? new Uint8Array() : bigEndian.subarray(start);
  return sshString((bytes[0] ?? 0) >= 0x80 ? concatBytes(new Uint8Array(1), bytes) : bytes);
}
