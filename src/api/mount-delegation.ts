// Generated from io.cfsmountd.MountDelegation.varlink by varlink-generate: change that file and generate this one anew.

import type { Answer, Client } from '../varlink/client.ts';
import { VarlinkError } from '../varlink/error.ts';
import { parseInterface } from '../varlink/idl.ts';
import type { Interface } from '../varlink/interface.ts';
import type { JsonObject } from '../varlink/json.ts';
import type { TypedHandler } from '../varlink/server.ts';
import { callMethod } from '../varlink/typed-call.ts';

/** The description of io.cfsmountd.MountDelegation, as services tell it. */
export const mountDelegationText = `# Delegated mounting of signed filesystem images.
#
# A client hands over an immutable image, or names one that the administrator installed. The service
# verifies its signature against the administrator's policy, mounts it, and answers with the mount as
# a file descriptor that is attached nowhere yet; the client attaches it with move_mount(2) wherever
# it may.
#
# File descriptors travel as SCM_RIGHTS beside the message. A field called *FileDescriptor holds an
# index, from 0, into the descriptors of that same message.
#
# A call whose parameters do not fit this description, contradict each other or name a descriptor that did
# not come along gets org.varlink.service.InvalidParameter with the field's name. The service refuses
# parameters that it does not know; clients ignore fields of replies and take errors that they do not know,
# so that this interface can grow.
interface io.cfsmountd.MountDelegation

# The image to mount: exactly one of the two fields is given.
type Image (
  # Index of a readable descriptor of an immutable regular file: one with fs-verity enabled on a local
  # filesystem, or a memfd sealed against writing, growing and shrinking.
  fileDescriptor: ?int,
  # An image in one of the policy's image directories: its path there without the suffix (.cfs, .erofs,
  # .squashfs, .raw), the first directory that has it winning, or its digest ("sha256:<hex>"). FILE.sig beside
  # it is its signature; where the two do not fit together, both are opened once more. This is not the signed
  # name, which the policy's rules match. Path and signed name are at most 255 bytes of segments of
  # [A-Za-z0-9._@+-] joined by "/", none of them "." or ".."; signed names may hold ":" too. New and
  # replaced files are seen without a reload.
  name: ?string
)

# How files of the image are checked when they are opened. require: each, by the kernel's fs-verity;
# ifPresent: in stores where the kernel can, while stores that only root can write will do without; never: not at
# all. The policy may demand more than the client asks for, and never grants less than it demands.
type Verity (require, ifPresent, never)

# Whose user and group IDs the mount shows: the image's own, the image's as seen from the caller's
# user namespace, or as seen from the user namespace in userNamespaceFileDescriptor.
type IdMap (none, caller, userNamespace)

# Who vouched for an image, and for what.
type Evidence (
  # fs-verity digest of the image (4096-byte blocks, no salt), "sha256:<hex>".
  digest: string,
  # What the signers call the image, and the version they gave it; absent for an unsigned image.
  name: ?string,
  version: ?int,
  # IDs of the trusted keys that signed, in the policy's order.
  signers: []string,
  # Name of the policy rule that decided.
  rule: string
)

# Verify an image and mount it.
method Mount(
  image: Image,
  # composefs, erofs, squashfs, ext4, xfs, btrfs or ddi. Left out, what the signature states, else composefs;
  # given, it must be what the signature states.
  fileSystem: ?string,
  # The digest that the image must have, "sha256:<hex>".
  digest: ?string,
  # Detached signatures, each the base64 of a signature file's bytes.
  signatures: ?[]string,
  # Without it, rules that let unsigned images in are passed over.
  allowUnsigned: ?bool,
  # Where a composefs image finds its files: names of the policy's stores, and directories. With neither,
  # the stores of the rule that lets the image in. A directory that is (by device and inode) one of the
  # policy's stores counts as that store.
  stores: ?[]string,
  storeFileDescriptors: ?[]int,
  # Left out, the rule's level.
  verity: ?Verity,
  # none unless given.
  idMap: ?IdMap,
  userNamespaceFileDescriptor: ?int,
  # Attributes beyond those that the policy sets: ro, nosuid, nodev, noexec, noatime, nosymfollow.
  attributes: ?[]string
) -> (
  mountFileDescriptor: int,
  evidence: Evidence,
  # The attributes that the mount has; the receiver cannot clear nosuid, nodev, noexec or ro.
  attributes: []string
)

# Decide as Mount would, and mount nothing.
method Verify(
  image: Image,
  fileSystem: ?string,
  digest: ?string,
  signatures: ?[]string,
  allowUnsigned: ?bool,
  stores: ?[]string,
  storeFileDescriptors: ?[]int,
  verity: ?Verity
) -> (evidence: Evidence)

# Decide as Mount would, and add files that the image needs to a store of the policy, where the rule that decides lets its
# callers do so (add-objects). Each is copied, and kept if the copy is a file of this image by its digest; it appears in
# the store whole or not at all. Files are taken in their order: the first that is refused ends the call (BadFileDescriptor
# names it), and those before it stay. What a caller adds is counted for an hour (LimitExceeded, addedBytesPerUser).
method AddObjects(
  # As for Mount; and the digest ("sha256:<hex>") of an image that came as a descriptor with an earlier AddObjects of this
  # connection stands for that image, until ImageNotFound asks for the descriptor again.
  image: Image,
  digest: ?string,
  signatures: ?[]string,
  allowUnsigned: ?bool,
  # One of the policy's stores. Left out, the first one of the rule's add-objects.
  store: ?string,
  # Each the whole of a file: readable descriptors of regular files, which may change at any time: what counts is the copy.
  objectFileDescriptors: ?[]int,
  # Where in the image's list of files the search for missing ones begins: 0 unless given, or an earlier missingNext.
  missingFrom: ?int,
  # How many missing files are to be listed, at most and unless given 1024; 0 looks for none.
  missingMost: ?int
) -> (
  evidence: Evidence,
  # The store's name.
  store: string,
  # What the store did not have before, as ObjectsMissing lists files: by their digest, "ab/cdef…".
  added: []string,
  # Files of the image that the store does not have now.
  missing: []string,
  # Where the search ended for now; absent where it came to the end of the image's list.
  missingNext: ?int
)

# What this service can do here: kernel features found, filesystems, the limits and the policy in force.
# digest changes with any byte of the policy; lastError is why the newest policy on disk could not be loaded.
# confinement: the capabilities that the service has, and what else fences it in (noNewPrivileges, undumpable, seccomp).
method Describe() -> (
  version: string,
  kernel: [string]bool,
  fileSystems: []string,
  limits: [string]int,
  confinement: ?(capabilities: []string, fences: []string),
  policy: (digest: string, loadedAt: string, lastError: ?string)
)

# Read the policy anew, all or nothing (root only). Answers with the mounts still in use, as far as known, that
# the new policy would refuse.
method Reload() -> (policyDigest: string, refusedNow: []Evidence)
error PolicyInvalid (file: string, line: int, reason: string)

# A mount that is kept, so that later requests for the same image get clones of it.
type KeptMount (
  digest: string,
  # Whose mounts share it; left out, everyone's.
  user: ?int,
  # It is the EROFS layer below the mounts of a composefs image.
  layer: bool,
  # How long ago it was asked for last.
  unusedMilliseconds: int
)

# What is kept, that used longest ago first (root only).
method KeptMounts() -> (mounts: []KeptMount)

# Keep the mounts of one image no longer, or those of all (root only). It answers how many those were. What was
# handed out lives on.
method Drop(digest: ?string) -> (dropped: int)

# The descriptor is not readable, not a regular file, or of a kind that this field does not take.
error BadFileDescriptor (field: string, reason: string)
# The image can still be changed: it has no fs-verity and is no sealed memfd.
error ImageNotImmutable (reason: string)
error ImageNotFound (name: string)
# Not an image of the filesystem named, damaged, or holding what the policy does not let in.
error IncompatibleImage (reason: string)
# The image is not the one that digest names.
error DigestMismatch (expected: string, found: string)
# Where an error has a reason beside other fields, it is the sentence that the audit line and \`cfs-mountctl verify\` have too.
error NotSigned (digest: string, reason: ?string)
# No signature on the image verifies: it is malformed, or does not match the image.
error SignatureInvalid (reason: string)
# The signatures are sound, but too few of them are by keys that the policy trusts for this image.
error KeyNotTrusted (keyIds: []string, reason: ?string)
# The statement or the key is not yet, or no longer, valid.
error Expired (what: string, at: string, reason: ?string)
# A newer version of this image has been mounted here already.
error RolledBack (name: string, version: int, newest: int, reason: ?string)
# No rule lets this caller mount this image in this way.
error DeniedByPolicy (reason: string)
# Files that the image needs are in none of its stores, or lack fs-verity in a store that requires it; at most the
# first 64 are listed. Looked at when image and stores meet for the first time; a file that goes later is an error
# when it is opened.
error ObjectsMissing (count: int, objects: []string, reason: string)
error StoreNotFound (name: string, reason: ?string)
# This kernel cannot do what was asked, at the level that the policy demands.
error KernelUnsupported (feature: string)
# The caller holds or asks for too much at once.
error LimitExceeded (limit: string, value: int)
# The request took longer than the service allows.
error TimedOut (milliseconds: int)
# The kernel refused a step.
error SystemError (call: string, errno: string, detail: string)
`;

