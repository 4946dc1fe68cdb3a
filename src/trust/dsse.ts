import { fromBase64, toBase64 } from '../base/bytes.ts';
import { JsonInvalid, parseStrictJson } from './json.ts';

/** One signature of an envelope. */
export interface EnvelopeSignature {
  /** Which key made it, as whoever wrote the envelope claims; may be empty. A hint that proves nothing. */
  readonly keyid: string;
  readonly sig: Uint8Array;
}

/** A DSSE envelope (Dead Simple Signing Envelope, version 1). */
export interface Envelope {
  readonly payloadType: string;
  readonly payload: Uint8Array;
  readonly signatures: readonly EnvelopeSignature[];
}

/** The file is no envelope, or beyond the limits; the message says why. */
export class EnvelopeInvalid extends Error {
  override readonly name = 'EnvelopeInvalid';
}

/** The payload type of in-toto statements. */
export const inTotoPayloadType = 'application/vnd.in-toto+json';

/** A signature file. A statement is under 1 KiB and a signature under 200 bytes; this leaves room for both. */
export const signatureFileBytesMax = 65_536;

/** Signatures in one file. Each can cost a verification, of 2 to 4 ms. */
export const signaturesPerFileMax = 16;

/** Key IDs are 64 digits; other tools write other hints. */
export const keyIdCharactersMax = 256;

/**
 * The envelope that a signature file holds. Members that DSSE does not define are passed over, as its parsing rules
 * want: nothing signs them. Throws EnvelopeInvalid.
 */
export function parseEnvelope(file: Uint8Array): Envelope {
  if (file.length > signatureFileBytesMax)
    throw new EnvelopeInvalid(`longer than ${signatureFileBytesMax} bytes`);
  const { payloadType, payload, signatures } = object(json(file), 'the envelope');
  if (typeof payloadType !== 'string') throw new EnvelopeInvalid('payloadType is not a string');
  if (!Array.isArray(signatures) || signatures.length === 0) {
    throw new EnvelopeInvalid('signatures is not a list of one or more');
  }
  if (signatures.length > signaturesPerFileMax) {
    throw new EnvelopeInvalid(`more than ${signaturesPerFileMax} signatures`);
  }
  return {
    payloadType,
    payload: base64(payload, 'payload'),
    signatures: signatures.map((signature, index) => parseSignature(signature, `signatures[${index}]`)),
  };
}

/** The bytes of a signature file, with a newline at the end. */
export function formatEnvelope(envelope: Envelope): Uint8Array {
  const text = JSON.stringify({
    payloadType: envelope.payloadType,
    payload: toBase64(envelope.payload),
    signatures: envelope.signatures.map(({ keyid, sig }) => ({ keyid, sig: toBase64(sig) })),
  });
  return new TextEncoder().encode(`${text}\n`);
}

/** What is signed: DSSE's pre-authentication encoding, "DSSEv1" SP LEN(type) SP type SP LEN(payload) SP payload. */
export function preAuthEncoding(payloadType: string, payload: Uint8Array): Uint8Array {
  const type = Buffer.from(payloadType, 'utf8');
  return new Uint8Array(
    Buffer.concat([Buffer.from(`DSSEv1 ${type.length} `), type, Buffer.from(` ${payload.length} `), payload]),
  );
}

function parseSignature(value: unknown, what: string): EnvelopeSignature {
  const { keyid = '', sig } = object(value, what);
  if (typeof keyid !== 'string' || keyid.length > keyIdCharactersMax) {
    throw new EnvelopeInvalid(`${what}.keyid is not a string of at most ${keyIdCharactersMax} characters`);
  }
  return { keyid, sig: base64(sig, `${what}.sig`) };
}

/** DSSE takes both alphabets of RFC 4648; in either the encoding has to be the canonical one, padding included. */
function base64(value: unknown, what: string): Uint8Array {
  const standard =
    typeof value === 'string' && !/[+/]/.test(value)
      ? value.replaceAll('-', '+').replaceAll('_', '/')
      : value;
  const bytes = typeof standard === 'string' ? fromBase64(standard) : undefined;
  if (bytes === undefined) throw new EnvelopeInvalid(`${what} is not base64`);
  return bytes;
}

function object(value: unknown, what: string): Readonly<Record<string, unknown>> {
  if (typeof value === 'object' && value !== null && !Array.isArray(value))
    return value as Record<string, unknown>;
  throw new EnvelopeInvalid(`${what} is not an object`);
}

function json(file: Uint8Array): unknown {
  try {
    return parseStrictJson(file);
  } catch (error) {
    if (error instanceof JsonInvalid)
      throw new EnvelopeInvalid(`not the JSON of an envelope: ${error.message}`);
    throw error;
  }
}
