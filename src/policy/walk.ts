import type { Verification } from '../trust/verify.ts';
import { checkAddObjects } from './adding.ts';
import {
  checkAsked,
  checkCaller,
  checkFileSystem,
  checkImage,
  checkLocation,
  checkSigners,
} from './conditions.ts';
import type { Policy, Rule } from './policy.ts';
import type { Question } from './question.ts';
import { checkContents, checkStores, checkValidity, checkVerity, checkVersion } from './requirements.ts';
import type { Candidate, Case, Verdict } from './verdict.ts';
import { isVouchedFor } from './verdict.ts';

/** What is asked of a rule, in this order. Up to and including `signers` a failure passes on to the next rule. */
export type CheckName =
  | 'unsigned'
  | 'caller'
  | 'location'
  | 'file system'
  | 'image'
  | 'signers'
  | 'validity'
  | 'version'
  | 'stores'
  | 'verity'
  | 'contents'
  | 'add-objects';

interface Check {
  readonly name: CheckName;
  readonly check: (asked: Case) => Verdict;
}

const conditions: readonly Check[] = [
  { name: 'unsigned', check: checkAsked },
  { name: 'caller', check: checkCaller },
  { name: 'location', check: checkLocation },
  { name: 'file system', check: checkFileSystem },
  { name: 'image', check: checkImage },
  { name: 'signers', check: checkSigners },
];

const requirements: readonly Check[] = [
  { name: 'validity', check: checkValidity },
  { name: 'version', check: checkVersion },
  { name: 'stores', check: checkStores },
  { name: 'verity', check: checkVerity },
  { name: 'contents', check: checkContents },
];

/** What has to hold instead where files are to be added: nothing is mounted, so that stores and levels do not matter. */
const addingRequirements: readonly Check[] = [
  { name: 'validity', check: checkValidity },
  { name: 'version', check: checkVersion },
  { name: 'contents', check: checkContents },
  { name: 'add-objects', check: checkAddObjects },
];

const checks: readonly Check[] = [...conditions, ...requirements];
const addingChecks: readonly Check[] = [...conditions, ...addingRequirements];

/** One check of a rule and how it went. */
export interface Step {
  readonly name: CheckName;
  readonly verdict: Verdict;
}

/** How far a rule got: its checks in order, the last of them being the one that failed, if any did. */
export interface Walk {
  readonly asked: Case;
  readonly steps: readonly Step[];
  /** Whether the rule decides: all its conditions hold. */
  readonly decides: boolean;
  readonly allows: boolean;
}

/**
 * Asks a rule. Where an image has several statements, each is looked at, and the one that gets furthest speaks: a client
 * could have left the others out. Signatures over the bare digest are looked at by themselves, and beside each statement.
 */
export function walkRule(policy: Policy, rule: Rule, question: Question): Walk {
  let best: Walk | undefined;
  for (const candidate of candidates(rule, question.verification)) {
    for (const fileSystem of fileSystemsOf(policy, rule, question, candidate)) {
      const walk = walkCase({ policy, rule, question, candidate, fileSystem });
      if (best === undefined || furthest(walk) > furthest(best)) best = walk;
    }
  }
  if (best === undefined) throw new RangeError('a rule was asked about nothing');
  return best;
}

/** How many checks held; allowing beats everything. */
export function furthest(walk: Walk): number {
  return walk.allows ? checks.length : walk.steps.length - 1;
}

const nothing: readonly undefined[] = [undefined];

/** What was made of a verification for rules that take the same formats: all rules of a policy are asked with one. */
const known = new WeakMap<Verification, Map<string, readonly (Candidate | undefined)[]>>();

function candidates(
  { signedBy, formats }: Rule,
  verification: Verification,
): readonly (Candidate | undefined)[] {
  if (signedBy === undefined) return nothing;
  const byFormats = known.get(verification) ?? new Map<string, readonly (Candidate | undefined)[]>();
  known.set(verification, byFormats);
  const key = formats.join();
  const found = byFormats.get(key) ?? candidatesOf(formats, verification);
  byFormats.set(key, found);
  return found;
}

/** Only signatures in these formats. A statement by itself comes first, so that its name is told where it is enough. */
function candidatesOf(
  formats: Rule['formats'],
  { statements, digestSignatures, keyringSignatures = [] }: Verification,
): readonly (Candidate | undefined)[] {
  const stated: readonly Candidate[] = formats.includes('dsse')
    ? statements.map((each) => ({ ...each, digestSigners: [], paths: [], byRootHash: false, keyrings: [] }))
    : [];
  const taken = digestSignatures.filter(({ format }) => formats.includes(format));
  const keyrings = formats.includes('fsverity-pkcs7') ? keyringSignatures : [];
  const bare: Candidate = {
    statement: undefined,
    signers: [],
    digestSigners: taken.flatMap(({ signers, paths }) => (paths === undefined ? signers : [])),
    paths: taken.flatMap(({ paths = [] }) => paths),
    byRootHash: taken.some(({ format, paths = [] }) => format === 'dmverity-pkcs7' && paths.length > 0),
    keyrings,
    unknownKeyIds: taken.flatMap(({ unknownKeyIds }) => unknownKeyIds),
  };
  if (taken.length === 0 && keyrings.length === 0) return stated.length === 0 ? nothing : stated;
  const both = stated.map((one) => ({
    ...bare,
    statement: one.statement,
    signers: one.signers,
    unknownKeyIds: [...one.unknownKeyIds, ...bare.unknownKeyIds],
  }));
  return [...stated, bare, ...both];
}

/**
 * The filesystem that is asked for, or stated by those whom the rule is asked about. Where neither says, what others state, if the
 * policy lets them speak for the image now and the rule takes it, and composefs as if they had not been shown: what is in the image
 * decides between the two, so that a signature less opens nothing. Signatures over the bare digest take nothing from what others
 * state beside them.
 */
function fileSystemsOf(
  policy: Policy,
  rule: Rule,
  question: Question,
  candidate: Candidate | undefined,
): readonly Case['fileSystem'][] {
  const said = question.fileSystem ?? candidate?.statement?.fileSystem;
  if (said !== undefined) return [said];
  if (candidate !== undefined) return ['composefs'];
  const stated = question.verification.statements.filter(({ statement }) =>
    rule.fileSystems.includes(statement.fileSystem),
  );
  if (stated.every(({ statement }) => statement.fileSystem === 'composefs')) return ['composefs'];
  const vouched = stated
    .filter((one) => isVouchedFor({ policy, question }, one))
    .map(({ statement }) => statement.fileSystem);
  return [...new Set([...vouched, 'composefs' as const])];
}

function walkCase(asked: Case): Walk {
  const steps: Step[] = [];
  for (const { name, check } of asked.question.addTo === undefined ? checks : addingChecks) {
    const verdict = check(asked);
    steps.push({ name, verdict });
    if (!verdict.holds) return { asked, steps, decides: steps.length > conditions.length, allows: false };
  }
  return { asked, steps, decides: true, allows: true };
}