/**
 * Delegated mounting of signed filesystem images.
 *
 * A client hands over an immutable image, or names one that the administrator installed. The service
 * verifies its signature against the administrator's policy, mounts it, and answers with the mount as
 * a file descriptor that is attached nowhere yet; the client attaches it with move_mount(2) wherever
 * it may.
 *
 * File descriptors travel as SCM_RIGHTS beside the message. A field called *FileDescriptor holds an
 * index, from 0, into the descriptors of that same message.
 *
 * A call whose parameters do not fit this description, contradict each other or name a descriptor that did
 * not come along gets org.varlink.service.InvalidParameter with the field's name. The service refuses
 * parameters that it does not know; clients ignore fields of replies and take errors that they do not know,
 * so that this interface can grow.
 */
export const mountDelegation: Interface = parseInterface(mountDelegationText);

/** The image to mount: exactly one of the two fields is given. */
export type Image = {
  /**
   * Index of a readable descriptor of an immutable regular file: one with fs-verity enabled on a local
   * filesystem, or a memfd sealed against writing, growing and shrinking.
   */
  readonly fileDescriptor?: number;
  /**
   * An image in one of the policy's image directories: its path there without the suffix (.cfs, .erofs,
   * .squashfs, .raw), the first directory that has it winning, or its digest ("sha256:<hex>"). FILE.sig beside
   * it is its signature; where the two do not fit together, both are opened once more. This is not the signed
   * name, which the policy's rules match. Path and signed name are at most 255 bytes of segments of
   * [A-Za-z0-9._@+-] joined by "/", none of them "." or ".."; signed names may hold ":" too. New and
   * replaced files are seen without a reload.
   */
  readonly name?: string;
};

