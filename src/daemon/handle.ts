import { DigestMismatch } from '../api/mount-delegation.ts';
import { asksForRootHash, decide } from '../policy/decide.ts';
import { attributes, type Attribute, type Policy } from '../policy/policy.ts';
import type { Decision, Evidence, Question } from '../policy/question.ts';
import { misfit } from '../policy/requirements.ts';
import type { OwnedFd } from '../sys/fd.ts';
import type { SignedRootHash } from '../trust/root-hash-signature.ts';
import type { Adder } from './adding/adder.ts';
import type { EvidenceCache } from './images/evidence.ts';
import type { MountRecord } from './callers/handouts.ts';
import type { Images, TakenImage } from './images/images.ts';
import type { Mounter } from './mounts/mounter.ts';
import type { Peer } from './callers/peer.ts';
import type { Policies } from './policies.ts';
import { Refused } from './calls/refusal.ts';
import type { AddObjectsRequest, MountRequest, VerifyRequest } from './calls/request.ts';
import type { KnownImage, ShownImages } from './images/shown-images.ts';
import { statedDigest } from './images/stated-digest.ts';
import type { ResolvedStores, Stores } from './mounts/stores.ts';
import type { Versions } from './versions.ts';

/** The stages of a request, each from its own file. */
export interface Stages {
  readonly policies: Policies;
  readonly images: Images;
  readonly evidence: EvidenceCache;
  readonly stores: Stores;
  readonly mounter: Mounter;
  readonly versions: Versions;
  readonly shown: ShownImages;
  readonly adder: Adder;
}

/** What is learnt on the way, for the audit line: it holds for refusals, too. */
export interface Findings {
  digest: string | undefined;
  evidence: Evidence | undefined;
  rule: string | undefined;
  /** The number of the policy that decided. */
  generation: number | undefined;
  /** The store to which files were added, and what it did not have before. */
  store: string | undefined;
  readonly added: { readonly path: string; readonly bytes: number }[];
}

/** A mount to hand out. */
export interface Handout {
  readonly mount: OwnedFd;
  readonly evidence: Evidence;
  readonly attributes: readonly Attribute[];
  /** No storage of a client's is behind it. */
  readonly ownStorage: boolean;
}

/** What became of files that were to be added. */
export interface Added {
  readonly evidence: Evidence;
  readonly missing: readonly string[];
  /** Where to go on looking for missing ones; undefined at the end. */
  readonly missingNext: number | undefined;
}

type Allowed = Extract<Decision, { outcome: 'allow' }>;

/** The way of a Mount: take, verify, decide, then plan and execute. Throws what refusal.ts has a name for. */
export async function mount(
  request: MountRequest,
  peer: Peer,
  stages: Stages,
  found: Findings,
): Promise<Handout> {
  for (;;) {
    const { policy, generation } = stages.policies.current;
    const copyNow = isForeseen(request, peer, policy, stages);
    using image = await stages.images.take(request.image, peer, policy, copyNow);
    using stores = await stages.stores.resolve(request.stores, peer, policy);
    const judged = await judge(request, image, stores, peer, policy, stages, found);
    const { allowed, question } = judged;
    const { evidence } = allowed;
    const constraints = { ...allowed.constraints, attributes: together(allowed, request) };
    const record = { question, ...worthKeeping(judged, request.signatures), evidence };
    using mounted = await stages.mounter.mount({
      image,
      constraints,
      stores,
      idMap: request.idMap,
      peer,
      record,
    });
    const { rollback } = constraints;
    if (rollback !== undefined) await stages.versions.record(rollback.rule, rollback.name, rollback.version);
    // While this mount was made, another policy may have come into force, or a newer version been handed out.
    if (generation !== stages.policies.generation || isOutdated(rollback, stages)) continue;
    found.generation = generation;
    const ownStorage = image.kind !== 'verity' && stores.directories.length === 0;
    return { mount: mounted.moved(), evidence, attributes: constraints.attributes, ownStorage };
  }
}

/** The way of a Verify: as of a Mount, up to the decision. */
export async function verify(
  request: VerifyRequest,
  peer: Peer,
  stages: Stages,
  found: Findings,
): Promise<Evidence> {
  for (;;) {
    const { policy, generation } = stages.policies.current;
    using image = await stages.images.take(request.image, peer, policy);
    using stores = await stages.stores.resolve(request.stores, peer, policy);
    const { allowed } = await judge(request, image, stores, peer, policy, stages, found);
    if (generation !== stages.policies.generation) continue;
    found.generation = generation;
    return allowed.evidence;
  }
}

/** The way of an AddObjects: take, verify, decide, then copy. What was added is in `found`. */
export async function addObjects(
  request: AddObjectsRequest,
  peer: Peer,
  stages: Stages,
  found: Findings,
): Promise<Added> {
  for (;;) {
    const { policy, generation } = stages.policies.current;
    using image = await stages.shown.take(request.image, peer, policy);
    const { allowed } = await judge(request, image, noStores, peer, policy, stages, found);
    const target = allowed.constraints.addTo;
    if (target === undefined) throw new Error('the decision lets files be added and names no store');
    found.store = target.store.name;
    const scan = await image.scan();
    const isCurrent = (): boolean => generation === stages.policies.generation;
    const added = (path: string, bytes: number): void => void found.added.push({ path, bytes });
    // Only who may add takes one of the turns for it.
    const { missing, next } = await stages.adder.inTurn(peer, async () => {
      await stages.adder.add({
        digest: image.digest,
        scan,
        target,
        files: request.objects,
        peer,
        isCurrent,
        added,
      });
      return await stages.adder.missing(scan, target.store, request.missing, peer);
    });
    // Where another policy came into force, the rest is for that one to decide; what is in the store by now is passed over.
    if (!isCurrent()) continue;
    stages.shown.remember(request.image, peer, image.digest);
    found.generation = generation;
    return { evidence: allowed.evidence, missing, missingNext: next };
  }
}

