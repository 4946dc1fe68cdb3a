import { readdirSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { describe, expect, test } from 'vitest';
import { parseAccounts } from '../../src/policy/accounts.ts';
import { FieldInvalid, PolicyInvalid } from '../../src/policy/fault.ts';
import { parsePolicy } from '../../src/policy/parse.ts';
import type { PolicyFile } from '../../src/policy/parse.ts';
import { matchesPattern, parsePattern } from '../../src/policy/pattern.ts';
import type { Policy } from '../../src/policy/policy.ts';
import { decide } from '../../src/policy/decide.ts';
import { explain } from '../../src/policy/explain.ts';
import { digestFromBytes } from '../../src/base/digest.ts';
import type { Question } from '../../src/policy/question.ts';
import { fileSystems } from '../../src/trust/file-system.ts';
import { Random } from '../support/random.ts';

const examples = resolve(import.meta.dirname, '../../policy/examples');
const words = [
  '[[',
  ']]',
  '[[rules]]',
  '"',
  "'''",
  '"""',
  '=',
  ',',
  '\n',
  '#',
  '{',
  '}',
  '[]',
  'true',
  '1979-05-27',
  'name',
  '\\',
  '\r',
] as const;

interface Example {
  readonly files: readonly PolicyFile[];
  readonly keys: ReadonlyMap<string, string>;
}

const all: readonly Example[] = readdirSync(examples).map((name) => {
  const read = (folder: string): [string, string][] => {
    const path = join(examples, name, folder);
    const there = readdirSync(join(examples, name)).includes(folder);
    return there ? readdirSync(path).map((file) => [file, readFileSync(join(path, file), 'utf8')]) : [];
  };
  return { files: read('policy.d').map(([path, text]) => ({ path, text })), keys: new Map(read('keys.d')) };
});

function parse(files: readonly PolicyFile[], keys: ReadonlyMap<string, string>): Policy {
  return parsePolicy(files, {
    accounts: parseAccounts('', ''),
    complete: true,
    checkDirectory: () => undefined,
    realPath: (path) => path,
    readKey: (_file, name) => {
      const text = keys.get(name);
      if (text === undefined) throw new FieldInvalid('no such file');
      return { path: name, text };
    },
  });
}

describe('a changed policy', () => {
  test.each(all)('example %$ loads, or says what is wrong and in which line', ({ files, keys }) => {
    const random = new Random(11);
    for (let round = 0; round < 500; round++) {
      const changed = files.map(({ path, text }) => ({
        path,
        text: Buffer.from(random.mutate(Buffer.from(text), words)).toString('utf8'),
      }));
      try {
        parse(changed, keys);
      } catch (error) {
        if (!(error instanceof PolicyInvalid)) throw error;
        for (const fault of error.faults) {
          const lines = changed.find(({ path }) => path === fault.file)?.text.split('\n').length ?? 0;
          expect(fault.line, `seed ${random.seed}, round ${round}: ${error.message}`).toBeGreaterThanOrEqual(
            1,
          );
          expect(fault.line).toBeLessThanOrEqual(lines);
          expect(fault.reason).not.toContain('\n');
        }
      }
    }
  });
});

describe('any question', () => {
  test.each(all)('example %$ answers, and explains the same', ({ files, keys }) => {
    const policy = parse(files, keys);
    const random = new Random(12);
    for (let round = 0; round < 2000; round++) {
      const question = anyQuestion(random, policy);
      const decision = decide(policy, question);
      expect(explain(policy, question).decision).toEqual(decision);
      const where = `seed ${random.seed}, round ${round}`;
      if (decision.outcome === 'deny') {
        expect(decision.refusal.message.length, where).toBeGreaterThan(0);
        continue;
      }
      const { rule, constraints, evidence } = decision;
      expect(policy.revokedDigests.has(question.digest), where).toBe(false);
      expect(rule.unsigned && !question.allowUnsigned, where).toBe(false);
      expect(
        new Set(evidence.signers).size >= (rule.signedBy === undefined ? 0 : rule.threshold),
        where,
      ).toBe(true);
      const level = constraints.verity;
      expect(
        level === 'require' && constraints.stores.some(({ verity }) => verity === 'trusted'),
        where,
      ).toBe(false);
      expect(rule.verity === 'require' && level !== 'require', where).toBe(false);
      expect(question.clientStores && (!rule.clientStores || level !== 'require'), where).toBe(false);
    }
  });
});

function anyQuestion(random: Random, policy: Policy): Question {
  const flag = (): boolean => random.below(2) === 0;
  const digest = digestFromBytes(new Uint8Array(32).fill(random.pick([0x11, 0x22, 0x33])));
  const keys = [...policy.keys.values()].map(({ key }) => key.id).filter(flag);
  const names = ['registry.example.org/distro/a', 'team.example.org/a', 'a'] as const;
  const statement = {
    name: random.pick(names),
    digest,
    fileSystem: random.pick(fileSystems),
    ...(flag() && { version: random.below(3) }),
    ...(random.below(4) === 0 && { expires: new Date('2026-01-01T00:00:00Z') }),
  };
  const newest = random.pick([undefined, 0, 2]);
  return {
    caller: { uid: random.pick([0, 990, 1000, 70_000]), root: flag(), gids: [random.below(1000)] },
    digest,
    location: flag() ? '/usr/lib/cfs-images/a.cfs' : undefined,
    fileSystem: flag() ? random.pick(fileSystems) : undefined,
    verification: {
      statements: flag() ? [{ statement, signers: keys, unknownKeyIds: flag() ? ['x'] : [] }] : [],
      digestSignatures: flag()
        ? [{ format: 'ssh', signers: keys.filter(flag), unknownKeyIds: flag() ? ['SHA256:x'] : [] }]
        : [],
      faults: flag() ? ['a fault'] : [],
    },
    allowUnsigned: flag(),
    verity: random.pick([undefined, 'never', 'ifPresent', 'require']),
    stores: random.pick([undefined, [], ['system'], ['none']]),
    clientStores: random.below(4) === 0,
    contents: random.pick([undefined, contents(false), contents(true)]),
    now: new Date(random.pick(['2025-06-01T00:00:00Z', '2026-06-01T00:00:00Z', '2030-01-01T00:00:00Z'])),
    newestVersion: () => newest,
  };
}

function contents(odd: boolean): Question['contents'] {
  return { fileSystem: odd ? 'erofs' : 'composefs', devices: odd, missingDigest: odd };
}

test('patterns match what the same regular expression does', () => {
  const random = new Random(13);
  const make = (parts: readonly [string, ...string[]]): string =>
    Array.from({ length: 1 + random.below(8) }, () => random.pick(parts)).join('');
  for (let round = 0; round < 20_000; round++) {
    const text = make(['a', 'b', '/', '*', '**', 'a/']);
    const name = make(['a', 'b', '/', 'a/']);
    let pattern;
    try {
      pattern = parsePattern(text);
    } catch (error) {
      expect(error).toBeInstanceOf(FieldInvalid);
      continue;
    }
    const expression = text.replaceAll('**', '\0').replaceAll('*', '[^/]*').replaceAll('\0', '.*');
    const expected = new RegExp(`^${expression}$`).test(name);
    expect(matchesPattern(pattern, name), `seed ${random.seed}, round ${round}: ${text} and ${name}`).toBe(
      expected,
    );
  }
});