/**
 * How files of the image are checked when they are opened. require: each, by the kernel's fs-verity;
 * ifPresent: in stores where the kernel can, while stores that only root can write will do without; never: not at
 * all. The policy may demand more than the client asks for, and never grants less than it demands.
 */
export type Verity = 'require' | 'ifPresent' | 'never';

/**
 * Whose user and group IDs the mount shows: the image's own, the image's as seen from the caller's
 * user namespace, or as seen from the user namespace in userNamespaceFileDescriptor.
 */
export type IdMap = 'none' | 'caller' | 'userNamespace';

/** Who vouched for an image, and for what. */
export type Evidence = {
  /** fs-verity digest of the image (4096-byte blocks, no salt), "sha256:<hex>". */
  readonly digest: string;
  /** What the signers call the image, and the version they gave it; absent for an unsigned image. */
  readonly name?: string;
  readonly version?: number;
  /** IDs of the trusted keys that signed, in the policy's order. */
  readonly signers: readonly string[];
  /** Name of the policy rule that decided. */
  readonly rule: string;
};

/** What Mount takes. */
export type MountParameters = {
  readonly image: Image;
  /**
   * composefs, erofs, squashfs, ext4, xfs, btrfs or ddi. Left out, what the signature states, else composefs;
   * given, it must be what the signature states.
   */
  readonly fileSystem?: string;
  /** The digest that the image must have, "sha256:<hex>". */
  readonly digest?: string;
  /** Detached signatures, each the base64 of a signature file's bytes. */
  readonly signatures?: readonly string[];
  /** Without it, rules that let unsigned images in are passed over. */
  readonly allowUnsigned?: boolean;
  /**
   * Where a composefs image finds its files: names of the policy's stores, and directories. With neither,
   * the stores of the rule that lets the image in. A directory that is (by device and inode) one of the
   * policy's stores counts as that store.
   */
  readonly stores?: readonly string[];
  readonly storeFileDescriptors?: readonly number[];
  /** Left out, the rule's level. */
  readonly verity?: Verity;
  /** none unless given. */
  readonly idMap?: IdMap;
  readonly userNamespaceFileDescriptor?: number;
  /** Attributes beyond those that the policy sets: ro, nosuid, nodev, noexec, noatime, nosymfollow. */
  readonly attributes?: readonly string[];
};

