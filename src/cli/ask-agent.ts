import { createConnection } from 'node:net';
import {
  AgentRefused,
  agentReplyBytesMax,
  agentReplyLength,
  formatSignRequest,
  parseSignReply,
} from '../trust/ssh-agent.ts';
import type { PublicKey } from '../trust/public-key.ts';
import { CommandError } from './command-error.ts';
import { fileErrorReason } from './input-file.ts';

/** A signature as OpenSSH writes it. */
export interface AgentSignature {
  readonly algorithm: string;
  readonly signature: Uint8Array;
}

/**
 * Has the ssh-agent of SSH_AUTH_SOCK sign with the private half of a key, which never leaves it. It may ask its user
 * first, for as long as that takes. What comes back is checked. Throws CommandError.
 */
export async function signByAgent(publicKey: PublicKey, message: Uint8Array): Promise<AgentSignature> {
  const path = process.env['SSH_AUTH_SOCK'];
  if (path === undefined || path === '') {
    throw new CommandError(
      'this is a public key, with which ssh-agent would sign, and there is none: SSH_AUTH_SOCK is not set',
    );
  }
  try {
    const reply = parseSignReply(await exchange(path, formatSignRequest(publicKey, message)));
    if (publicKey.verifySsh(reply.algorithm, message, reply.signature)) return reply;
    throw new AgentRefused('ssh-agent answers with a signature that does not verify by its key');
  } catch (error) {
    if (error instanceof AgentRefused) throw new CommandError(error.message);
    const reason = fileErrorReason(error);
    if (reason === undefined) throw error;
    throw new CommandError(`ssh-agent at ${path} cannot be asked: ${reason}`);
  }
}

/** Sends a request, and answers the one reply to it, without its length. */
function exchange(path: string, request: Uint8Array): Promise<Uint8Array> {
  return new Promise((resolve, reject) => {
    const socket = createConnection(path);
    let received = Buffer.alloc(0);
    const end = (settle: () => void): void => {
      socket.destroy();
      settle();
    };
    socket.on('data', (chunk: Buffer) => {
      received = Buffer.concat([received, chunk]);
      try {
        if (received.length < 4) return;
        const length = agentReplyLength(received.subarray(0, 4));
        if (received.length > agentReplyBytesMax + 4) throw new AgentRefused('ssh-agent answers too much');
        if (received.length < length + 4) return;
        const reply = Uint8Array.from(received.subarray(4, length + 4));
        end(() => {
          resolve(reply);
        });
      } catch (error) {
        end(() => {
          reject(error instanceof Error ? error : new AgentRefused(String(error)));
        });
      }
    });
    socket.once('error', reject);
    socket.once('end', () => {
      reject(new AgentRefused('ssh-agent ended the connection without an answer'));
    });
    // Not ended: an agent may take the end of what we send for our going away.
    socket.write(request);
  });
}
