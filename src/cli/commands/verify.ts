import { Option } from 'commander';
import type { Command } from 'commander';
import type { Decision } from '../../policy/question.ts';
import type { FileSystem } from '../../trust/file-system.ts';
import { fileSystems } from '../../trust/file-system.ts';
import { defaultSocketPath } from '../../client/client.ts';
import { askService } from '../ask-service.ts';
import { CommandError } from '../command-error.ts';
import { parseVerityCheck } from '../delegated-options.ts';
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
  store?: readonly string[];
  verityCheck?: '0' | '1' | '2';
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
    .option<readonly string[]>(
      '--store <NAME>',
      "a store of the policy's; repeatable (default: the rule's)",
      collect,
    )
    .addOption(
      new Option('--verity-check <LEVEL>', 'the level that would be asked for, as in mount -o').choices([
        '0',
        '1',
        '2',
      ]),
    )
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
    stores: options.store ?? [],
    verity: options.verityCheck === undefined ? undefined : parseVerityCheck(options.verityCheck),
    state: options.state,
  };
}

interface VerifyCommandOptions extends QuestionOptions {
  service?: true;
  socket: string;
}

/** Adds `verify`. */
export function addVerifyCommand(program: Command): void {
  const command = program
    .command('verify')
    .summary('say what the policy would decide about an image')
    .description(
      'Says what the policy would decide, by which rule and keys, or why it would refuse; exits 1 then. It needs no ' +
        'service, reads policy, image and signatures with your own rights, and lists what it did not check. With ' +
        '--service it asks the service, for you, which checks everything but the mounting itself.',
    );
  withQuestionOptions(command)
    .option('--service', 'ask the service instead')
    .option('--socket <PATH>', "the service's socket, for --service", defaultSocketPath)
    .action(verify);
}

async function verify(image: string, options: VerifyCommandOptions): Promise<void> {
  if (options.service === true) {
    await verifyByService(image, options);
    return;
  }
  const { decision, notChecked } = decideOffline(offlineQuestion(image, options));
  if (options.json === true) {
    printJson(decisionJson(decision, notChecked));
    if (decision.outcome === 'deny') process.exitCode = 1;
  } else if (decision.outcome === 'deny') {
    throw new CommandError(`${image}: ${decision.refusal.kind}: ${decision.refusal.message}`);
  } else {
    allowedLines(decision).forEach(print);
    print(`not checked here: ${notChecked.join('; ')}`);
  }
}

async function verifyByService(image: string, options: VerifyCommandOptions): Promise<void> {
  const foreign = options.user === undefined ? (options.policy === undefined ? undefined : 'policy') : 'user';
  if (foreign !== undefined) {
    throw new CommandError(
      `--${foreign} is of no use with --service, which answers by its own policy, and for whoever runs this`,
    );
  }
  const answer = await askService(options.socket, offlineQuestion(image, options));
  if (options.json === true) {
    printJson(answer);
    if (answer.outcome === 'deny') process.exitCode = 1;
  } else if (answer.outcome === 'deny') {
    throw new CommandError(`${image}: ${answer.message}`);
  } else {
    evidenceLines(answer.evidence).forEach(print);
  }
}

/** The decision as plain data. */
export function decisionJson(decision: Decision, notChecked: readonly string[]): unknown {
  if (decision.outcome === 'deny') return decision;
  const { outcome, evidence, constraints } = decision;
  const { addTo } = constraints;
  if (addTo !== undefined)
    return { outcome, evidence, addTo: { store: addTo.store.name, bytesPerHour: addTo.bytesPerHour } };
  return {
    outcome,
    evidence,
    constraints: { ...constraints, stores: constraints.stores.map(({ name }) => name) },
    notChecked,
  };
}

type Row = readonly (readonly [string, string | undefined])[];

function allowedLines({ evidence, constraints }: Extract<Decision, { outcome: 'allow' }>): string[] {
  const { stores, attributes, fileSystem, verity, addTo } = constraints;
  const mounting: Row = [
    ['attributes', attributes.join(', ')],
    ['verity', verity],
    [
      'stores',
      stores.length === 0 ? undefined : stores.map(({ name, path }) => `${name} (${path})`).join(', '),
    ],
  ];
  const rows: Row = [
    ['file system', fileSystem],
    ...(addTo === undefined
      ? mounting
      : ([['adds to', `${addTo.store.name} (${addTo.store.path})`]] as const)),
  ];
  return [...evidenceLines(evidence), ...rowLines(rows)];
}

/** The fields that an offline decision and the service's answer have in common. */
function evidenceLines(evidence: {
  readonly digest: string;
  readonly name?: string | undefined;
  readonly version?: number | undefined;
  readonly signers: readonly string[];
  readonly rule: string;
}): string[] {
  const { digest, name, version, signers, rule } = evidence;
  const rows: Row = [
    ['digest', digest],
    ['name', name],
    ['version', version?.toString()],
    ['signers', signers.length === 0 ? undefined : signers.join(', ')],
  ];
  return [`allowed by rule "${rule}"`, ...rowLines(rows)];
}

function rowLines(rows: Row): string[] {
  return rows.flatMap(([name, value]) => (value === undefined ? [] : [`  ${name.padEnd(12)} ${value}`]));
}