/** What Mount answers. */
export type MountReply = {
  readonly mountFileDescriptor: number;
  readonly evidence: Evidence;
  /** The attributes that the mount has; the receiver cannot clear nosuid, nodev, noexec or ro. */
  readonly attributes: readonly string[];
};

/** What Verify takes. */
export type VerifyParameters = {
  readonly image: Image;
  readonly fileSystem?: string;
  readonly digest?: string;
  readonly signatures?: readonly string[];
  readonly allowUnsigned?: boolean;
  readonly stores?: readonly string[];
  readonly storeFileDescriptors?: readonly number[];
  readonly verity?: Verity;
};

/** What Verify answers. */
export type VerifyReply = {
  readonly evidence: Evidence;
};

/** What AddObjects takes. */
export type AddObjectsParameters = {
  /**
   * As for Mount; and the digest ("sha256:<hex>") of an image that came as a descriptor with an earlier AddObjects of this
   * connection stands for that image, until ImageNotFound asks for the descriptor again.
   */
  readonly image: Image;
  readonly digest?: string;
  readonly signatures?: readonly string[];
  readonly allowUnsigned?: boolean;
  /** One of the policy's stores. Left out, the first one of the rule's add-objects. */
  readonly store?: string;
  /** Each the whole of a file: readable descriptors of regular files, which may change at any time: what counts is the copy. */
  readonly objectFileDescriptors?: readonly number[];
  /** Where in the image's list of files the search for missing ones begins: 0 unless given, or an earlier missingNext. */
  readonly missingFrom?: number;
  /** How many missing files are to be listed, at most and unless given 1024; 0 looks for none. */
  readonly missingMost?: number;
};

/** What AddObjects answers. */
export type AddObjectsReply = {
  readonly evidence: Evidence;
  /** The store's name. */
  readonly store: string;
  /** What the store did not have before, as ObjectsMissing lists files: by their digest, "ab/cdef…". */
  readonly added: readonly string[];
  /** Files of the image that the store does not have now. */
  readonly missing: readonly string[];
  /** Where the search ended for now; absent where it came to the end of the image's list. */
  readonly missingNext?: number;
};

/** What Describe takes. */
export type DescribeParameters = Readonly<Record<string, never>>;

/** What Describe answers. */
export type DescribeReply = {
  readonly version: string;
  readonly kernel: Readonly<Record<string, boolean>>;
  readonly fileSystems: readonly string[];
  readonly limits: Readonly<Record<string, number>>;
  readonly confinement?: {
    readonly capabilities: readonly string[];
    readonly fences: readonly string[];
  };
  readonly policy: {
    readonly digest: string;
    readonly loadedAt: string;
    readonly lastError?: string;
  };
};

