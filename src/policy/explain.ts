import { decide } from './decide.ts';
import type { Policy } from './policy.ts';
import type { Decision, Question } from './question.ts';
import type { CheckName } from './walk.ts';
import { walkRule } from './walk.ts';

/** A rule, walked through. */
export interface RuleExplanation {
  readonly rule: string;
  readonly file: string;
  readonly line: number;
  /** decides: all conditions hold; passed over: one does not; not asked: an earlier rule decided. */
  readonly part: 'decides' | 'passed over' | 'not asked';
  /** The checks up to the first that fails. */
  readonly checks: readonly { readonly name: CheckName; readonly holds: boolean; readonly detail: string }[];
}

/** A decision and how it came about. */
export interface Explanation {
  readonly decision: Decision;
  readonly rules: readonly RuleExplanation[];
}

/** Answers a question as decide does, and tells for each rule which conditions held. */
export function explain(policy: Policy, question: Question): Explanation {
  const decision = decide(policy, question);
  let decided = policy.revokedDigests.has(question.digest);
  const rules = policy.rules.map(({ name: rule, file, line }, index): RuleExplanation => {
    const asked = decided ? undefined : policy.rules[index];
    if (asked === undefined) return { rule, file, line, part: 'not asked', checks: [] };
    const walk = walkRule(policy, asked, question);
    decided = walk.decides;
    const checks = walk.steps.map(({ name, verdict }) => ({
      name,
      holds: verdict.holds,
      detail: verdict.detail,
    }));
    return { rule, file, line, part: walk.decides ? 'decides' : 'passed over', checks };
  });
  return { decision, rules };
}

/** The explanation in lines for people. */
export function formatExplanation({ decision, rules }: Explanation): string[] {
  const lines = rules.flatMap(({ rule, file, line, part, checks }) => [
    `rule "${rule}" (${file}:${line}): ${part}`,
    ...checks.map(({ name, holds, detail }) => `  ${holds ? 'yes' : 'no '}  ${name}: ${detail}`),
  ]);
  const outcome =
    decision.outcome === 'allow'
      ? `allowed by rule "${decision.rule.name}"`
      : `refused: ${decision.refusal.kind}: ${decision.refusal.message}`;
  return [...lines, outcome];
}
