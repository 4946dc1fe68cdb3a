import {
  DeniedByPolicy,
  Expired,
  IncompatibleImage,
  KernelUnsupported,
  KeyNotTrusted,
  LimitExceeded,
  NotSigned,
  PolicyInvalid as PolicyInvalidReply,
  RolledBack,
  SignatureInvalid,
  StoreNotFound,
  SystemError,
} from '../../api/mount-delegation.ts';
import { ImageError } from '../../composefs/errors.ts';
import { KernelUnsupportedError } from '../../mount/plan.ts';
import { PolicyInvalid } from '../../policy/fault.ts';
import type { Refusal } from '../../policy/question.ts';
import { asSyscallError } from '../../sys/errno.ts';
import { VarlinkError } from '../../varlink/error.ts';
import { formatReply } from '../../varlink/message.ts';
import type { LimitMet } from '../callers/shares.ts';

/** A decision against the request, on its way out of the handler; `cause` says which rule and why. */
export class Refused extends Error {
  readonly refusal: Refusal;

  constructor(refusal: Refusal) {
    super(refusal.message);
    this.name = 'Refused';
    this.refusal = refusal;
  }
}

/** The interface's error for a refusal by the policy; its reason is the refusal's one sentence. */
export function refusalError(refusal: Refusal): VarlinkError {
  const { message: reason } = refusal;
  switch (refusal.kind) {
    case 'NotSigned':
      return new NotSigned({ ...refusal.parameters, reason });
    case 'SignatureInvalid':
      return new SignatureInvalid({ reason });
    case 'KeyNotTrusted':
      return new KeyNotTrusted({ keyIds: [...refusal.parameters.keyIds], reason });
    case 'Expired':
      return new Expired({ ...refusal.parameters, reason });
    case 'RolledBack':
      return new RolledBack({ ...refusal.parameters, reason });
    case 'DeniedByPolicy':
      return new DeniedByPolicy({ reason });
    case 'StoreNotFound':
      return new StoreNotFound({ ...refusal.parameters, reason });
    case 'IncompatibleImage':
      return new IncompatibleImage({ reason });
  }
}

/** What a failure is to the peer, and why, for the audit line. `bug` marks what should never happen. */
export interface Told {
  readonly error: VarlinkError;
  readonly reason: string;
  readonly bug: boolean;
}

/** The one table from what stages throw to what the peer is told. What is not in it is a bug, told without detail. */
export function tell(thrown: unknown): Told {
  const told = (error: VarlinkError, reason: string = error.message): Told => ({ error, reason, bug: false });
  if (thrown instanceof VarlinkError) {
    const { reason } = thrown.parameters;
    // The error's name stands beside it already.
    return told(thrown, typeof reason === 'string' ? reason : undefined);
  }
  if (thrown instanceof Refused) return told(refusalError(thrown.refusal), thrown.message);
  if (thrown instanceof ImageError) return told(new IncompatibleImage({ reason: thrown.message }));
  if (thrown instanceof KernelUnsupportedError) {
    const remedy = thrown.remedy === undefined ? '' : ` (${thrown.remedy})`;
    return told(new KernelUnsupported({ feature: `${thrown.feature}${remedy}` }));
  }
  const refused = asSyscallError(thrown);
  if (refused !== undefined) {
    return told(
      new SystemError({ call: refused.syscall, errno: refused.code, detail: refused.detail ?? '' }),
    );
  }
  if (thrown instanceof PolicyInvalid) {
    const { file, line, key, reason } = thrown.faults[0];
    return told(
      new PolicyInvalidReply({ file, line, reason: key === undefined ? reason : `${key}: ${reason}` }),
    );
  }
  return {
    error: insideError(),
    reason: thrown instanceof Error ? thrown.message : String(thrown),
    bug: true,
  };
}

/** What a peer is told of a bug; the log has it in full. */
export function insideError(): VarlinkError {
  return new SystemError({ call: '', errno: '', detail: 'an error inside the service; its log says more' });
}

/** The short name of an error: what follows the interface's name. */
export function shortName(error: VarlinkError): string {
  return error.name.slice(error.name.lastIndexOf('.') + 1);
}

/** The reply in place of one that was decided by a policy which has been replaced since. */
export function policyChangedReply(): Uint8Array {
  const error = new DeniedByPolicy({
    reason:
      'the policy was reloaded while the reply waited to be sent; a new call is decided by the new policy',
  });
  return formatReply({ parameters: error.parameters, error: error.name, continues: false });
}

/** The reply to a connection that is one too many. */
export function limitReply(met: LimitMet): Uint8Array {
  const error = new LimitExceeded({ limit: met.limit, value: met.value });
  return formatReply({ parameters: error.parameters, error: error.name, continues: false });
}
