import { isAscii, isUtf8 } from 'node:buffer';

/** Any value of JSON. A member called `__proto__` is data like any other. */
export type JsonValue = null | boolean | number | string | readonly JsonValue[] | JsonObject;

/** An object of JSON. */
export type JsonObject = { readonly [key: string]: JsonValue };

/** Whether `value` is an object of JSON: neither null nor an array. */
export function isJsonObject(value: JsonValue | undefined): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** Whether `value` is an array of JSON. */
export function isJsonArray(value: JsonValue | undefined): value is readonly JsonValue[] {
  return Array.isArray(value);
}

/** Where in a value something is: member names and indices, from the outside in. */
export type JsonPath = readonly (string | number)[];

/** The text is not JSON, or JSON that readers understand differently. */
export class JsonError extends Error {
  /** What is wrong, without the text's own words. */
  readonly reason: string;
  /** Where; undefined where the text is no JSON at all. */
  readonly path: JsonPath | undefined;
  /** What JSON.parse makes of the text; undefined where it is no JSON at all. */
  readonly value: JsonValue | undefined;

  constructor(reason: string, path?: JsonPath, value?: JsonValue) {
    super(reason);
    this.name = 'JsonError';
    this.reason = reason;
    this.path = path;
    this.value = value;
  }
}

/**
 * The value of a JSON text in UTF-8 (RFC 8259). Stricter than JSON.parse where readers differ or values are lost: no
 * member twice in one object, no whole number outside ±(2^53 - 1), no number too large for a double, no unpaired
 * surrogate, no bytes that are not UTF-8, no more than `depthMax` objects and arrays within each other, and
 * no more than `valuesMax` values where that is given. Throws JsonError and nothing else.
 */
export function parseJson(
  bytes: Uint8Array,
  limits: { readonly depthMax: number; readonly valuesMax?: number },
): JsonValue {
  const text = decode(bytes);
  const shape = scan(text);
  // Before anything that takes time for each value: the text may be an attacker's.
  if (limits.valuesMax !== undefined && shape.values > limits.valuesMax) {
    throw new JsonError(`more than ${limits.valuesMax} values`);
  }
  let value: JsonValue;
  try {
    value = JSON.parse(text) as JsonValue;
  } catch {
    throw new JsonError('not JSON');
  }
  if (shape.depth <= limits.depthMax && !shape.doubtful && countMembers(value) === shape.colons) return value;
  const fault = findFault(text, limits.depthMax);
  if (fault === undefined) return value;
  throw new JsonError(fault.reason, fault.path, value);
}

function decode(bytes: Uint8Array): string {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (isAscii(buffer)) return buffer.toString('latin1');
  if (!isUtf8(buffer)) throw new JsonError('not UTF-8');
  return buffer.toString('utf8');
}

interface Shape {
  /** How deep objects and arrays nest. */
  depth: number;
  /** Colons outside of strings: as many as the members of all objects. */
  colons: number;
  /** Commas, colons and opening brackets outside of strings: at least one for each value but the outermost. */
  values: number;
  /** There is a number of sixteen digits or more, an exponent, or an escaped surrogate: worth the slow look. */
  doubtful: boolean;
}

const quote = 0x22;
const backslash = 0x5c;

/** One pass over the text, which need not be JSON. What it finds is exact where the text is. */
function scan(text: string): Shape {
  const shape = { depth: 0, colons: 0, values: 0, doubtful: false };
  let depth = 0;
  let digits = 0;
  for (let i = 0; i < text.length; i++) {
    const c = text.charCodeAt(i);
    if (c >= 0x30 && c <= 0x39) {
      if (++digits >= 16) shape.doubtful = true;
      continue;
    }
    if (digits > 0 && (c | 0x20) === 0x65) shape.doubtful = true;
    digits = 0;
    if (c === quote) i = endOfString(text, i + 1, shape);
    else if (c === 0x2c) shape.values++;
    else if (c === 0x3a) {
      shape.colons++;
      shape.values++;
    } else if (c === 0x7b || c === 0x5b) {
      shape.values++;
      if (++depth > shape.depth) shape.depth = depth;
    } else if (c === 0x7d || c === 0x5d) depth--;
  }
  return shape;
}

