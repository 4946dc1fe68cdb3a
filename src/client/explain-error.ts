import { withoutControls } from '../base/foreign-text.ts';
import { suffixOf } from '../policy/image-names.ts';
import { VarlinkError } from '../varlink/error.ts';

type Parameters = Readonly<Record<string, unknown>>;

/** A sentence for each error of the interface and of org.varlink.service, from its parameters. */
const sentences: Readonly<Record<string, (parameters: Parameters) => string>> = {
  BadFileDescriptor: (p) => `the descriptor in ${text(p['field'])} cannot be used: ${text(p['reason'])}`,
  ImageNotImmutable: (p) => `the image can still be changed: ${text(p['reason'])}`,
  ImageNotFound: (p) => imageNotFound(text(p['name'])),
  IncompatibleImage: (p) => text(p['reason']),
  DigestMismatch: (p) => `the image is ${text(p['found'])}, and ${text(p['expected'])} was demanded`,
  NotSigned: (p) =>
    reasonOf(p) ?? `${text(p['digest'])} has no signature, and no rule lets this caller mount it without one`,
  SignatureInvalid: (p) => text(p['reason']),
  KeyNotTrusted: (p) => reasonOf(p) ?? keyNotTrusted(list(p['keyIds'])),
  Expired: (p) => reasonOf(p) ?? `${text(p['what'])} ${validity(text(p['at']))}`,
  RolledBack: (p) =>
    reasonOf(p) ??
    `${text(p['name'])} is version ${text(p['version'])}, and version ${text(p['newest'])} was mounted here already`,
  DeniedByPolicy: (p) => text(p['reason']),
  ObjectsMissing: (p) => objectsMissing(p['count'], list(p['objects']), text(p['reason'])),
  StoreNotFound: (p) => reasonOf(p) ?? `the policy has no store ${text(p['name'])} that this request may use`,
  KernelUnsupported: (p) => `this kernel cannot do what was asked: ${text(p['feature'])}`,
  LimitExceeded: (p) => limitExceeded(text(p['limit']), text(p['value'])),
  TimedOut: (p) => `the request took longer than the ${text(p['milliseconds'])} ms that the service allows`,
  SystemError: (p) => systemError(text(p['call']), text(p['errno']), text(p['detail'])),
  PolicyInvalid: (p) => policyInvalid(text(p['file']), lineNumber(p['line']), text(p['reason'])),
  InterfaceNotFound: (p) => `the service does not have the interface ${text(p['interface'])}`,
  MethodNotFound: (p) => `the service does not have the method ${text(p['method'])}`,
  MethodNotImplemented: (p) => `the service does not implement the method ${text(p['method'])}`,
  InvalidParameter: (p) =>
    `the service does not take ${text(p['parameter'])}${p['reason'] === undefined ? '' : `: ${text(p['reason'])}`}`,
  PermissionDenied: () => 'this is for root only',
  ExpectedMore: () => 'the method has more than one reply, and the call did not ask for them',
};

/**
 * One line that says what went wrong: of an error of the service `Name: sentence`, from its parameters; of any other
 * error its message. Control characters, which a service or a file name may hold, are replaced.
 */
export function explainError(error: unknown): string {
  return oneLine(error instanceof VarlinkError ? explainVarlinkError(error) : messageOf(error));
}

function explainVarlinkError(error: VarlinkError): string {
  const name = error.name.slice(error.name.lastIndexOf('.') + 1);
  const sentence = Object.hasOwn(sentences, name) ? sentences[name] : undefined;
  // Errors that this version does not know are told as they came: the interface grows.
  return `${name}: ${sentence === undefined ? JSON.stringify(error.parameters) : sentence(error.parameters)}`;
}

/** The service's own sentence; services of before do not send it with every error. */
function reasonOf({ reason }: Parameters): string | undefined {
  return typeof reason === 'string' ? reason : undefined;
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

function imageNotFound(name: string): string {
  const suffix = suffixOf(name);
  const hint = suffix === undefined ? '' : `; names are without the suffix ${suffix}`;
  return `no image directory of the policy holds ${name}${hint}`;
}

function limitExceeded(limit: string, value: string): string {
  const hour = limit === 'addedBytesPerUser' || limit === 'addedBytes';
  return `the limit ${limit} is ${value}${hour ? ' bytes within an hour; what was added so far stays' : ''}`;
}

/** The error says one time, and the clock, which is the service's too, on which side of it we are. */
function validity(at: string): string {
  return Date.parse(at) > Date.now() ? `is not valid before ${at}` : `expired at ${at}`;
}

/** What is wrong with the file itself begins with its path already. */
function policyInvalid(file: string, line: string, reason: string): string {
  return file !== '' && reason.startsWith(`${file} `) ? reason : `${file}${line}: ${reason}`;
}

function keyNotTrusted(keyIds: readonly string[]): string {
  if (keyIds.length === 0) return 'too few of the keys that the policy trusts for this image have signed it';
  return `too few of the keys that the policy trusts for this image have signed it; it is signed by ${keyIds.join(', ')}`;
}

function objectsMissing(count: unknown, objects: readonly string[], reason: string): string {
  const shown = objects.slice(0, 3).join(', ');
  const more = typeof count === 'number' && count > 3 ? ', …' : '';
  return `${text(count)} of the image’s files cannot be used (${shown}${more}): ${reason}`;
}

function systemError(call: string, errno: string, detail: string): string {
  // Of an error inside the service, which is no call's.
  if (call === '') return detail;
  return `${call}: ${errno}${detail === '' ? '' : ` (${detail})`}`;
}

function lineNumber(line: unknown): string {
  return typeof line === 'number' && line > 0 ? `:${line}` : '';
}

function list(value: unknown): readonly string[] {
  return Array.isArray(value) ? value.map(text) : [];
}

function text(value: unknown): string {
  return typeof value === 'string' || typeof value === 'number' ? String(value) : '';
}

/** Neither a line break nor an escape sequence reaches the terminal. */
function oneLine(message: string): string {
  return withoutControls(message.replaceAll(/\s*\n\s*/g, '; '));
}