/**
 * Whether the image, if it is the one that the signature is about, will be let in and mounted anew: then it need not be read twice, to
 * know it and to have a copy. What is decided later rests on what was read.
 */
function isForeseen(request: MountRequest, peer: Peer, policy: Policy, stages: Stages): boolean {
  const [file, ...others] = request.signatures;
  if (request.image.kind !== 'descriptor' || file === undefined || others.length > 0) return false;
  const digest = statedDigest(file);
  if (digest === undefined || stages.mounter.keeps(digest, peer.user)) return false;
  const question = ask(request, { digest }, request.signatures, noStores, peer, policy, stages);
  return decide(policy, question).outcome === 'allow';
}

interface Judged {
  readonly allowed: Allowed;
  readonly question: Question;
  /** The signature files that were shown. */
  readonly files: readonly Uint8Array[];
  /** The signed root hash that the image brought, where it was asked about. */
  readonly rootHash: SignedRootHash | undefined;
}

/** Bytes of signature files that are kept with a mount: sixteen signatures on a statement have a fifth of it. */
const keptBytesMax = 16_384;

/** A client that shows more has its mount listed by Reload as if it had shown nothing. */
function worthKeeping(
  { files, rootHash }: Pick<Judged, 'files' | 'rootHash'>,
  sent: readonly Uint8Array[],
): Pick<MountRecord, 'files' | 'rootHash' | 'sentBytes'> {
  const brought = rootHash === undefined ? [] : [rootHash.signature];
  if (bytesOf([...files, ...brought]) > keptBytesMax) return { files: [], sentBytes: 0 };
  return { files, rootHash, sentBytes: bytesOf([...sent, ...brought]) };
}

function bytesOf(files: readonly Uint8Array[]): number {
  return files.reduce((sum, { length }) => sum + length, 0);
}

/** Verifies and decides; throws Refused, or DigestMismatch where the image is not the one that was asked for. */
async function judge(
  request: VerifyRequest & Partial<Pick<AddObjectsRequest, 'addTo'>>,
  image: KnownImage & Partial<Pick<TakenImage, 'disk'>>,
  stores: Pick<ResolvedStores, 'names' | 'directories'>,
  peer: Peer,
  policy: Policy,
  stages: Stages,
  found: Findings,
): Promise<Judged> {
  found.digest = image.digest;
  if (request.digest !== undefined && request.digest !== image.digest) {
    throw new DigestMismatch({ expected: request.digest, found: image.digest });
  }
  const files = signatureFiles(request, image);
  const unread = ask(request, image, files, stores, peer, policy, stages);
  const first = decide(policy, unread);
  const rootHash = asksForRootHash(policy, unread, first) ? (await image.disk?.())?.signed : undefined;
  const question =
    rootHash === undefined
      ? unread
      : {
          ...unread,
          rootHash: rootHash.rootHash,
          verification: stages.evidence.verify(files, image.digest, policy, rootHash),
        };
  const allowed = allow(rootHash === undefined ? first : decide(policy, question), found);
  // The bytes are looked at only now that somebody has vouched for them; what is found is decided by the same rules.
  const contents = await image.contents(allowed.constraints.fileSystem);
  const scanned = { ...question, contents };
  const fits = misfit(contents, allowed.constraints) === undefined;
  const last = fits ? allowed : allow(decide(policy, scanned), found);
  return { allowed: last, question: scanned, files, rootHash };
}

/** What the policy is asked about the image before it is read. */
function ask(
  request: VerifyRequest & Partial<Pick<AddObjectsRequest, 'addTo'>>,
  { digest, location }: Pick<KnownImage, 'digest' | 'location'>,
  files: readonly Uint8Array[],
  stores: Pick<ResolvedStores, 'names' | 'directories'>,
  peer: Peer,
  policy: Policy,
  stages: Stages,
): Question {
  return {
    caller: peer.caller,
    digest,
    location,
    fileSystem: request.fileSystem,
    verification: stages.evidence.verify(files, digest, policy),
    allowUnsigned: request.allowUnsigned,
    verity: request.verity,
    stores: stores.names,
    clientStores: stores.directories.length > 0,
    addTo: request.addTo,
    now: new Date(),
    newestVersion: (rule, name) => stages.versions.newest(rule, name),
  };
}

function allow(decision: Decision, found: Findings): Allowed {
  if (decision.outcome === 'deny') {
    found.rule = decision.refusal.rule;
    throw new Refused(decision.refusal);
  }
  found.evidence = decision.evidence;
  found.rule = decision.rule.name;
  return decision;
}

/** Of what is not mounted, or not yet looked for. */
const noStores = { names: undefined, directories: [] };

/** What came with the request, and what the image brings along. */
function signatureFiles(request: VerifyRequest, image: KnownImage): readonly Uint8Array[] {
  if (image.signatureFiles.length === 0) return request.signatures;
  return [...request.signatures, ...image.signatureFiles];
}

/** The policy's attributes and the request's, each once, in one order. */
function together(allowed: Allowed, request: MountRequest): readonly Attribute[] {
  const all = new Set<Attribute>([...allowed.constraints.attributes, ...request.attributes, 'ro']);
  return attributes.filter((attribute) => all.has(attribute));
}

function isOutdated(rollback: Allowed['constraints']['rollback'], stages: Stages): boolean {
  if (rollback === undefined) return false;
  const newest = stages.versions.newest(rollback.rule, rollback.name);
  return newest !== undefined && newest > rollback.version;
}
