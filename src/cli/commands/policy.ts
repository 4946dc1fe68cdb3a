import type { Command } from 'commander';
import { formatExplanation } from '../../policy/explain.ts';
import { formatFault, PolicyInvalid } from '../../policy/fault.ts';
import type { LoadedPolicy } from '../../policy/load.ts';
import { defaultPolicyDirectories, loadPolicy } from '../../policy/load.ts';
import { storeWarnings } from '../../policy/store-warnings.ts';
import { policyWarnings } from '../../policy/warnings.ts';
import { CommandError } from '../command-error.ts';
import { decideOffline, loadPolicyWithWarnings } from '../offline-decision.ts';
import { print, printJson, warn } from '../output.ts';
import { policyJson, policyLines } from '../show-policy.ts';
import type { QuestionOptions } from './verify.ts';
import { decisionJson, offlineQuestion, withQuestionOptions } from './verify.ts';

/** Adds `policy check`, `policy show` and `policy explain`. */
export function addPolicyCommand(program: Command): void {
  const policy = program
    .command('policy')
    .summary('check, show and explain policies')
    .description('Looks into policies.');
  policy
    .command('check')
    .summary('validate policy files')
    .description(
      'Validates a policy, and says file, line and field of each fault. Wrong owners and modes are warnings here; the ' +
        'service refuses a policy for them.',
    )
    .argument('[DIR]', 'folder with policy.d and keys.d (default: those of the service)')
    .option('--json', 'print JSON')
    .action(check);
  policy
    .command('show')
    .summary('show the policy that would be in force')
    .description('Shows the policy of all files together, with every default filled in.')
    .argument('[DIR]', 'folder with policy.d and keys.d (default: those of the service)')
    .option('-p, --policy <DIR>', 'the same as DIR')
    .option('--json', 'print JSON')
    .action(show);
  withQuestionOptions(
    policy
      .command('explain')
      .summary('walk through the rules for an image')
      .description(
        'Says of each rule which of its conditions hold for an image, up to the first that does not.',
      ),
  ).action(explainImage);
}

function check(directory: string | undefined, options: { json?: true }): void {
  try {
    const loaded = loadPolicy(directory === undefined ? defaultPolicyDirectories : [directory], {
      owners: 'warn',
    });
    const warnings = [
      ...loaded.warnings,
      ...storeWarnings(loaded.policy),
      ...policyWarnings(loaded.policy, new Date()),
    ];
    if (options.json === true) {
      printJson({
        valid: true,
        files: loaded.files,
        digest: loaded.policy.digest,
        faults: [],
        warnings,
      });
    } else {
      warnings.forEach(warn);
      print(summary(loaded));
    }
  } catch (error) {
    if (!(error instanceof PolicyInvalid)) throw error;
    if (options.json === true) {
      printJson({ valid: false, faults: error.faults });
      process.exitCode = 1;
      return;
    }
    const [last, ...others] = error.faults.map(formatFault).reverse();
    for (const fault of others.reverse()) process.stderr.write(`cfs-mountctl: ${fault}\n`);
    throw new CommandError(last ?? 'the policy is not valid');
  }
}

function summary({ policy, files }: LoadedPolicy): string {
  const counts = [
    count(files.length, 'file'),
    count(policy.keys.size, 'key'),
    ...(policy.keyrings.size === 0 ? [] : [count(policy.keyrings.size, 'keyring')]),
    count(policy.stores.size, 'store'),
    count(policy.rules.length, 'rule'),
  ];
  return `the policy is valid: ${counts.join(', ')} (${policy.digest})`;
}

function count(number: number, noun: string): string {
  return `${number} ${noun}${number === 1 ? '' : 's'}`;
}

function show(directory: string | undefined, options: { policy?: string; json?: true }): void {
  const loaded = loadPolicyWithWarnings(directory ?? options.policy);
  if (options.json === true) printJson(policyJson(loaded));
  else policyLines(loaded).forEach(print);
}

function explainImage(image: string, options: QuestionOptions): void {
  const explanation = decideOffline(offlineQuestion(image, options));
  if (options.json === true) {
    const { decision, notChecked, rules } = explanation;
    printJson({ decision: decisionJson(decision, notChecked), rules });
  } else formatExplanation(explanation).forEach(print);
  if (explanation.decision.outcome === 'deny') process.exitCode = 1;
}
