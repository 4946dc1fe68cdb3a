import { existsSync, realpathSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { parseDigest } from '../base/digest.ts';
import { ImageError } from '../composefs/errors.ts';
import { scanImage } from '../composefs/scan.ts';
import { asksForRootHash, decide } from '../policy/decide.ts';
import type { Explanation } from '../policy/explain.ts';
import { explain } from '../policy/explain.ts';
import { imageSuffixes } from '../policy/image-names.ts';
import type { LoadedPolicy } from '../policy/load.ts';
import { defaultPolicyDirectories, loadPolicy } from '../policy/load.ts';
import type { Policy, VerityLevel } from '../policy/policy.ts';
import { DiskImageError } from '../ddi/errors.ts';
import { nativeArchitecture } from '../ddi/native-architecture.ts';
import { findMountedPartition, type MountedPartition } from '../ddi/mounted-partition.ts';
import type { ImageContents, Question } from '../policy/question.ts';
import { askPolicyKeyrings, verifyFiles, withKeyrings } from '../policy/verify-files.ts';
import { signatureFileBytesMax } from '../trust/dsse.ts';
import { SuperblockInvalid } from '../superblock/superblock-invalid.ts';
import { demandSuperblock } from '../superblock/read-superblock.ts';
import { isScanned, type FileSystem } from '../trust/file-system.ts';
import { isPathOfSegments } from '../trust/statement.ts';
import { askKeyring } from '../sys/keyring.ts';
import { callerOfUser, thisCaller } from './caller.ts';
import { CommandError } from './command-error.ts';
import { readHead } from './file-system-of-image.ts';
import { withDiskSource } from './disk-source.ts';
import { readImage } from './image-commands/read-image.ts';
import { readBuiltInSignature } from './built-in-signature.ts';
import { measureFile, readInputFile } from './input-file.ts';
import { warn } from './output.ts';
import { readVersions } from './read-versions.ts';

/** What `verify` and `policy explain` are asked. */
export interface OfflineQuestion {
  /** Path of an image file, or `name:NAME` for one in the policy's image directories. */
  readonly image: string;
  /** Signature files; empty: IMAGE.sig where it exists. */
  readonly signatures: readonly string[];
  /** Folder with policy.d and keys.d; undefined: the default ones. */
  readonly policy: string | undefined;
  /** Who would ask, by name or ID; undefined: who runs this. */
  readonly user: string | undefined;
  readonly fileSystem: FileSystem | undefined;
  readonly unsigned: boolean;
  /** Ask whether files of the image may be added to this store, or to the first of the rule, instead of a mount. */
  readonly addTo: Question['addTo'];
  /** Names of the policy's stores; none: those of the rule. */
  readonly stores: readonly string[];
  /** The level asked for; undefined: the rule's. */
  readonly verity: VerityLevel | undefined;
  /** State directory of the service, for the newest versions. */
  readonly state: string;
}

/** A decision without the service, and what only the service could say. */
export interface OfflineDecision extends Explanation {
  /** What was not checked, a phrase each: none of it could turn a refusal into the opposite, but the reverse. */
  readonly notChecked: readonly string[];
}

/** Loads a policy as the service would, except that wrong owners and modes are only warned of. Throws PolicyInvalid. */
export function loadPolicyWithWarnings(directory: string | undefined): LoadedPolicy {
  const loaded = loadPolicy(directory === undefined ? defaultPolicyDirectories : [directory], {
    owners: 'warn',
  });
  loaded.warnings.forEach(warn);
  return loaded;
}

/**
 * What the policy decides about an image, and how: as the service would, but with the files that this caller can read.
 * Throws CommandError, PolicyInvalid, ImageError.
 */
export function decideOffline(asked: OfflineQuestion): OfflineDecision {
  const { policy } = loadPolicyWithWarnings(asked.policy);
  const located = locate(asked.image, policy);
  const { path, location } = located;
  const digest = measureFile(path);
  const builtIn = readBuiltInSignature(path);
  const files = [
    ...signaturePaths(located, asked.signatures).map((file) => readInputFile(file, signatureFileBytesMax)),
    ...(builtIn === undefined ? [] : [builtIn]),
  ];
  const notChecked = new Set<string>();
  const question: Question = {
    caller: asked.user === undefined ? thisCaller() : callerOfUser(asked.user),
    digest,
    location,
    fileSystem: asked.fileSystem,
    verification: withKeyrings(
      verifyFiles(files, digest, policy),
      askPolicyKeyrings(files, digest, policy, askKeyring),
    ),
    allowUnsigned: asked.unsigned,
    verity: asked.verity,
    ...(asked.stores.length > 0 && { stores: asked.stores }),
    clientStores: false,
    addTo: asked.addTo,
    now: new Date(),
    newestVersion: newestVersions(asked.state, notChecked),
  };
  const explanation = withImageRead(policy, question, files, path);
  const { decision } = explanation;
  if (decision.outcome === 'allow') {
    const { fileSystem } = decision.constraints;
    notChecked.add(
      `whether the service takes the ${location === undefined ? 'file' : 'installed file'} as it is`,
    );
    notChecked.add(`whether this kernel can mount ${fileSystem} so`);
    if (fileSystem === 'composefs') notChecked.add('whether its stores hold every file');
  }
  return { ...explanation, notChecked: [...notChecked] };
}

/** The service looks into an image only once the policy has let it in, and then asks again with what it found. */
function withImageRead(
  policy: Policy,
  unread: Question,
  files: readonly Uint8Array[],
  path: string,
): Explanation {
  let explanation = explain(policy, unread);
  try {
    const question = withRootHash(policy, unread, files, path);
    if (question !== unread) explanation = explain(policy, question);
    const { decision } = explanation;
    if (decision.outcome === 'deny') return explanation;
    return explain(policy, { ...question, contents: readContents(path, decision.constraints.fileSystem) });
  } catch (error) {
    const isImage = [ImageError, SuperblockInvalid, DiskImageError].some((known) => error instanceof known);
    if (!isImage || !(error instanceof Error)) throw error;
    const { decision } = explanation;
    const rule = decision.outcome === 'allow' ? decision.rule.name : undefined;
    const refusal = { kind: 'IncompatibleImage' as const, rule, message: error.message };
    return { ...explanation, decision: { outcome: 'deny', refusal } };
  }
}

/** What the root hash adds that a disk image itself brings signed, where it is asked about. Throws DiskImageError. */
function withRootHash(
  policy: Policy,
  question: Question,
  files: readonly Uint8Array[],
  path: string,
): Question {
  if (!asksForRootHash(policy, question, decide(policy, question))) return question;
  const { signed } = findMounted(path);
  if (signed === undefined) return question;
  const verification = verifyFiles(files, question.digest, policy, signed);
  return { ...question, rootHash: signed.rootHash, verification };
}

function findMounted(path: string): MountedPartition {
  return withDiskSource(path, (source) => findMountedPartition(source, nativeArchitecture(process.arch)));
}

function readContents(path: string, fileSystem: FileSystem): ImageContents {
  if (isScanned(fileSystem)) return scanImage(readImage(path));
  if (fileSystem === 'ddi') findMounted(path);
  else demandSuperblock(fileSystem, readHead(path), statSync(path).size);
  return { fileSystem, devices: undefined, missingDigest: false };
}

/** A file to be asked about. */
interface Located {
  readonly path: string;
  /** Where the service would find it, links resolved, which rules can ask for. */
  readonly location?: string;
  /** The same path as it is written, for an image by name. */
  readonly installed?: string;
}

function locate(image: string, policy: Policy): Located {
  if (!image.startsWith('name:')) {
    if (parseDigest(image) !== undefined && !existsSync(image)) {
      throw new CommandError(
        `${image}: give the image's file, or name:NAME; only the service finds images by digest`,
      );
    }
    return { path: image };
  }
  const name = image.slice('name:'.length);
  if (!isPathOfSegments(name, 'file'))
    throw new CommandError(`${image}: not the path of an image below a directory`);
  for (const directory of policy.imageDirectories) {
    const path = imageSuffixes
      .map((suffix) => join(directory, name + suffix))
      .find((each) => existsSync(each));
    if (path !== undefined) return { path, location: realpathSync(path), installed: path };
  }
  throw new CommandError(`${image}: no image directory of the policy holds it`);
}

/** What the service is shown: FILE.sig beside a file unless others are named; that beside an installed image always. */
function signaturePaths({ path, installed }: Located, signatures: readonly string[]): readonly string[] {
  if (signatures.length > 0 && installed === undefined) return signatures;
  const beside = `${installed ?? path}.sig`;
  return existsSync(beside) ? [...signatures, beside] : signatures;
}

/** Read only where a rule asks for versions: they are root's to read. */
function newestVersions(state: string, notChecked: Set<string>): Question['newestVersion'] {
  let versions: ReturnType<typeof readVersions> | undefined;
  return (rule, name) => {
    versions ??= readIfAllowed(state, notChecked);
    return versions.find((entry) => entry.rule === rule && entry.name === name)?.version;
  };
}

function readIfAllowed(state: string, notChecked: Set<string>): ReturnType<typeof readVersions> {
  try {
    return readVersions(state);
  } catch (error) {
    if (!(error instanceof CommandError)) throw error;
    notChecked.add(`protection against rollback (${error.message})`);
    return [];
  }
}
