/** Levels of tags within tags: a certificate within a signature has twelve, what other attributes hold some more. */
const depthMax = 24;

/** Tags in one structure, unless the caller says less: a signature with eight certificates has some thousand. */
const nodesMax = 4096;

/** One value of a DER structure: where it lies in its bytes. */
export interface DerNode {
  /** The identifier octet: class, whether constructed, and number. */
  readonly tag: number;
  readonly start: number;
  readonly contentStart: number;
  readonly end: number;
  readonly children: readonly DerNode[];
}

/** The bytes are not one DER value, or beyond the limits; the message says why and where. */
export class DerInvalid extends Error {
  override readonly name = 'DerInvalid';
}

/** The universal types that certificates and signatures are made of (X.680, table 1); SEQUENCE and SET aside, all primitive. */
const primitives: ReadonlyMap<number, string> = new Map([
  [1, 'BOOLEAN'],
  [2, 'INTEGER'],
  [3, 'BIT STRING'],
  [4, 'OCTET STRING'],
  [5, 'NULL'],
  [6, 'OBJECT IDENTIFIER'],
  [10, 'ENUMERATED'],
  [12, 'UTF8String'],
  [19, 'PrintableString'],
  [20, 'TeletexString'],
  [22, 'IA5String'],
  [23, 'UTCTime'],
  [24, 'GeneralizedTime'],
  [26, 'VisibleString'],
  [28, 'UniversalString'],
  [30, 'BMPString'],
]);
const sequence = 0x30;
const set = 0x31;

/**
 * Walks bytes that have to be one value in DER (X.690, sections 8 to 11), before a library that reads BER sees them: lengths definite and
 * as short as can be, nothing beyond what holds it, nothing behind the end, tags of one byte, strings in one piece, numbers,
 * truth values and times in their one form. Time and memory are bounded by the length. Throws DerInvalid.
 */
export function parseDer(bytes: Uint8Array, bytesMax: number, valuesMax: number = nodesMax): DerNode {
  if (bytes.length > bytesMax) throw new DerInvalid(`longer than ${bytesMax} bytes`);
  const walk = new Walk(bytes, valuesMax);
  const root = walk.node(0, bytes.length, 1);
  if (root.end !== bytes.length) throw new DerInvalid(`${bytes.length - root.end} bytes behind the end`);
  return root;
}

/** The bytes of a node, tag and length included. */
export function derBytes(bytes: Uint8Array, node: DerNode): Uint8Array {
  return bytes.subarray(node.start, node.end);
}

/** The object identifier that a node holds, with dots (X.690, section 8.19). Throws DerInvalid for another type. */
export function objectIdentifier(bytes: Uint8Array, node: DerNode): string {
  if (node.tag !== 0x06) throw new DerInvalid(`no OBJECT IDENTIFIER at ${node.start}`);
  const arcs: number[] = [];
  let arc = 0;
  for (const byte of bytes.subarray(node.contentStart, node.end)) {
    arc = arc * 128 + (byte & 0x7f);
    if (byte >= 0x80) continue;
    const first = Math.min(Math.floor(arc / 40), 2);
    arcs.push(...(arcs.length === 0 ? [first, arc - 40 * first] : [arc]));
    arc = 0;
  }
  return arcs.join('.');
}

class Walk {
  readonly #bytes: Uint8Array;
  readonly #valuesMax: number;
  #nodes = 0;

  constructor(bytes: Uint8Array, valuesMax: number) {
    this.#bytes = bytes;
    this.#valuesMax = valuesMax;
  }