/** What Reload takes. */
export type ReloadParameters = Readonly<Record<string, never>>;

/** What Reload answers. */
export type ReloadReply = {
  readonly policyDigest: string;
  readonly refusedNow: readonly Evidence[];
};

/** A mount that is kept, so that later requests for the same image get clones of it. */
export type KeptMount = {
  readonly digest: string;
  /** Whose mounts share it; left out, everyone's. */
  readonly user?: number;
  /** It is the EROFS layer below the mounts of a composefs image. */
  readonly layer: boolean;
  /** How long ago it was asked for last. */
  readonly unusedMilliseconds: number;
};

/** What KeptMounts takes. */
export type KeptMountsParameters = Readonly<Record<string, never>>;

/** What KeptMounts answers. */
export type KeptMountsReply = {
  readonly mounts: readonly KeptMount[];
};

/** What Drop takes. */
export type DropParameters = {
  readonly digest?: string;
};

/** What Drop answers. */
export type DropReply = {
  readonly dropped: number;
};

/** What a service of io.cfsmountd.MountDelegation answers its methods with. */
export type MountDelegationMethods<Context> = {
  /** Verify an image and mount it. */
  readonly Mount: TypedHandler<Context, MountParameters, MountReply>;
  /** Decide as Mount would, and mount nothing. */
  readonly Verify: TypedHandler<Context, VerifyParameters, VerifyReply>;
  /**
   * Decide as Mount would, and add files that the image needs to a store of the policy, where the rule that decides lets its
   * callers do so (add-objects). Each is copied, and kept if the copy is a file of this image by its digest; it appears in
   * the store whole or not at all. Files are taken in their order: the first that is refused ends the call (BadFileDescriptor
   * names it), and those before it stay. What a caller adds is counted for an hour (LimitExceeded, addedBytesPerUser).
   */
  readonly AddObjects: TypedHandler<Context, AddObjectsParameters, AddObjectsReply>;
  /**
   * What this service can do here: kernel features found, filesystems, the limits and the policy in force.
   * digest changes with any byte of the policy; lastError is why the newest policy on disk could not be loaded.
   * confinement: the capabilities that the service has, and what else fences it in (noNewPrivileges, undumpable, seccomp).
   */
  readonly Describe: TypedHandler<Context, DescribeParameters, DescribeReply>;
  /**
   * Read the policy anew, all or nothing (root only). Answers with the mounts still in use, as far as known, that
   * the new policy would refuse.
   */
  readonly Reload: TypedHandler<Context, ReloadParameters, ReloadReply>;
  /** What is kept, that used longest ago first (root only). */
  readonly KeptMounts: TypedHandler<Context, KeptMountsParameters, KeptMountsReply>;
  /**
   * Keep the mounts of one image no longer, or those of all (root only). It answers how many those were. What was
   * handed out lives on.
   */
  readonly Drop: TypedHandler<Context, DropParameters, DropReply>;
};

type PolicyInvalidParameters = {
  readonly file: string;
  readonly line: number;
  readonly reason: string;
};

/** The error io.cfsmountd.MountDelegation.PolicyInvalid. */
export class PolicyInvalid extends VarlinkError {
  override readonly parameters: PolicyInvalidParameters;

  constructor(parameters: PolicyInvalidParameters) {
    super('io.cfsmountd.MountDelegation.PolicyInvalid', parameters);
    this.parameters = parameters;
  }
}

type BadFileDescriptorParameters = {
  readonly field: string;
  readonly reason: string;
};

/** The descriptor is not readable, not a regular file, or of a kind that this field does not take. */
export class BadFileDescriptor extends VarlinkError {
  override readonly parameters: BadFileDescriptorParameters;

  constructor(parameters: BadFileDescriptorParameters) {
    super('io.cfsmountd.MountDelegation.BadFileDescriptor', parameters);
    this.parameters = parameters;
  }
}

type ImageNotImmutableParameters = {
  readonly reason: string;
};

/** The image can still be changed: it has no fs-verity and is no sealed memfd. */
export class ImageNotImmutable extends VarlinkError {
  override readonly parameters: ImageNotImmutableParameters;

