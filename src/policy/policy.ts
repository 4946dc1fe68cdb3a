import type { Digest } from '../base/digest.ts';
import type { FileSystem } from '../trust/file-system.ts';
import type { Certificate } from '../trust/certificate.ts';
import type { KeyId, PublicKey } from '../trust/public-key.ts';
import type { NamePattern } from './pattern.ts';

/** Every mount attribute that a policy or a request can name. */
export const attributes = ['ro', 'nosuid', 'nodev', 'noexec', 'noatime', 'nosymfollow'] as const;

/** One of the names above; set on the mount, never cleared. */
export type Attribute = (typeof attributes)[number];

/** How files of an image are checked as they are opened, from least to most. */
export const verityLevels = ['never', 'ifPresent', 'require'] as const;

/** One of the levels above, named as in the interface (the policy writes `if-present`). */
export type VerityLevel = (typeof verityLevels)[number];

/** A key that rules can name. */
export interface PolicyKey {
  /** The name that rules use. */
  readonly id: string;
  readonly key: PublicKey;
  /** The certificates that the key was given as; signatures of PKCS#7 count by these alone. */
  readonly certificates: readonly Certificate[];
  /** Whether those who hold certificates that this key issued speak for it, in the formats of PKCS#7. */
  readonly authority: boolean;
  /** When the key begins and ceases to count; both ends belong to its time. */
  readonly notBefore: Date | undefined;
  readonly notAfter: Date | undefined;
  /**
   * The names that the key may speak for. Each definition of the key may bring a list, and a name has to match
   * one pattern of each list; no list at all lets it speak for every name.
   */
  readonly names: readonly (readonly NamePattern[])[];
}

/** A keyring of the kernel's that rules can name: signatures by the keys in it count as its word, in the format fsverity-pkcs7. */
export interface PolicyKeyring {
  /** The name that rules use. */
  readonly id: string;
  /** The kernel's name, such as `.fs-verity`. */
  readonly keyring: string;
  /** When it begins and ceases to count; both ends belong to its time. Nobody knows the dates of the certificates in it. */
  readonly notBefore: Date | undefined;
  readonly notAfter: Date | undefined;
}

/** A directory in which composefs images find their files. */
export interface PolicyStore {
  readonly name: string;
  /** Absolute and normalised. */
  readonly path: string;
  /** require: the kernel checks each file by fs-verity; trusted: only root writes there and nothing is checked. */
  readonly verity: 'require' | 'trusted';
}

/** Some of the callers: everybody, root of the initial user namespace, or user IDs from first to last. */
export type UserMatch =
  { readonly kind: 'everybody' } | { readonly kind: 'ids'; readonly first: number; readonly last: number };

/** One rule, with the contract's defaults filled in. A condition that is undefined holds always. */
export interface Rule {
  readonly name: string;
  /** Where the rule is written: the policy file and the line of its header, counted from 1. */
  readonly file: string;
  readonly line: number;
  readonly users: readonly UserMatch[] | undefined;
  /** Group IDs. Where users are given too, both must hold. */
  readonly groups: readonly number[] | undefined;
  readonly images: readonly NamePattern[] | undefined;
  readonly digests: ReadonlySet<Digest> | undefined;
  /** Absolute, normalised directories: as written, and with their links resolved when the policy was loaded. */
  readonly locations: readonly string[] | undefined;
  /** IDs of policy keys and keyrings, in the policy's order, each once. */
  readonly signedBy: readonly string[] | undefined;
  /** How many distinct keys of signedBy must have signed. */
  readonly threshold: number;
  readonly formats: readonly SignatureFormat[];
  readonly unsigned: boolean;
  readonly fileSystems: readonly FileSystem[];
  /** Names of the policy's stores, in the rule's order. */
  readonly stores: readonly string[];
  readonly clientStores: boolean;
  /** Stores to which the caller may add files that an image let in by this rule names. */
  readonly addObjects: readonly string[];
  /** How many bytes one caller may add within an hour; undefined: as many as the service allows anyway. */
  readonly addBytesPerHour: number | undefined;
  readonly verity: VerityLevel;
  readonly attributes: readonly Attribute[];
  readonly devices: boolean;
  /** Images are let in of which nobody knows whether they hold device nodes: nodev keeps these from working. */
  readonly unscanned: boolean;
  readonly share: 'user' | 'everyone';
  readonly rollbackProtection: boolean;
}

/**
 * The signature formats that this version takes. Those but dsse state a digest, and neither name, version nor filesystem;
 * dmverity-pkcs7 but the root hash of a disk image's partition, so that dm-verity has to check what is mounted.
 */
export const signatureFormats = ['dsse', 'ssh', 'fsverity-pkcs7', 'dmverity-pkcs7'] as const;

/** One of the formats above. */
export type SignatureFormat = (typeof signatureFormats)[number];

/** Whether signatures of the format count by certificates. */
export function countsByCertificates(format: SignatureFormat): boolean {
  return format === 'fsverity-pkcs7' || format === 'dmverity-pkcs7';
}

/** Everything that the administrator laid down, resolved and checked. */
export interface Policy {
  /** Milliseconds by which the clock may be wrong, either way. */
  readonly clockSkew: number;
  /** In the order in which they were defined first; rules name them by id. */
  readonly keys: ReadonlyMap<string, PolicyKey>;
  /** By id as well; no key has the same one. */
  readonly keyrings: ReadonlyMap<string, PolicyKeyring>;
  readonly revokedKeys: ReadonlySet<KeyId>;
  readonly revokedDigests: ReadonlySet<Digest>;
  readonly stores: ReadonlyMap<string, PolicyStore>;
  /** Absolute, normalised directories, in the order in which they are searched. */
  readonly imageDirectories: readonly string[];
  readonly rules: readonly Rule[];
  /** `sha256:<hex>` over every byte of the policy files and key files; changes with any of them. */
  readonly digest: string;
}
