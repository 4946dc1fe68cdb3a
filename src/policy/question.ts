import type { Digest } from '../base/digest.ts';
import type { FileSystem } from '../trust/file-system.ts';
import type { Verification } from '../trust/verify.ts';
import type { Attribute, PolicyStore, Rule, VerityLevel } from './policy.ts';

/** Who asks, as the kernel says. */
export interface CallerIdentity {
  /** The user that counts: the creator of the outermost user namespace where the caller is inside one. */
  readonly uid: number;
  /** User 0 of the initial user namespace with CAP_SYS_ADMIN there. Without it, a uid of 0 is root of some container. */
  readonly root: boolean;
  /** Every group of the caller, supplementary ones too. */
  readonly gids: readonly number[];
}

/** What was found in the verified bytes of an image: by our own reader, or of others in their superblock. */
export interface ImageContents {
  readonly fileSystem: FileSystem;
  /** Undefined where nobody looked for them. */
  readonly devices: boolean | undefined;
  /** The first device node, where it has a path. */
  readonly devicePath?: string | undefined;
  /** Whether files have no digest by which fs-verity could check them. */
  readonly missingDigest: boolean;
}

/** What is asked of a policy: may this caller mount this image in this way, or add its files to a store? */
export interface Question {
  readonly caller: CallerIdentity;
  /** The image's measured digest. */
  readonly digest: Digest;
  /** The root hash by which dm-verity checks what is mounted of a disk image, where that was asked about (asksForRootHash). */
  readonly rootHash?: Digest | undefined;
  /** The image's path, links resolved, where the daemon itself opened it below an image directory. */
  readonly location?: string | undefined;
  /** The filesystem asked for. */
  readonly fileSystem?: FileSystem | undefined;
  /** What the signatures prove, of all the policy's keys. */
  readonly verification: Verification;
  /** Whether rules that let unsigned images in may apply. */
  readonly allowUnsigned: boolean;
  /** The level asked for. */
  readonly verity?: VerityLevel | undefined;
  /** Names of the policy's stores that were asked for, in order; neither these nor client stores: those of the rule. */
  readonly stores?: readonly string[] | undefined;
  /** Whether the client brought directories that are none of the policy's stores. */
  readonly clientStores: boolean;
  /**
   * Given where the caller would add files of the image to a store, and mount nothing: the store's name, or undefined for
   * the first one that the rule lets it add to. Stores and verity of a mount are not asked about then.
   */
  readonly addTo?: { readonly store: string | undefined } | undefined;
  /** What the image holds; undefined before it was scanned. */
  readonly contents?: ImageContents | undefined;
  readonly now: Date;
  /** The newest version mounted here under the rule and signed name, or undefined if none was. */
  newestVersion(rule: string, name: string): number | undefined;
}

/** Who vouched for an image, and for what: the interface's Evidence. */
export interface Evidence {
  readonly digest: Digest;
  /** What the signers call the image; undefined where the rule asks for no signature. */
  readonly name: string | undefined;
  readonly version: number | undefined;
  /** Policy IDs of the keys that counted, in the policy's order. */
  readonly signers: readonly string[];
  readonly rule: string;
}

/** Where files of an image may be added. */
export interface AddTarget {
  readonly store: PolicyStore;
  /** How many bytes the caller may add within an hour, where the rule says. */
  readonly bytesPerHour: number | undefined;
}

/** How an image that was let in has to be mounted. */
export interface Constraints {
  readonly fileSystem: FileSystem;
  /** Set on the mount, whatever else the request adds. */
  readonly attributes: readonly Attribute[];
  /** The effective level: the higher of the rule's and the request's; require wherever the client brings stores. */
  readonly verity: VerityLevel;
  /** The policy's stores to use, in order. */
  readonly stores: readonly PolicyStore[];
  /** Whether directories of the client's may be stores as well. */
  readonly clientStores: boolean;
  /** Whether dm-verity has to check what is mounted: those who vouch for it vouch for its root hash alone. */
  readonly rootHashOnly: boolean;
  /** Whether the image may hold device nodes. */
  readonly devices: boolean;
  readonly share: 'user' | 'everyone';
  /** Where files may be added, if that is what was asked. */
  readonly addTo?: AddTarget | undefined;
  /** What to remember before the mount is handed out, where the rule protects against rollback. */
  readonly rollback: { readonly rule: string; readonly name: string; readonly version: number } | undefined;
}

/** Why a request is refused: the interface's error of that kind, with its parameters beside the reason. */
export type RefusalReason =
  | { readonly kind: 'NotSigned'; readonly parameters: { readonly digest: string } }
  | { readonly kind: 'SignatureInvalid' }
  | { readonly kind: 'KeyNotTrusted'; readonly parameters: { readonly keyIds: readonly string[] } }
  | { readonly kind: 'Expired'; readonly parameters: { readonly what: string; readonly at: string } }
  | {
      readonly kind: 'RolledBack';
      readonly parameters: { readonly name: string; readonly version: number; readonly newest: number };
    }
  | { readonly kind: 'DeniedByPolicy' }
  | { readonly kind: 'StoreNotFound'; readonly parameters: { readonly name: string } }
  | { readonly kind: 'IncompatibleImage' };

/** A refusal: the reason, the rule that it comes from (undefined where none was reached), and the one sentence that says so
 * everywhere: in the error, the audit line, `verify` and `explain`. */
export type Refusal = RefusalReason & { readonly rule: string | undefined; readonly message: string };

/** The answer. */
export type Decision =
  | {
      readonly outcome: 'allow';
      readonly rule: Rule;
      readonly evidence: Evidence;
      readonly constraints: Constraints;
    }
  | { readonly outcome: 'deny'; readonly refusal: Refusal };