  node(start: number, limit: number, depth: number): DerNode {
    if (depth > depthMax) throw new DerInvalid(`nested deeper than ${depthMax} levels`);
    if (++this.#nodes > this.#valuesMax) throw new DerInvalid(`more than ${this.#valuesMax} values`);
    const tag = this.#byte(start, limit);
    if ((tag & 0x1f) === 0x1f) throw new DerInvalid(`a tag of several bytes at ${start}`);
    const { contentStart, end } = this.#length(start + 1, limit);
    const constructed = (tag & 0x20) !== 0;
    if ((tag & 0xc0) === 0 && tag !== sequence && tag !== set) {
      const name = primitives.get(tag & 0x1f);
      if (name === undefined) throw new DerInvalid(`the tag ${tag & 0x1f} at ${start}, which is not taken`);
      if (constructed) throw new DerInvalid(`a constructed ${name} at ${start}`);
      this.#checkContent(name, this.#bytes.subarray(contentStart, end), start);
    }
    const children: DerNode[] = [];
    for (let at = contentStart; constructed && at < end;) {
      const child = this.node(at, end, depth + 1);
      children.push(child);
      at = child.end;
    }
    return { tag, start, contentStart, end, children };
  }

  #byte(at: number, limit: number): number {
    const byte = this.#bytes[at];
    if (at >= limit || byte === undefined) throw new DerInvalid(`cut short at ${at}`);
    return byte;
  }

  #length(at: number, limit: number): { contentStart: number; end: number } {
    const first = this.#byte(at, limit);
    if (first === 0x80) throw new DerInvalid(`an indefinite length at ${at}`);
    let length = first;
    let contentStart = at + 1;
    if (first > 0x80) {
      const digits = first - 0x80;
      if (digits > 4) throw new DerInvalid(`a length of ${digits} bytes at ${at}`);
      length = 0;
      for (let digit = 0; digit < digits; digit++) length = length * 256 + this.#byte(contentStart++, limit);
      if (length < 0x80 || length < 256 ** (digits - 1))
        throw new DerInvalid(`a length at ${at} that is not in its shortest form`);
    }
    if (length > limit - contentStart)
      throw new DerInvalid(`a length of ${length} at ${at}, beyond what holds it`);
    return { contentStart, end: contentStart + length };
  }

  #checkContent(name: string, content: Uint8Array, at: number): void {
    if (!isCanonical(name, content))
      throw new DerInvalid(`the ${name} at ${at} is not in the one form of DER`);
  }
}

function isCanonical(name: string, content: Uint8Array): boolean {
  const [first = 0, second = 0] = content;
  switch (name) {
    case 'BOOLEAN':
      return content.length === 1 && (first === 0 || first === 0xff);
    case 'INTEGER':
    case 'ENUMERATED':
      if (content.length < 2) return content.length === 1;
      return !(first === 0 && second < 0x80) && !(first === 0xff && second >= 0x80);
    case 'BIT STRING':
      if (first > 7 || (content.length < 2 && (content.length === 0 || first !== 0))) return false;
      return ((content.at(-1) ?? 0) & ((1 << first) - 1)) === 0 || content.length === 1;
    case 'NULL':
      return content.length === 0;
    case 'OBJECT IDENTIFIER':
      return isObjectIdentifier(content);
    case 'UTCTime':
      return isTime(content, /^(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)Z$/);
    case 'GeneralizedTime':
      return isTime(content, /^\d\d(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)Z$/);
    default:
      return true;
  }
}

/** Each arc in as few bytes as can be, none of more than five, the last one ended. */
function isObjectIdentifier(content: Uint8Array): boolean {
  let arc = 0;
  for (const byte of content) {
    if (arc === 0 && byte === 0x80) return false;
    if (++arc > 5) return false;
    if (byte < 0x80) arc = 0;
  }
  return content.length > 0 && arc === 0;
}

/** As RFC 5280, section 4.1.2.5, has times: with seconds, without a fraction, in UTC, and in a calendar. */
function isTime(content: Uint8Array, form: RegExp): boolean {
  const match = form.exec(Buffer.from(content).toString('latin1'));
  if (match === null) return false;
  const [year = 0, month = 0, day = 0, hour = 0, minute = 0, second = 0] = match.slice(1).map(Number);
  // The years of a century differ from those of another only at its turn: 2000 and 2400 are the ones with a leap day.
  const date = new Date(Date.UTC(2000 + year, month - 1, day, hour, minute, second));
  return (
    date.getUTCMonth() === month - 1 && date.getUTCDate() === day && hour < 24 && minute < 60 && second < 60
  );
}
