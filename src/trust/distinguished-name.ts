import { toHex } from '../base/bytes.ts';
import type { DerNode } from './der.ts';
import { DerInvalid, objectIdentifier, parseDer } from './der.ts';

/** Attributes by the short names of RFC 4514, section 3, and emailAddress (RFC 2985). */
const shortNames: ReadonlyMap<string, string> = new Map([
  ['2.5.4.3', 'CN'],
  ['2.5.4.5', 'serialNumber'],
  ['2.5.4.6', 'C'],
  ['2.5.4.7', 'L'],
  ['2.5.4.8', 'ST'],
  ['2.5.4.9', 'STREET'],
  ['2.5.4.10', 'O'],
  ['2.5.4.11', 'OU'],
  ['0.9.2342.19200300.100.1.1', 'UID'],
  ['0.9.2342.19200300.100.1.25', 'DC'],
  ['1.2.840.113549.1.9.1', 'emailAddress'],
]);

/** How strings are encoded, by their tags; BMPString (30) is UTF-16, the others that are taken are in UTF-8 or a part of it. */
const encodings: ReadonlyMap<number, 'utf-8' | 'utf-16be'> = new Map([
  [12, 'utf-8'],
  [19, 'utf-8'],
  [22, 'utf-8'],
  [30, 'utf-16be'],
]);

/** A certificate has some hundred bytes of name. */
const nameBytesMax = 16_384;

/**
 * A name in DER (RFC 5280, section 4.1.2.4) for people to read: `CN=app, O="Example, Inc."`, in the order of the certificate. What it
 * holds was chosen by whoever made it, and has to be made printable for a terminal. Throws DerInvalid.
 */
export function formatName(der: Uint8Array): string {
  const name = parseDer(der, nameBytesMax);
  if (name.tag !== 0x30) throw new DerInvalid('not a name');
  return name.children
    .map((set) => set.children.map((each) => formatAttribute(der, each)).join('+'))
    .join(', ');
}

function formatAttribute(der: Uint8Array, { children: [type, value] }: DerNode): string {
  if (type === undefined || value === undefined) throw new DerInvalid('not an attribute of a name');
  const oid = objectIdentifier(der, type);
  return `${shortNames.get(oid) ?? oid}=${formatValue(der, value)}`;
}

function formatValue(der: Uint8Array, { tag, start, contentStart, end }: DerNode): string {
  const encoding = encodings.get(tag);
  try {
    if (encoding !== undefined) {
      const text = new TextDecoder(encoding, { fatal: true }).decode(der.subarray(contentStart, end));
      return /[,+"\\<>;=]|^[ #]| $/.test(text) ? `"${text.replaceAll(/["\\]/g, String.raw`\$&`)}"` : text;
    }
  } catch {
    // Bytes that are not of its encoding are shown as they are.
  }
  return `#${toHex(der.subarray(start, end))}`;
}
