import { isAbsolute, normalize } from 'node:path';
import type { Digest } from '../base/digest.ts';
import { parseDigest } from '../base/digest.ts';
import type { FileSystem } from '../trust/file-system.ts';
import { fileSystems } from '../trust/file-system.ts';
import type { Accounts } from './accounts.ts';
import { idMax } from './accounts.ts';
import { FieldInvalid } from './fault.ts';
import { nearestName } from './nearest-name.ts';
import type { Attribute, SignatureFormat, UserMatch, VerityLevel } from './policy.ts';
import { attributes, signatureFormats } from './policy.ts';

// Parsers of single values of the policy. Each throws FieldInvalid with a reason that reads well behind the field's name.

/** A name of a rule, key or store: one line of at most 128 characters. */
export function parseLabel(text: string): string {
  if (text.length === 0 || text.length > 128) throw new FieldInvalid('not 1 to 128 characters');
  if (/[\p{Cc}\p{Zl}\p{Zp}]/u.test(text)) throw new FieldInvalid('holds a control character');
  return text;
}

/** An absolute path that is written in just one way. */
export function parseDirectory(text: string): string {
  if (!isAbsolute(text)) throw new FieldInvalid(`"${text}" is no absolute path`);
  if (text.includes('\0')) throw new FieldInvalid('holds a zero byte');
  const plain = normalize(text);
  const trimmed = plain.length > 1 && plain.endsWith('/') ? plain.slice(0, -1) : plain;
  if (trimmed !== text) throw new FieldInvalid(`"${text}" is not in its plain form, "${trimmed}"`);
  return text;
}

export function parseDigestValue(text: string): Digest {
  const digest = parseDigest(text);
  if (digest === undefined) throw new FieldInvalid('not "sha256:" and 64 lower-case hexadecimal digits');
  return digest;
}

/** The one of `choices` that `text` is. */
export function parseChoice<Choice extends string>(choices: readonly Choice[]): (text: string) => Choice {
  return (text) => {
    const choice = choices.find((known) => known === text);
    if (choice !== undefined) return choice;
    const nearest = nearestName(text, choices);
    const hint = nearest === undefined ? `known are ${choices.join(', ')}` : `did you mean "${nearest}"?`;
    throw new FieldInvalid(`"${text.slice(0, 64)}" is not known; ${hint}`);
  };
}

export const parseFileSystemValue: (text: string) => FileSystem = parseChoice(fileSystems);

export const parseAttribute: (text: string) => Attribute = parseChoice(attributes);

const parseVerityName = parseChoice(['require', 'if-present', 'never']);

export function parseVerityLevel(text: string): VerityLevel {
  const name = parseVerityName(text);
  return name === 'if-present' ? 'ifPresent' : name;
}

export const parseSignatureFormat: (text: string) => SignatureFormat = parseChoice(signatureFormats);

/** A user's name or ID, a range of IDs, or "*". */
export function parseUser(text: string, accounts: Accounts): UserMatch {
  if (text === '*') return { kind: 'everybody' };
  const range = /^(\d{1,10})-(\d{1,10})$/.exec(text);
  if (range !== null) {
    const first = parseId(range[1] ?? '');
    const last = parseId(range[2] ?? '');
    if (first > last) throw new FieldInvalid(`the range "${text}" ends before it begins`);
    return { kind: 'ids', first, last };
  }
  const id = /^\d+$/.test(text) ? parseId(text) : accounts.user(text);
  if (id === undefined) throw new FieldInvalid(`no user "${text.slice(0, 64)}" on this machine`);
  return { kind: 'ids', first: id, last: id };
}

/** A group's name or ID. */
export function parseGroup(text: string, accounts: Accounts): number {
  const id = /^\d+$/.test(text) ? parseId(text) : accounts.group(text);
  if (id === undefined) throw new FieldInvalid(`no group "${text.slice(0, 64)}" on this machine`);
  return id;
}

function parseId(text: string): number {
  const id = Number(text);
  if (text.length > 10 || id > idMax) throw new FieldInvalid(`"${text}" is above the greatest ID, ${idMax}`);
  return id;
}
