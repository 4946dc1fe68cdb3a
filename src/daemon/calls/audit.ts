import pino, { type Logger } from 'pino';
import type { Evidence } from '../../policy/question.ts';
import { exitNow } from '../../sys/exit.ts';
import { limits } from '../callers/limits.ts';
import type { LogLevel } from './log-level.ts';
import { LogOutput } from './log-output.ts';
import type { Peer } from '../callers/peer.ts';

/** The daemon's log: JSON lines on standard output. */
export type Log = Logger;

/** The daemon's log, and its lines about decisions, which no level leaves out. */
export interface Logs {
  readonly log: Log;
  readonly decisions: Log;
  readonly output: LogOutput;
}

/** The log, on standard output. A decision is on record before its reply is out, as long as somebody reads (LogOutput). */
export function openLog(level: LogLevel): Logs {
  const output = new LogOutput(1, limits.logBytes, () => {
    // Decisions that nobody can look up later are not to be made; the service manager starts the service with a new log.
    exitNow(1);
  });
  const options = { base: null, formatters: { level: (label: string) => ({ level: label }) } };
  return {
    log: pino({ ...options, level }, output.others),
    decisions: pino({ ...options, level: 'info' }, output.decisions),
    output,
  };
}

/** What was decided on one request. */
export interface Decided {
  readonly method: 'Mount' | 'Verify' | 'AddObjects';
  readonly peer: Peer;
  /** The image's measured digest; undefined where the request ended before there was one. */
  readonly digest: string | undefined;
  readonly evidence: Evidence | undefined;
  /** The rule that refused, where one did. */
  readonly rule: string | undefined;
  /** Where files were to be added, and what was: also where something was refused after it. */
  readonly store: string | undefined;
  readonly added: readonly { readonly bytes: number }[];
  /** `allowed`, or the name of the error. */
  readonly result: string;
  readonly reason: string | undefined;
  readonly milliseconds: number;
}

/** Writes the `audit` line of a decision to the log `decisions`. `user` is who counts as the caller, `uid` what the kernel reports. */
export function audit(log: Log, decided: Decided): void {
  const { peer, evidence } = decided;
  log.info(
    {
      method: decided.method,
      pid: peer.pid,
      uid: peer.uid,
      user: peer.caller.uid,
      digest: decided.digest,
      name: evidence?.name,
      version: evidence?.version,
      signers: evidence?.signers,
      rule: evidence?.rule ?? decided.rule,
      ...(decided.store !== undefined && { store: decided.store, ...addedFields(decided.added) }),
      result: decided.result,
      reason: decided.reason,
      milliseconds: Math.round(decided.milliseconds * 1000) / 1000,
    },
    'audit',
  );
}

function addedFields(added: Decided['added']): { addedFiles: number; addedBytes: number } {
  return { addedFiles: added.length, addedBytes: added.reduce((sum, { bytes }) => sum + bytes, 0) };
}