  constructor(parameters: ImageNotImmutableParameters) {
    super('io.cfsmountd.MountDelegation.ImageNotImmutable', parameters);
    this.parameters = parameters;
  }
}

type ImageNotFoundParameters = {
  readonly name: string;
};

/** The error io.cfsmountd.MountDelegation.ImageNotFound. */
export class ImageNotFound extends VarlinkError {
  override readonly parameters: ImageNotFoundParameters;

  constructor(parameters: ImageNotFoundParameters) {
    super('io.cfsmountd.MountDelegation.ImageNotFound', parameters);
    this.parameters = parameters;
  }
}

type IncompatibleImageParameters = {
  readonly reason: string;
};

/** Not an image of the filesystem named, damaged, or holding what the policy does not let in. */
export class IncompatibleImage extends VarlinkError {
  override readonly parameters: IncompatibleImageParameters;

  constructor(parameters: IncompatibleImageParameters) {
    super('io.cfsmountd.MountDelegation.IncompatibleImage', parameters);
    this.parameters = parameters;
  }
}

type DigestMismatchParameters = {
  readonly expected: string;
  readonly found: string;
};

/** The image is not the one that digest names. */
export class DigestMismatch extends VarlinkError {
  override readonly parameters: DigestMismatchParameters;

  constructor(parameters: DigestMismatchParameters) {
    super('io.cfsmountd.MountDelegation.DigestMismatch', parameters);
    this.parameters = parameters;
  }
}

type NotSignedParameters = {
  readonly digest: string;
  readonly reason?: string;
};

/** Where an error has a reason beside other fields, it is the sentence that the audit line and `cfs-mountctl verify` have too. */
export class NotSigned extends VarlinkError {
  override readonly parameters: NotSignedParameters;

  constructor(parameters: NotSignedParameters) {
    super('io.cfsmountd.MountDelegation.NotSigned', parameters);
    this.parameters = parameters;
  }
}

type SignatureInvalidParameters = {
  readonly reason: string;
};

/** No signature on the image verifies: it is malformed, or does not match the image. */
export class SignatureInvalid extends VarlinkError {
  override readonly parameters: SignatureInvalidParameters;

  constructor(parameters: SignatureInvalidParameters) {
    super('io.cfsmountd.MountDelegation.SignatureInvalid', parameters);
    this.parameters = parameters;
  }
}

type KeyNotTrustedParameters = {
  readonly keyIds: readonly string[];
  readonly reason?: string;
};

/** The signatures are sound, but too few of them are by keys that the policy trusts for this image. */
export class KeyNotTrusted extends VarlinkError {
  override readonly parameters: KeyNotTrustedParameters;

  constructor(parameters: KeyNotTrustedParameters) {
    super('io.cfsmountd.MountDelegation.KeyNotTrusted', parameters);
    this.parameters = parameters;
  }
}

type ExpiredParameters = {
  readonly what: string;
  readonly at: string;
  readonly reason?: string;
};

/** The statement or the key is not yet, or no longer, valid. */
export class Expired extends VarlinkError {
  override readonly parameters: ExpiredParameters;

  constructor(parameters: ExpiredParameters) {
    super('io.cfsmountd.MountDelegation.Expired', parameters);
    this.parameters = parameters;
  }
}

type RolledBackParameters = {
  readonly name: string;
  readonly version: number;
  readonly newest: number;
  readonly reason?: string;
};

/** A newer version of this image has been mounted here already. */
export class RolledBack extends VarlinkError {
  override readonly parameters: RolledBackParameters;

  constructor(parameters: RolledBackParameters) {
    super('io.cfsmountd.MountDelegation.RolledBack', parameters);
    this.parameters = parameters;
  }
}

type DeniedByPolicyParameters = {
  readonly reason: string;
};

/** No rule lets this caller mount this image in this way. */
export class DeniedByPolicy extends VarlinkError {
  override readonly parameters: DeniedByPolicyParameters;

