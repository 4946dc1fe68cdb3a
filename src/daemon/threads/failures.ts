import { KernelUnsupportedError } from '../../mount/plan.ts';
import { asSyscallError, SyscallError } from '../../sys/errno.ts';
import { VarlinkError } from '../../varlink/error.ts';
import type { JsonObject } from '../../varlink/message.ts';

/** A failure as plain data, so that it can pass from one thread to another and be thrown again there. */
export type Failure =
  | {
      readonly kind: 'call';
      readonly syscall: string;
      readonly code: string;
      readonly detail: string | undefined;
    }
  | { readonly kind: 'refusal'; readonly name: string; readonly parameters: JsonObject }
  | { readonly kind: 'kernel'; readonly feature: string; readonly remedy: string | undefined }
  | { readonly kind: 'bug'; readonly message: string; readonly stack: string | undefined };

/** `error` as data. What is none of the failures that are expected counts as a bug. */
export function toFailure(error: unknown): Failure {
  const call = asSyscallError(error);
  if (call !== undefined)
    return { kind: 'call', syscall: call.syscall, code: call.code, detail: call.detail };
  if (error instanceof VarlinkError)
    return { kind: 'refusal', name: error.name, parameters: error.parameters };
  if (error instanceof KernelUnsupportedError) {
    return { kind: 'kernel', feature: error.feature, remedy: error.remedy };
  }
  if (error instanceof Error) return { kind: 'bug', message: error.message, stack: error.stack };
  return { kind: 'bug', message: String(error), stack: undefined };
}

/** The error that `toFailure` was given, as far as data can carry it: names, parameters and messages are the same. */
export function fromFailure(failure: Failure): Error {
  switch (failure.kind) {
    case 'call':
      return new SyscallError(failure.syscall, failure.code, failure.detail);
    case 'refusal':
      return new VarlinkError(failure.name, failure.parameters);
    case 'kernel':
      return new KernelUnsupportedError(failure.feature, failure.remedy);
    case 'bug': {
      const error = new Error(failure.message);
      if (failure.stack !== undefined) error.stack = failure.stack;
      return error;
    }
  }
}
