import { addTarget } from './adding.ts';
import type { Policy } from './policy.ts';
import type { Constraints, Decision, Evidence, Question, Refusal, RefusalReason } from './question.ts';
import { effectiveVerity, storesInUse } from './requirements.ts';
import type { Case } from './verdict.ts';
import { inRule, validKeyrings, validKeys } from './verdict.ts';
import type { Walk } from './walk.ts';
import { furthest, walkRule } from './walk.ts';

/**
 * Answers a question by the policy. The first rule whose conditions all hold decides; without one the refusal names
 * the rule that got furthest, the first of several. Reads no clock and no file.
 */
export function decide(policy: Policy, question: Question): Decision {
  const revoked = refuseRevoked(policy, question);
  if (revoked !== undefined) return { outcome: 'deny', refusal: revoked };
  let nearest: Walk | undefined;
  for (const rule of policy.rules) {
    const walk = walkRule(policy, rule, question);
    if (walk.decides) return conclude(walk);
    if (nearest === undefined || furthest(walk) > furthest(nearest)) nearest = walk;
  }
  if (nearest !== undefined) return conclude(nearest);
  return { outcome: 'deny', refusal: denyWithoutRule('the policy has no rule, and so lets nothing in') };
}

/** A revoked digest is refused whatever the rules say. */
function refuseRevoked(policy: Policy, question: Question): Refusal | undefined {
  const { digest, rootHash } = question;
  if (policy.revokedDigests.has(digest)) return denyWithoutRule(`the image ${digest} is revoked`);
  if (rootHash === undefined || !policy.revokedDigests.has(rootHash)) return undefined;
  return denyWithoutRule(`the image's root hash ${rootHash} is revoked`);
}

function denyWithoutRule(reason: string): Refusal {
  return { kind: 'DeniedByPolicy', rule: undefined, message: reason };
}

/** The decision of the rule that decides, or that got furthest. */
function conclude(walk: Walk): Decision {
  const { rule } = walk.asked;
  const last = walk.steps.at(-1);
  if (last?.verdict.holds !== false) {
    return {
      outcome: 'allow',
      rule,
      evidence: evidenceOf(walk.asked),
      constraints: constraintsOf(walk.asked),
    };
  }
  const { detail, reason } = last.verdict;
  const message = inRule(rule, `${last.name}: ${detail}`);
  const refusal: RefusalReason = reason === 'denied' ? { kind: 'DeniedByPolicy' } : reason;
  return { outcome: 'deny', refusal: { ...refusal, rule: rule.name, message } };
}

/**
 * Whether the root hash that a disk image itself brings could still let it in, after it was refused without. To find it the image
 * has to be read before anybody has vouched for it, so that this is done for those alone who ask for a disk image, and only where
 * a rule takes such signatures.
 */
export function asksForRootHash(policy: Policy, question: Question, { outcome }: Decision): boolean {
  return (
    outcome === 'deny' &&
    question.fileSystem === 'ddi' &&
    question.addTo === undefined &&
    policy.rules.some(({ formats }) => formats.includes('dmverity-pkcs7'))
  );
}

function evidenceOf(asked: Case): Evidence {
  const { rule, question, candidate } = asked;
  // Where signatures over the bare digest are among those that count, the name is not the word of all of them.
  const bare =
    candidate !== undefined &&
    candidate.digestSigners.length + candidate.paths.length + candidate.keyrings.length > 0;
  const stated = bare ? undefined : candidate?.statement;
  return {
    digest: question.digest,
    name: stated?.name,
    version: stated?.version,
    signers: [...validKeys(asked), ...validKeyrings(asked)].map(({ id }) => id),
    rule: rule.name,
  };
}

function constraintsOf(asked: Case): Constraints {
  const { rule, question, candidate, fileSystem } = asked;
  const { name, version } = candidate?.statement ?? {};
  const remember = rule.rollbackProtection && name !== undefined && version !== undefined;
  return {
    fileSystem,
    attributes: rule.attributes,
    verity: effectiveVerity(asked),
    stores: storesInUse(asked),
    clientStores: rule.clientStores && question.clientStores,
    rootHashOnly: candidate?.byRootHash === true,
    devices: rule.devices,
    share: rule.share,
    addTo: addTarget(asked),
    rollback: remember ? { rule: rule.name, name, version } : undefined,
  };
}