  constructor(parameters: DeniedByPolicyParameters) {
    super('io.cfsmountd.MountDelegation.DeniedByPolicy', parameters);
    this.parameters = parameters;
  }
}

type ObjectsMissingParameters = {
  readonly count: number;
  readonly objects: readonly string[];
  readonly reason: string;
};

/**
 * Files that the image needs are in none of its stores, or lack fs-verity in a store that requires it; at most the
 * first 64 are listed. Looked at when image and stores meet for the first time; a file that goes later is an error
 * when it is opened.
 */
export class ObjectsMissing extends VarlinkError {
  override readonly parameters: ObjectsMissingParameters;

  constructor(parameters: ObjectsMissingParameters) {
    super('io.cfsmountd.MountDelegation.ObjectsMissing', parameters);
    this.parameters = parameters;
  }
}

type StoreNotFoundParameters = {
  readonly name: string;
  readonly reason?: string;
};

/** The error io.cfsmountd.MountDelegation.StoreNotFound. */
export class StoreNotFound extends VarlinkError {
  override readonly parameters: StoreNotFoundParameters;

  constructor(parameters: StoreNotFoundParameters) {
    super('io.cfsmountd.MountDelegation.StoreNotFound', parameters);
    this.parameters = parameters;
  }
}

type KernelUnsupportedParameters = {
  readonly feature: string;
};

/** This kernel cannot do what was asked, at the level that the policy demands. */
export class KernelUnsupported extends VarlinkError {
  override readonly parameters: KernelUnsupportedParameters;

  constructor(parameters: KernelUnsupportedParameters) {
    super('io.cfsmountd.MountDelegation.KernelUnsupported', parameters);
    this.parameters = parameters;
  }
}

type LimitExceededParameters = {
  readonly limit: string;
  readonly value: number;
};

/** The caller holds or asks for too much at once. */
export class LimitExceeded extends VarlinkError {
  override readonly parameters: LimitExceededParameters;

  constructor(parameters: LimitExceededParameters) {
    super('io.cfsmountd.MountDelegation.LimitExceeded', parameters);
    this.parameters = parameters;
  }
}

type TimedOutParameters = {
  readonly milliseconds: number;
};

/** The request took longer than the service allows. */
export class TimedOut extends VarlinkError {
  override readonly parameters: TimedOutParameters;

  constructor(parameters: TimedOutParameters) {
    super('io.cfsmountd.MountDelegation.TimedOut', parameters);
    this.parameters = parameters;
  }
}

type SystemErrorParameters = {
  readonly call: string;
  readonly errno: string;
  readonly detail: string;
};

/** The kernel refused a step. */
export class SystemError extends VarlinkError {
  override readonly parameters: SystemErrorParameters;

  constructor(parameters: SystemErrorParameters) {
    super('io.cfsmountd.MountDelegation.SystemError', parameters);
    this.parameters = parameters;
  }
}

// Makes the errors of io.cfsmountd.MountDelegation from parameters that fit its description.
const errors: Readonly<Record<string, (parameters: JsonObject) => VarlinkError>> = {
  PolicyInvalid: (parameters) => new PolicyInvalid(parameters as PolicyInvalidParameters),
  BadFileDescriptor: (parameters) => new BadFileDescriptor(parameters as BadFileDescriptorParameters),
  ImageNotImmutable: (parameters) => new ImageNotImmutable(parameters as ImageNotImmutableParameters),
  ImageNotFound: (parameters) => new ImageNotFound(parameters as ImageNotFoundParameters),
  IncompatibleImage: (parameters) => new IncompatibleImage(parameters as IncompatibleImageParameters),
  DigestMismatch: (parameters) => new DigestMismatch(parameters as DigestMismatchParameters),
  NotSigned: (parameters) => new NotSigned(parameters as NotSignedParameters),
  SignatureInvalid: (parameters) => new SignatureInvalid(parameters as SignatureInvalidParameters),
  KeyNotTrusted: (parameters) => new KeyNotTrusted(parameters as KeyNotTrustedParameters),
  Expired: (parameters) => new Expired(parameters as ExpiredParameters),
  RolledBack: (parameters) => new RolledBack(parameters as RolledBackParameters),
  DeniedByPolicy: (parameters) => new DeniedByPolicy(parameters as DeniedByPolicyParameters),
  ObjectsMissing: (parameters) => new ObjectsMissing(parameters as ObjectsMissingParameters),
  StoreNotFound: (parameters) => new StoreNotFound(parameters as StoreNotFoundParameters),
  KernelUnsupported: (parameters) => new KernelUnsupported(parameters as KernelUnsupportedParameters),
  LimitExceeded: (parameters) => new LimitExceeded(parameters as LimitExceededParameters),
  TimedOut: (parameters) => new TimedOut(parameters as TimedOutParameters),
  SystemError: (parameters) => new SystemError(parameters as SystemErrorParameters),
};

