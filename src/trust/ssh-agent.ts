import { concatBytes } from '../base/bytes.ts';
import { curves, derOfSsh } from './ecdsa-key.ts';
import type { PublicKey } from './public-key.ts';
import { KeyInvalid } from './public-key.ts';
import { SshReader, sshString, sshUint32, SshWireInvalid } from './ssh-wire.ts';

// What is said to ssh-agent to have something signed (draft-ietf-sshm-ssh-agent, sections 4.6 and 5). No I/O here.

/** A reply of the agent: an RSA key of 8,192 bits signs 1 KiB. */
export const agentReplyBytesMax = 16_384;

const signRequest = 13;
const signResponse = 14;
const failure = 5;
/** SSH_AGENT_RSA_SHA2_512: without it, RSA keys sign by SHA-1. */
const rsaSha512 = 4;

/** The agent did not sign; the message says why. */
export class AgentRefused extends Error {
  override readonly name = 'AgentRefused';
}

/** The request, length first, that the key of `publicKey` signs `message`. */
export function formatSignRequest({ sshBlob, algorithm }: PublicKey, message: Uint8Array): Uint8Array {
  const flags = sshUint32(algorithm === 'rsa' ? rsaSha512 : 0);
  return sshString(concatBytes(Uint8Array.of(signRequest), sshString(sshBlob), sshString(message), flags));
}

/** The length of a reply by its first four bytes, without these. Throws AgentRefused. */
export function agentReplyLength(head: Uint8Array): number {
  const length = new SshReader(head).uint32();
  if (length >= 1 && length <= agentReplyBytesMax) return length;
  throw new AgentRefused(
    `ssh-agent answers with ${length} bytes, where 1 to ${agentReplyBytesMax} are taken`,
  );
}

/** The signature in a reply, without its length, as OpenSSH writes it. Throws AgentRefused. */
export function parseSignReply(reply: Uint8Array): {
  readonly algorithm: string;
  readonly signature: Uint8Array;
} {
  if (reply[0] === failure)
    throw new AgentRefused('ssh-agent does not sign with this key; ssh-add lets it have the key');
  if (reply[0] !== signResponse) throw new AgentRefused('ssh-agent answers something else than a signature');
  try {
    const outer = new SshReader(reply.subarray(1));
    const inner = new SshReader(outer.bytes());
    outer.end();
    const algorithm = inner.name();
    const signature = inner.bytes();
    inner.end();
    return { algorithm, signature };
  } catch (error) {
    if (error instanceof SshWireInvalid) throw new AgentRefused(`ssh-agent answers with: ${error.message}`);
    throw error;
  }
}

/** A signature of the agent's as DSSE carries it (see PublicKey.verify). Throws KeyInvalid for an RSA key, AgentRefused. */
export function dsseOfSsh({ algorithm }: PublicKey, signature: Uint8Array): Uint8Array {
  if (algorithm === 'ed25519') return signature;
  const curve = curves.find((known) => known.algorithm === algorithm);
  if (curve === undefined)
    throw new KeyInvalid("an RSA key, which signs in OpenSSH's format only (--format ssh)");
  const der = derOfSsh(curve, signature);
  if (der === undefined)
    throw new AgentRefused('ssh-agent answers with a signature that is none of its curve');
  return der;
}
