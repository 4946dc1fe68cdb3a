import type {
  AddObjectsReply,
  DescribeReply,
  Evidence,
  KeptMount,
  ReloadReply,
} from '../api/mount-delegation.ts';
import { MountDelegationClient as Methods } from '../api/mount-delegation.ts';
import { isSyscallError } from '../sys/errno.ts';
import { closeFd, OwnedFd } from '../sys/fd.ts';
import { moveMount, moveMountOnto } from '../sys/mount-calls.ts';
import { connectUnix } from '../sys/socket.ts';
import { Client } from '../varlink/client.ts';
import { ProtocolError } from '../varlink/error.ts';
import type { AddObjectsOptions, MountOptions, VerifyOptions } from './options.ts';
import { checkOptions } from './options.ts';
import { addObjectsRequest, mountRequest, verifyRequest } from './request.ts';
import { ServiceUnreachable } from './service-unreachable.ts';
import { SocketTransport } from './socket-transport.ts';

/** Where the service listens unless told otherwise. */
export const defaultSocketPath = '/run/cfs-mountd/io.cfsmountd.MountDelegation';

/** A mount that the service has made; attached nowhere yet. */
export interface DelegatedMount {
  /** The descriptor of the mount, the caller's to close: attachMount attaches it; closed without that, it is gone. */
  readonly mount: OwnedFd;
  readonly evidence: Evidence;
  /** The attributes that the mount has. */
  readonly attributes: readonly string[];
}

/**
 * A connection to cfs-mountd. Calls may be made while others are under way; they are answered in turn. It keeps the
 * process alive until close(). What the service refuses is thrown as the error class of that name (`NotSigned`, …), each
 * a VarlinkError; explainError makes a sentence of it.
 */
export class MountDelegationClient implements Disposable {
  readonly #client: Client;
  readonly #methods: Methods;

  /** Takes over the connection; connect() makes it. */
  constructor(client: Client) {
    this.#client = client;
    this.#methods = new Methods(client);
  }

  /**
   * Has an image verified and mounted. A file that could change is copied into a sealed memfd first. Throws TypeError for
   * options that are wrong, SyscallError or RangeError for files that cannot be used, VarlinkError for what the service
   * refuses.
   */
  async mount(options: MountOptions): Promise<DelegatedMount> {
    checkOptions('mount', options);
    using request = mountRequest(options);
    const { parameters, fds } = await this.#methods.mount(request.parameters, numbers(request.fds));
    const mount = takeOne(fds, parameters.mountFileDescriptor);
    return { mount, evidence: parameters.evidence, attributes: parameters.attributes };
  }

  /** Asks for the decision that mount() would get, and mounts nothing. Throws as mount() does. */
  async verify(options: VerifyOptions): Promise<Evidence> {
    checkOptions('verify', options);
    using request = verifyRequest(options);
    const { parameters, fds } = await this.#methods.verify(request.parameters, numbers(request.fds));
    fds.forEach(closeFd);
    return parameters.evidence;
  }

  /**
   * Adds files of an image to one of the policy's stores, where the rule that lets the image in lets this caller; uploadObjects
   * does it for a whole image. Throws as mount() does; BadFileDescriptor names the file that was refused by its place
   * (`objectFileDescriptors[2]`), and those before it were added.
   */
  async addObjects(options: AddObjectsOptions): Promise<AddObjectsReply> {
    checkOptions('addObjects', options);
    using request = addObjectsRequest(options);
    const { parameters, fds } = await this.#methods.addObjects(request.parameters, numbers(request.fds));
    fds.forEach(closeFd);
    return parameters;
  }

  /** What the service can do on this machine, its limits, and the policy in force. */
  async describe(): Promise<DescribeReply> {
    const { parameters, fds } = await this.#methods.describe();
    fds.forEach(closeFd);
    return parameters;
  }

  /** Makes the service read its policy anew. Throws PermissionDenied unless the caller is root, PolicyInvalid. */
  async reload(): Promise<ReloadReply> {
    const { parameters, fds } = await this.#methods.reload();
    fds.forEach(closeFd);
    return parameters;
  }

