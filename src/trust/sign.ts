import { equalBytes } from '../base/bytes.ts';
import type { Envelope } from './dsse.ts';
import { EnvelopeInvalid, inTotoPayloadType, preAuthEncoding, signaturesPerFileMax } from './dsse.ts';
import type { PrivateKey } from './private-key.ts';
import type { PublicKey } from './public-key.ts';
import type { Statement } from './statement.ts';
import { equalStatements, formatStatement, parseStatement } from './statement.ts';

/** A new envelope with one signature. Throws StatementInvalid for a name or version that cannot be stated. */
export function signStatement(statement: Statement, key: PrivateKey): Envelope {
  return withSignature(openEnvelope(statement), key);
}

/** An envelope of the statement that nobody has signed yet. Throws StatementInvalid. */
export function openEnvelope(statement: Statement): Envelope {
  return { payloadType: inTotoPayloadType, payload: formatStatement(statement), signatures: [] };
}

/**
 * The envelope with the key's signature added; the key's own earlier one is replaced. The envelope has to state just
 * what is stated now: a signature vouches for the whole payload. Throws EnvelopeInvalid, StatementInvalid, KeyInvalid.
 */
export function addSignature(envelope: Envelope, statement: Statement, key: PrivateKey): Envelope {
  checkStates(envelope, statement);
  return withSignature(envelope, key);
}

/** Throws EnvelopeInvalid unless the envelope states just this, StatementInvalid. */
export function checkStates(envelope: Envelope, statement: Statement): void {
  if (envelope.payloadType !== inTotoPayloadType) {
    throw new EnvelopeInvalid(`payloadType is not "${inTotoPayloadType}"`);
  }
  if (!equalStatements(parseStatement(envelope.payload), statement)) {
    throw new EnvelopeInvalid(
      'the file there states something else; sign with the same values, or into another file',
    );
  }
}

function withSignature(envelope: Envelope, key: PrivateKey): Envelope {
  return attachSignature(envelope, key.publicKey, key.sign(signedBytesOf(envelope)));
}

/** What a signature of the envelope is made over. */
export function signedBytesOf({ payloadType, payload }: Envelope): Uint8Array {
  return preAuthEncoding(payloadType, payload);
}

/** The envelope with a signature that the key has made; the key's own earlier one is replaced. Throws EnvelopeInvalid. */
export function attachSignature(envelope: Envelope, { id: keyid }: PublicKey, sig: Uint8Array): Envelope {
  const others = envelope.signatures.filter((other) => other.keyid !== keyid && !equalBytes(other.sig, sig));
  if (others.length >= signaturesPerFileMax)
    throw new EnvelopeInvalid(`it has ${signaturesPerFileMax} signatures`);
  return { ...envelope, signatures: [...others, { keyid, sig }] };
}
