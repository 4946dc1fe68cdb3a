import type { Evidence, VerifyOptions } from '../client/client.ts';
import { explainError, VarlinkError } from '../client/client.ts';
import { parseDelegatedOptions } from './delegated-options.ts';
import { openMountInputs } from './mount-inputs.ts';
import type { OfflineQuestion } from './offline-decision.ts';
import { withClient } from './with-client.ts';

/** What the service answers: its evidence, or the error by which it refuses. */
export type ServiceAnswer =
  | { readonly outcome: 'allow'; readonly evidence: Evidence }
  | {
      readonly outcome: 'deny';
      readonly kind: string;
      readonly parameters: Readonly<Record<string, unknown>>;
      /** `KIND: sentence`, the same as of an offline refusal. */
      readonly message: string;
    };

/** Asks the service what it would decide about an image, for who runs this. Throws CommandError, ServiceUnreachable. */
export async function askService(socket: string, asked: OfflineQuestion): Promise<ServiceAnswer> {
  const signatures = { ...parseDelegatedOptions([]), signatures: asked.signatures };
  using inputs = openMountInputs(asked.image, signatures);
  const options: VerifyOptions = {
    image: inputs.image,
    signatures: inputs.signatures,
    fileSystem: asked.fileSystem,
    allowUnsigned: asked.unsigned,
    stores: asked.stores.map((name) => ({ name })),
    verity: asked.verity,
  };
  try {
    return { outcome: 'allow', evidence: await withClient(socket, (client) => client.verify(options)) };
  } catch (error) {
    if (!(error instanceof VarlinkError)) throw error;
    const kind = error.name.slice(error.name.lastIndexOf('.') + 1);
    return { outcome: 'deny', kind, parameters: error.parameters, message: explainError(error) };
  }
}