  /** What the service keeps to be cloned, that used longest ago first. Throws PermissionDenied unless the caller is root. */
  async keptMounts(): Promise<readonly KeptMount[]> {
    const { parameters, fds } = await this.#methods.keptMounts();
    fds.forEach(closeFd);
    return parameters.mounts;
  }

  /**
   * Makes the service keep the mounts of the image `digest` no longer, or those of all images, and answers how many they
   * were. What was handed out lives on. Throws PermissionDenied unless the caller is root.
   */
  async drop(digest?: string): Promise<number> {
    const { parameters, fds } = await this.#methods.drop(digest === undefined ? {} : { digest });
    fds.forEach(closeFd);
    return parameters.dropped;
  }

  /** Ends the connection; calls under way are rejected. Mounts that were received live on. */
  close(): void {
    this.#client.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/** Connects to the service at `socketPath`. Throws ServiceUnreachable, TypeError for what is no path. */
export function connect(socketPath: string = defaultSocketPath): Promise<MountDelegationClient> {
  // Connecting to a Unix socket does not wait; what it throws becomes a rejection here.
  return new Promise((resolve) => {
    checkSocketPath(socketPath);
    resolve(new MountDelegationClient(new Client(new SocketTransport(open(socketPath)))));
  });
}

function numbers(fds: readonly OwnedFd[]): number[] {
  return fds.map((fd) => fd.number);
}

/** The descriptor with that index; the others, which nobody asked for, are closed. Throws ProtocolError. */
function takeOne(fds: readonly number[], index: number): OwnedFd {
  fds.filter((_, other) => other !== index).forEach(closeFd);
  const fd = fds[index];
  if (fd === undefined)
    throw new ProtocolError(`the reply names descriptor ${index}, which did not come along`);
  return new OwnedFd(fd);
}

/** Of programs in plain JavaScript, which have no compiler to say so. */
function checkSocketPath(socketPath: unknown): void {
  if (typeof socketPath === 'string' && socketPath !== '') return;
  throw new TypeError('connect: the path of the socket must be a text that is not empty');
}

function open(socketPath: string): OwnedFd {
  try {
    return connectUnix(socketPath);
  } catch (error) {
    if (isSyscallError(error)) throw new ServiceUnreachable(socketPath, error.code);
    throw error;
  }
}

/**
 * Attaches a mount at `target`, a path or an open descriptor of a directory (move_mount(2)). The caller must be root of
 * the user namespace that its mount namespace belongs to. Throws SyscallError, EPERM without that.
 */
export function attachMount(mount: OwnedFd, target: string | number): void {
  if (typeof target === 'number') moveMountOnto(mount.number, target);
  else moveMount(mount.number, target);
}

export type { AddObjectsReply, DescribeReply, Evidence, KeptMount, ReloadReply };
export type { Attribute, VerityLevel } from '../policy/policy.ts';
export type { FileSystem } from '../trust/file-system.ts';
export type { AddObjectsOptions, ImageSource, MountOptions, StoreSource, VerifyOptions } from './options.ts';
export type { ImmutableImage } from './sealed-image.ts';
export { openImmutableImage } from './sealed-image.ts';
export type { FoundObject, UploadedObjects, UploadOptions } from './upload-objects.ts';
export { ObjectRefused, uploadObjects } from './upload-objects.ts';
export { explainError } from './explain-error.ts';
export { ServiceUnreachable } from './service-unreachable.ts';
export { SyscallError } from '../sys/errno.ts';
export { OwnedFd } from '../sys/fd.ts';
export { ProtocolError, VarlinkError } from '../varlink/error.ts';
export {
  BadFileDescriptor,
  DeniedByPolicy,
  DigestMismatch,
  Expired,
  ImageNotFound,
  ImageNotImmutable,
  IncompatibleImage,
  KernelUnsupported,
  KeyNotTrusted,
  LimitExceeded,
  NotSigned,
  ObjectsMissing,
  PolicyInvalid,
  RolledBack,
  SignatureInvalid,
  StoreNotFound,
  SystemError,
  TimedOut,
} from '../api/mount-delegation.ts';
