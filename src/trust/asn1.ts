import { AsnConvert } from '@peculiar/asn1-schema';
import { equalBytes } from '../base/bytes.ts';
import type { DerNode } from './der.ts';
import { DerInvalid, parseDer } from './der.ts';

/** The library takes up to a tenth of a millisecond for each value; a certificate has one to two hundred. */
const valuesMax = 256;

/** A structure as the library reads it, and where its parts lie in the bytes. */
export interface Asn1<Value> {
  readonly value: Value;
  readonly root: DerNode;
}

/**
 * The structure of the type that the bytes hold. They are known to be DER before the library, which reads BER and passes over what it
 * does not expect, gets to see them; and what it has read must give the same bytes again, so that nothing was passed over.
 * Throws DerInvalid, also for more values than are read in bearable time.
 */
export function readAsn1<Value>(
  bytes: Uint8Array,
  type: new () => Value,
  what: string,
  bytesMax: number,
): Asn1<Value> {
  const root = parseDer(bytes, bytesMax, valuesMax);
  let value: Value;
  let again: Uint8Array;
  try {
    value = AsnConvert.parse(bytes, type);
    again = new Uint8Array(AsnConvert.serialize(value));
  } catch {
    throw new DerInvalid(`not ${what}`);
  }
  if (!equalBytes(again, bytes)) throw new DerInvalid(`more or other than ${what} holds`);
  return { value, root };
}

/** The child of a node at that place. Throws DerInvalid. */
export function childAt(node: DerNode | undefined, index: number): DerNode {
  const child = node?.children.at(index);
  if (child === undefined) throw new DerInvalid('a part is missing');
  return child;
}
