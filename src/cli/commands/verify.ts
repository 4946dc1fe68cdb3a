import { Option } from 'commander';
import type { Command } from 'commander';
import type { Decision } from '../../policy/question.ts';
import type { FileSystem } from '../../trust/file-system.ts';
import { fileSystems } from '../../trust/file-system.ts';
import { CommandError } from '../command-error.ts';
import type { OfflineQuestion } from '../offline-decision.ts';
import { decideOffline } from '../offline-decision.ts';
import { print, printJson } from '../output.ts';
import { defaultState } from '../read-versions.ts';
import { collect } from '../usage.ts';

/** What the commands take that ask a policy about an image. */
export interface QuestionOptions {
  signature?: readonly string[];
  policy?: string;
  user?: string;
  fileSystem?: FileSystem;
  unsigned?: true;
  addTo?: string | true;
  state: string;
  json?: true;
}

/** Adds the argument and the options of a question about an image. */
export function withQuestionOptions(command: Command): Command {
  return command
    .argument('<IMAGE>', "an image's file, or name:NAME for one in the policy's image directories")
    .option<readonly string[]>(
      '-s, --signature <FILE>',
      'a signature of the image; repeatable (default: IMAGE.sig where it exists)',
      collect,
    )
    .option('-p, --policy <DIR>', 'folder with policy.d and keys.d (default: those of the service)')
    .option('-u, --user <UID>', 'who would ask, by ID or name (default: you)')
    .addOption(new Option('--file-system <TYPE>', 'filesystem that would be asked for').choices(fileSystems))
    .option('--unsigned', 'let a rule for unsigned images apply')
    .option('--add-to [STORE]', 'ask instead whether its files may be added to a store (add-objects)')
    .option('--state <DIR>', 'state directory of the service, for the newest versions', defaultState)
    .option('--json', 'print JSON');
}

/** The question that the options ask. */
export function offlineQuestion(image: string, options: QuestionOptions): OfflineQuestion {
  return {
    image,
    signatures: options.signature ?? [],
    policy: options.policy,
    user: options.user,
    fileSystem: options.fileSystem,
    unsigned: options.unsigned === true,
    addTo:
      options.addTo === undefined ? undefined : { store: options.addTo === true ? undefined : options.addTo },
    state: options.state,
  };
}

/** Adds `verify`. */
export function addVerifyCommand(program: Command): void {
  const command = program
    .command('verify')
    .summary('say what the policy would decide about an image')
    .description(
      'Says what the policy would decide, by which rule and keys, or why it would refuse; exits 1 then. It needs no ' +
        'service, and reads policy, image and signatures with your own rights.',
    );
  withQuestionOptions(command).action(verify);
}

function verify(image: string, options: QuestionOptions): void {
  const { decision } = decideOffline(offlineQuestion(image, options));
  if (options.json === true) {
    printJson(decisionJson(decision));
    if (decision.outcome === 'deny') process.exitCode = 1;
  } else if (decision.outcome === 'deny') {
    throw new CommandError(`${image}: ${decision.refusal.kind}: ${decision.refusal.message}`);
  } else {
    allowedLines(decision).forEach(print);
  }
}

/** The decision as plain data. */
export function decisionJson(decision: Decision): unknown {
  if (decision.outcome === 'deny') return decision;
  const { outcome, evidence, constraints } = decision;
  const { addTo } = constraints;
  if (addTo !== undefined)
    return { outcome, evidence, addTo: { store: addTo.store.name, bytesPerHour: addTo.bytesPerHour } };
  return {
    outcome,
    evidence,
    constraints: { ...constraints, stores: constraints.stores.map(({ name }) => name) },
  };
}

function allowedLines({ evidence, constraints }: Extract<Decision, { outcome: 'allow' }>): string[] {
  const { stores, attributes, fileSystem, verity, addTo } = constraints;
  const mounting: readonly (readonly [string, string | undefined])[] = [
    ['attributes', attributes.join(', ')],
    ['verity', verity],
    [
      'stores',
      stores.length === 0 ? undefined : stores.map(({ name, path }) => `${name} (${path})`).join(', '),
    ],
  ];
  const rows: readonly (readonly [string, string | undefined])[] = [
    ['digest', evidence.digest],
    ['name', evidence.name],
    ['version', evidence.version?.toString()],
    ['signers', evidence.signers.length === 0 ? undefined : evidence.signers.join(', ')],
    ['file system', fileSystem],
    ...(addTo === undefined
      ? mounting
      : ([['adds to', `${addTo.store.name} (${addTo.store.path})`]] as const)),
  ];
  const shown = rows.flatMap(([name, value]) =>
    value === undefined ? [] : [`  ${name.padEnd(12)} ${value}`],
  );
  return [`allowed by rule "${evidence.rule}"`, ...shown];
}