/** The index of the quote that ends the string whose first character is at `i`. */
function endOfString(text: string, i: number, shape: Shape): number {
  for (; i < text.length; i++) {
    const c = text.charCodeAt(i);
    if (c === quote) return i;
    if (c === backslash) {
      i++;
      if (text.charCodeAt(i) === 0x75 && (text.charCodeAt(i + 1) | 0x20) === 0x64) shape.doubtful = true;
    }
  }
  return i;
}

/**
 * The members of all objects in a value that JSON.parse made: fewer than the text has colons where a member was there
 * twice. Recursion is bounded: the caller has looked at the depth first.
 */
function countMembers(value: JsonValue): number {
  if (typeof value !== 'object' || value === null) return 0;
  let count = 0;
  if (isJsonArray(value)) {
    for (const element of value) if (typeof element === 'object') count += countMembers(element);
    return count;
  }
  for (const key of Object.keys(value)) {
    count++;
    const member = value[key];
    if (typeof member === 'object') count += countMembers(member);
  }
  return count;
}

/** An object or array that is open at a place of the text. */
interface Open {
  /** The members seen; undefined for an array. */
  readonly seen: Set<string> | undefined;
  /** The member or the index that the next value has. */
  at: string | number;
}

const tokens = /"(?:[^"\\]|\\.)*"(\s*:)?|[{}[\],]|-?\d[\d.eE+-]*/g;
const loneSurrogate = /[\uD800-\uDBFF](?![\uDC00-\uDFFF])|(?<![\uD800-\uDBFF])[\uDC00-\uDFFF]/;

/** The first fault of a text that JSON.parse takes, found token by token. */
function findFault(text: string, depthMax: number): { reason: string; path: JsonPath } | undefined {
  const open: Open[] = [];
  const fault = (reason: string): { reason: string; path: JsonPath } => ({
    reason,
    path: open.map(({ at }) => at),
  });
  for (const [token, colon] of text.matchAll(tokens)) {
    const inner = open.at(-1);
    if (token === '{' || token === '[') {
      if (open.length >= depthMax) return fault(`is nested deeper than ${depthMax} levels`);
      open.push(token === '{' ? { seen: new Set(), at: '' } : { seen: undefined, at: 0 });
    } else if (token === '}' || token === ']') {
      open.pop();
    } else if (token === ',') {
      if (typeof inner?.at === 'number') inner.at++;
    } else if (token.startsWith('"')) {
      const string = String(JSON.parse(colon === undefined ? token : token.slice(0, -colon.length)));
      if (colon !== undefined && inner !== undefined) inner.at = string;
      if (loneSurrogate.test(string)) return fault('has half of a surrogate pair');
      if (colon === undefined) continue;
      if (inner?.seen?.has(string) === true) return fault('is given twice');
      inner?.seen?.add(string);
    } else if (!Number.isFinite(Number(token))) {
      return fault('is a number too large');
    } else if (/^-?\d+$/.test(token) && !Number.isSafeInteger(Number(token))) {
      return fault('is beyond ±(2^53 - 1)');
    }
  }
  return undefined;
}

/** A path as people write it: `image.name`, `stores[2]`, `limits["a b"]`; cut where it is long. */
export function formatPath(path: JsonPath): string {
  let text = '';
  for (const step of path) {
    if (typeof step === 'number') text += `[${step}]`;
    else if (text === '') text = step;
    else text += /^[A-Za-z_]\w*$/.test(step) ? `.${step}` : `[${JSON.stringify(step)}]`;
    if (text.length > 256) return `${text.slice(0, 256)}…`;
  }
  return text;
}
