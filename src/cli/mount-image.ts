import { resolve } from 'node:path';
import type { Digest } from '../base/digest.ts';
import { attachMount, connect, explainError, VarlinkError } from '../client/client.ts';
import type { Evidence, MountDelegationClient, MountOptions, VerifyOptions } from '../client/client.ts';
import { isSyscallError } from '../sys/errno.ts';
import type { OwnedFd } from '../sys/fd.ts';
import { openFile } from '../sys/file.ts';
import { mayAttach, namespaceToEnter } from './attach-namespace.ts';
import type { NamespaceToEnter } from './attach-namespace.ts';
import { insideUserNamespace } from './caller.ts';
import { CommandError } from './command-error.ts';
import type { DelegatedOptions } from './delegated-options.ts';
import { fileErrorReason } from './input-file.ts';
import type { MountInputs } from './mount-inputs.ts';
import { openMountInputs } from './mount-inputs.ts';
import { findMountAt, imageOfMount, openOwnProcess } from './mount-table.ts';

/** One mount to be made. */
export interface MountJob {
  /** A file, `name:NAME` or `sha256:HEX`. */
  readonly image: string;
  readonly directory: string;
  readonly options: DelegatedOptions;
  /** Where to attach it instead of here: a PID, or the path of a mount namespace. */
  readonly namespace: string | undefined;
  /** Do everything but the mount: the service decides, and nothing is attached. */
  readonly fake: boolean;
}

/** What became of it. */
export type MountOutcome =
  | { readonly kind: 'mounted' | 'would mount'; readonly evidence: Evidence }
  | { readonly kind: 'already mounted'; readonly digest: Digest };

/** mount(8)'s exit codes. */
const usageOrPermission = 1;
const systemFailure = 2;
const mountFailure = 32;

/**
 * Has the service mount an image, and attaches it. Throws CommandError with mount(8)'s exit codes: 1 where the caller
 * may not, 2 where the service cannot be reached, 32 where the image is not mounted.
 */
export async function mountImage(asked: MountJob): Promise<MountOutcome> {
  // Another mount namespace is entered with its root for a working directory.
  const job = { ...asked, directory: resolve(asked.directory) };
  if (job.options.unsigned && process.geteuid?.() !== 0) {
    throw new CommandError('the option unsigned is for root only', usageOrPermission);
  }
  if (job.namespace === undefined) requireMayAttach();
  using namespace = job.namespace === undefined ? undefined : openNamespace(job.namespace);
  using proc = openOwnProcess();
  using inputs = openMountInputs(job.image, job.options);
  using client = await connectToService(job.options.socket);
  const question = verifyOptions(job.options, inputs);
  // /proc there may know nothing of this process.
  const idMap = job.options.idmap ?? defaultIdMap(namespace);
  if (namespace !== undefined) {
    enter(namespace);
    requireMayAttach();
  }
  using directory = openDirectory(job.directory);
  try {
    const there = mountedImage(job.directory, proc);
    const decided = await decideWithout(client, job, question, inputs, there);
    if (decided !== undefined) return decided;
    const { mount, evidence } = await client.mount({
      ...question,
      idMap,
      attributes: job.options.attributes,
    });
    using owned = mount;
    attachMount(owned, directory.number);
    return { kind: 'mounted', evidence };
  } catch (error) {
    throw asMountError(job.image, error);
  }
}

/** The outcome where nothing is to be mounted: the image `there` is the one, or the mount is a fake. */
async function decideWithout(
  client: MountDelegationClient,
  { fake }: MountJob,
  question: VerifyOptions,
  inputs: MountInputs,
  there: Digest | undefined,
): Promise<MountOutcome | undefined> {
  if (there !== undefined) {
    const digest = inputs.digest() ?? (await client.verify(question)).digest;
    if (digest === there) return { kind: 'already mounted', digest: there };
  }
  return fake ? { kind: 'would mount', evidence: await client.verify(question) } : undefined;
}

/** One line for people. */
export function describeOutcome(outcome: MountOutcome, job: MountJob): string {
  if (outcome.kind === 'already mounted') return `${outcome.digest} is already mounted on ${job.directory}`;
  const { digest, name, version, rule, signers } = outcome.evidence;
  const named = name === undefined ? '' : ` (${name}${version === undefined ? '' : `, version ${version}`})`;
  const signed = signers.length === 0 ? '' : `, signed by ${signers.join(', ')}`;
  const verb = outcome.kind === 'mounted' ? 'mounted' : 'would be mounted';
  return `${digest}${named} ${verb} on ${job.directory} by the rule "${rule}"${signed}`;
}

function verifyOptions(options: DelegatedOptions, inputs: MountInputs): VerifyOptions {
  return {
    image: inputs.image,
    signatures: inputs.signatures,
    stores: inputs.stores,
    fileSystem: options.type,
    digest: options.digest,
    allowUnsigned: options.unsigned,
    verity: options.verity,
  };
}

/** Where the mount is attached decides: the IDs of the image mean nothing inside a user namespace. */
function defaultIdMap(namespace: NamespaceToEnter | undefined): MountOptions['idMap'] {
  if (namespace?.userNamespace !== undefined) return { userNamespaceFd: namespace.userNamespace.number };
  return insideUserNamespace() ? 'caller' : 'none';
}

function requireMayAttach(): void {
  if (mayAttach()) return;
  throw new CommandError(
    'only root of a mount namespace can attach mounts in it; run this within "podman unshare" or "unshare -rm"',
    usageOrPermission,
  );
}

function openNamespace(namespace: string): NamespaceToEnter {
  try {
    return namespaceToEnter(namespace);
  } catch (error) {
    throw new CommandError(
      `-N ${namespace}: ${fileErrorReason(error) ?? explainError(error)}`,
      usageOrPermission,
    );
  }
}

function enter(namespace: NamespaceToEnter): void {
  try {
    namespace.enter();
  } catch (error) {
    if (!isSyscallError(error)) throw error;
    throw new CommandError(
      `the mount namespace cannot be entered (${error.code}): join its user namespace first, as with nsenter -U -m`,
      usageOrPermission,
    );
  }
}

async function connectToService(socket: string | undefined): Promise<MountDelegationClient> {
  try {
    return await connect(socket);
  } catch (error) {
    throw new CommandError(explainError(error), systemFailure);
  }
}

function openDirectory(directory: string): OwnedFd {
  try {
    return openFile(directory, { pathOnly: true, directory: true });
  } catch (error) {
    throw new CommandError(`${directory}: ${fileErrorReason(error) ?? explainError(error)}`, mountFailure);
  }
}

function mountedImage(directory: string, proc: OwnedFd): Digest | undefined {
  const mount = findMountAt(directory, proc);
  return mount === undefined ? undefined : imageOfMount(mount);
}

function asMountError(image: string, error: unknown): CommandError {
  if (error instanceof CommandError) return error;
  const denied = error instanceof VarlinkError && error.name === 'org.varlink.service.PermissionDenied';
  return new CommandError(`${image}: ${explainError(error)}`, denied ? usageOrPermission : mountFailure);
}