/**
 * Calls the methods of io.cfsmountd.MountDelegation. They reject with the classes of its errors, VarlinkError for
 * errors that this version does not know, and as Client's `call` otherwise. Descriptors in `fds` stay the caller's.
 */
export class MountDelegationClient {
  readonly #client: Client;

  constructor(client: Client) {
    this.#client = client;
  }

  /** Verify an image and mount it. */
  async mount(parameters: MountParameters, fds: readonly number[] = []): Promise<Answer<MountReply>> {
    const answer = await callMethod(this.#client, mountDelegation, 'Mount', parameters, fds, errors);
    return answer as Answer<MountReply>;
  }

  /** Decide as Mount would, and mount nothing. */
  async verify(parameters: VerifyParameters, fds: readonly number[] = []): Promise<Answer<VerifyReply>> {
    const answer = await callMethod(this.#client, mountDelegation, 'Verify', parameters, fds, errors);
    return answer as Answer<VerifyReply>;
  }

  /**
   * Decide as Mount would, and add files that the image needs to a store of the policy, where the rule that decides lets its
   * callers do so (add-objects). Each is copied, and kept if the copy is a file of this image by its digest; it appears in
   * the store whole or not at all. Files are taken in their order: the first that is refused ends the call (BadFileDescriptor
   * names it), and those before it stay. What a caller adds is counted for an hour (LimitExceeded, addedBytesPerUser).
   */
  async addObjects(
    parameters: AddObjectsParameters,
    fds: readonly number[] = [],
  ): Promise<Answer<AddObjectsReply>> {
    const answer = await callMethod(this.#client, mountDelegation, 'AddObjects', parameters, fds, errors);
    return answer as Answer<AddObjectsReply>;
  }

  /**
   * What this service can do here: kernel features found, filesystems, the limits and the policy in force.
   * digest changes with any byte of the policy; lastError is why the newest policy on disk could not be loaded.
   * confinement: the capabilities that the service has, and what else fences it in (noNewPrivileges, undumpable, seccomp).
   */
  async describe(): Promise<Answer<DescribeReply>> {
    const answer = await callMethod(this.#client, mountDelegation, 'Describe', {}, [], errors);
    return answer as Answer<DescribeReply>;
  }

  /**
   * Read the policy anew, all or nothing (root only). Answers with the mounts still in use, as far as known, that
   * the new policy would refuse.
   */
  async reload(): Promise<Answer<ReloadReply>> {
    const answer = await callMethod(this.#client, mountDelegation, 'Reload', {}, [], errors);
    return answer as Answer<ReloadReply>;
  }

  /** What is kept, that used longest ago first (root only). */
  async keptMounts(): Promise<Answer<KeptMountsReply>> {
    const answer = await callMethod(this.#client, mountDelegation, 'KeptMounts', {}, [], errors);
    return answer as Answer<KeptMountsReply>;
  }

  /**
   * Keep the mounts of one image no longer, or those of all (root only). It answers how many those were. What was
   * handed out lives on.
   */
  async drop(parameters: DropParameters, fds: readonly number[] = []): Promise<Answer<DropReply>> {
    const answer = await callMethod(this.#client, mountDelegation, 'Drop', parameters, fds, errors);
    return answer as Answer<DropReply>;
  }
}
