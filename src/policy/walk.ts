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
  const [first, ...others] = candidates(rule, question).flatMap((candidate) =>
    fileSystemsOf(policy, question, candidate).map((fileSystem) =>
      walkCase({ policy, rule, question, candidate, fileSystem }),
    ),
  );
  if (first === undefined) throw new RangeError('a rule was asked about nothing');
  return others.reduce((best, walk) => (furthest(walk) > furthest(best) ? walk : best), first);
}

/** How many checks held; allowing beats everything. */
export function furthest(walk: Walk): number {
  return walk.allows ? conditions.length + requirements.length : walk.steps.length - 1;
}

/** Only signatures in the rule's formats. A statement by itself comes first, so that its name is told where it is enough. */
function candidates({ signedBy, formats }: Rule, question: Question): readonly (Candidate | undefined)[] {
  if (signedBy === undefined) return [undefined];
  const { statements, digestSignatures } = question.verification;
  const stated: readonly Candidate[] = formats.includes('dsse')
    ? statements.map((each) => ({ ...each, digestSigners: [] }))
    : [];
  const bare: readonly Candidate[] = digestSignatures
    .filter(({ format }) => formats.includes(format))
    .map(({ signers, unknownKeyIds }) => ({
      statement: undefined,
      signers: [],
      digestSigners: signers,
      unknownKeyIds,
    }));
  const both = stated.flatMap((one) =>
    bare.map((other) => ({
      ...one,
      digestSigners: other.digestSigners,
      unknownKeyIds: [...one.unknownKeyIds, ...other.unknownKeyIds],
    })),
  );
  const all = [...stated, ...bare, ...both];
  return all.length === 0 ? [undefined] : all;
}

/**
 * The filesystem that is asked for, or stated; where neither says, what keys of the policy vouch for elsewhere, and composefs as
 * if they had not been shown: what is in the image decides between the two, so that a signature less opens nothing.
 */
function fileSystemsOf(
  policy: Policy,
  question: Question,
  candidate: Candidate | undefined,
): readonly Case['fileSystem'][] {
  const said = question.fileSystem ?? candidate?.statement?.fileSystem;
  if (said !== undefined) return [said];
  const vouched = question.verification.statements
    .filter(({ signers }) => signers.some((id) => !policy.revokedKeys.has(id)))
    .map(({ statement }) => statement.fileSystem);
  return [...new Set([...vouched, 'composefs' as const])];
}

function walkCase(asked: Case): Walk {
  const steps: Step[] = [];
  const asking = asked.question.addTo === undefined ? requirements : addingRequirements;
  for (const { name, check } of [...conditions, ...asking]) {
    const verdict = check(asked);
    steps.push({ name, verdict });
    if (!verdict.holds) return { asked, steps, decides: steps.length > conditions.length, allows: false };
  }
  return { asked, steps, decides: true, allows: true };
}
