import { equalBytes } from '../base/bytes.ts';
import type { Envelope } from './dsse.ts';
import { EnvelopeInvalid, inTotoPayloadType, preAuthEncoding, signaturesPerFileMax } from './dsse.ts';
import type { PrivateKey } from './private-key.ts';
import type { Statement } from './statement.ts';
import { equalStatements, formatStatement, parseStatement } from './statement.ts';

/** A new envelope with one signature. Throws StatementInvalid for a name or version that cannot be stated. */
export function signStatement(statement: Statement, key: PrivateKey): Envelope {
  return withSignature(
    { payloadType: inTotoPayloadType, payload: formatStatement(statement), signatures: [] },
    key,
  );
}

/**
 * The envelope with the key's signature added; the key's own earlier one is replaced. The envelope has to state just
 * what is stated now: a signature vouches for the whole payload. Throws EnvelopeInvalid, StatementInvalid, KeyInvalid.
 */
export function addSignature(envelope: Envelope, statement: Statement, key: PrivateKey): Envelope {
  if (envelope.payloadType !== inTotoPayloadType) {
    throw new EnvelopeInvalid(`payloadType is not "${inTotoPayloadType}"`);
  }
  if (!equalStatements(parseStatement(envelope.payload), statement)) {
    throw new EnvelopeInvalid(
      'the file there states something else; sign with the same values, or into another file',
    );
  }
  return withSignature(envelope, key);
}

function withSignature(envelope: Envelope, key: PrivateKey): Envelope {
  const sig = key.sign(preAuthEncoding(envelope.payloadType, envelope.payload));
  const keyid = key.publicKey.id;
  const others = envelope.signatures.filter((other) => other.keyid !== keyid && !equalBytes(other.sig, sig));
  if (others.length >= signaturesPerFileMax)
    throw new EnvelopeInvalid(`it has ${signaturesPerFileMax} signatures`);
  return { ...envelope, signatures: [...others, { keyid, sig }] };
}
