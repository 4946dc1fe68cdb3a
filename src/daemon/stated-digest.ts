import type { Digest } from '../base/digest.ts';
import { EnvelopeInvalid, parseEnvelope } from '../trust/dsse.ts';
import { parseStatement, StatementInvalid } from '../trust/statement.ts';

/** The image that a signature file speaks of; undefined for what is none. Says nothing about who signed it. */
export function statedDigest(signatureFile: Uint8Array): Digest | undefined {
  try {
    return parseStatement(parseEnvelope(signatureFile).payload).digest;
  } catch (error) {
    if (error instanceof EnvelopeInvalid || error instanceof StatementInvalid) return undefined;
    throw error;
  }
}
