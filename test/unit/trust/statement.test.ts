import { describe, expect, test } from 'vitest';
import { digestFromBytes } from '../../../src/base/digest.ts';
import { JsonInvalid, parseStrictJson } from '../../../src/trust/json.ts';
import type { Statement } from '../../../src/trust/statement.ts';
import {
  equalStatements,
  formatStatement,
  parseStatement,
  StatementInvalid,
} from '../../../src/trust/statement.ts';
import { formatTime, parseTime } from '../../../src/trust/time.ts';

const digest = digestFromBytes(new Uint8Array(32).fill(1));
const hex = '01'.repeat(32);
const text = (value: string): Uint8Array => new TextEncoder().encode(value);

const whole: Statement = {
  name: 'registry.example.org:5000/distro/base+1@x',
  digest,
  fileSystem: 'erofs',
  version: 2 ** 53 - 1,
  notBefore: new Date('2026-01-01T00:00:00Z'),
  expires: new Date('2027-01-01T00:00:00.500Z'),
};

describe('a statement', () => {
  test('is written as the contract says', () => {
    expect(new TextDecoder().decode(formatStatement(whole))).toBe(
      '{"_type":"https://in-toto.io/Statement/v1",' +
        `"subject":[{"name":"registry.example.org:5000/distro/base+1@x","digest":{"fsverity-sha256-12":"${hex}"}}],` +
        '"predicateType":"urn:cfs-mountd:image:v1",' +
        '"predicate":{"fileSystem":"erofs","version":9007199254740991,' +
        '"notBefore":"2026-01-01T00:00:00Z","expires":"2027-01-01T00:00:00.500Z"}}',
    );
  });

  test.each([whole, { name: 'a', digest, fileSystem: 'composefs' }, { ...whole, version: 0 }] as const)(
    'is read as it was written: %j',
    (statement) => {
      expect(parseStatement(formatStatement(statement))).toEqual(statement);
    },
  );

  test('has members in any order, and others outside the predicate', () => {
    const foreign = {
      predicate: { fileSystem: 'composefs' },
      predicateType: 'urn:cfs-mountd:image:v1',
      subject: [{ annotations: {}, digest: { 'fsverity-sha256-12': hex }, name: 'a' }],
      _type: 'https://in-toto.io/Statement/v1',
      more: [],
    };
    expect(parseStatement(text(JSON.stringify(foreign, undefined, 2)))).toEqual({
      name: 'a',
      digest,
      fileSystem: 'composefs',
    });
  });

  const written = new TextDecoder().decode(
    formatStatement({ name: 'a', digest, fileSystem: 'composefs', version: 1 }),
  );

  test.each([
    ['another type', 'Statement/v1', 'Statement/v0.1', '_type'],
    ['another predicate type', 'image:v1', 'image:v2', 'predicateType'],
    ['no subject', '"subject":[', '"subject":[],"x":[', 'subject is not a list of one'],
    ['two subjects', '"subject":[', '"subject":[{},', 'subject is not a list of one'],
    ['no name', '"name"', '"nam"', 'subject[0].name'],
    ['an empty name', '"name":"a"', '"name":""', 'the name is not'],
    ['a name with a dot segment', '"name":"a"', '"name":"a/../b"', 'the name is not'],
    ['a name too long', '"name":"a"', `"name":"${'a'.repeat(256)}"`, 'the name is not'],
    ['a name with a line end', '"name":"a"', '"name":"a\\n"', 'the name is not'],
    ['another digest', 'sha256-12', 'sha512-12', 'subject[0].digest'],
    ['a second digest', '"digest":{', '"digest":{"sha256":"00",', 'subject[0].digest'],
    ['a digest in capitals', hex, 'AB'.repeat(32), 'subject[0].digest'],
    ['no filesystem', '"fileSystem":"composefs",', '', 'predicate.fileSystem'],
    ['a filesystem of no kind', '"composefs"', '"ntfs"', 'predicate.fileSystem'],
    ['another member of the predicate', '"version"', '"more":1,"version"', 'predicate.more'],
    ['__proto__ in the predicate', '"version"', '"__proto__":{},"version"', 'predicate.__proto__'],
    ['a negative version', '"version":1', '"version":-1', 'version'],
    ['a version of 2^53', '"version":1', '"version":9007199254740992', 'version'],
    ['a version as text', '"version":1', '"version":"1"', 'version'],
    ['a version that is null', '"version":1', '"version":null', 'version'],
    ['a version with a fraction', '"version":1', '"version":1.0', 'not whole'],
    ['a version with an exponent', '"version":1', '"version":1e2', 'not whole'],
    ['a member twice', '"version":1', '"version":1,"version":2', 'twice'],
    ['a member twice, once escaped', '"version":1', '"version":1,"\\u0076ersion":2', 'twice'],
    ['a date alone', '"version":1', '"expires":"2026-01-01"', 'predicate.expires'],
    ['a time that is null', '"version":1', '"notBefore":null', 'predicate.notBefore'],
    ['something behind it', '}}', '}}x', 'a syntax error'],
    ['a byte order mark', '{"_type"', '\ufeff{"_type"', 'a syntax error'],
  ])('with %s is refused', (_what, from, to, expected) => {
    expect(written).toContain(from);
    expect(() => parseStatement(text(written.replace(from, to)))).toThrow(StatementInvalid);
    expect(() => parseStatement(text(written.replace(from, to)))).toThrow(expected);
  });

  test.each(['null', '[]', '1', '""', '{}', ''])('is not %j', (json) => {
    expect(() => parseStatement(text(json))).toThrow(StatementInvalid);
  });

  test('cannot be written with a name or version that could not be read', () => {
    expect(() => formatStatement({ ...whole, name: 'a b' })).toThrow(StatementInvalid);
    expect(() => formatStatement({ ...whole, version: 0.5 })).toThrow(StatementInvalid);
  });

  test('equals another that says the same', () => {
    expect(equalStatements(whole, { ...whole, expires: new Date('2027-01-01T00:00:00.500Z') })).toBe(true);
    expect(equalStatements(whole, { ...whole, version: 1 })).toBe(false);
    expect(equalStatements(whole, { name: whole.name, digest, fileSystem: 'erofs' })).toBe(false);
  });
});

describe('times', () => {
  test.each([
    ['2026-01-31T12:00:00Z', '2026-01-31T12:00:00.000Z'],
    ['2024-02-29T00:00:00Z', '2024-02-29T00:00:00.000Z'],
    ['2026-01-31T12:00:00+02:00', '2026-01-31T10:00:00.000Z'],
    ['2026-01-31T12:00:00.123456789-00:30', '2026-01-31T12:30:00.123Z'],
  ])('%s is %s', (time, expected) => {
    expect(parseTime(time)?.toISOString()).toBe(expected);
  });

  test.each([
    '2026-02-29T00:00:00Z',
    '2026-02-31T00:00:00Z',
    '2026-13-01T00:00:00Z',
    '2026-01-01T24:00:00Z',
    '2026-01-01T00:00:60Z',
    '2026-01-01T00:00:00',
    '2026-01-01 00:00:00Z',
    '2026-01-01T00:00Z',
    '2026-01-01T00:00:00+24:00',
    '2026-01-01T00:00:00.Z',
    '+02026-01-01T00:00:00Z',
    'now',
  ])('%s is none', (time) => {
    expect(parseTime(time)).toBeUndefined();
  });

  test('are written without a fraction of nothing', () => {
    expect(formatTime(new Date('2026-01-01T00:00:00Z'))).toBe('2026-01-01T00:00:00Z');
    expect(formatTime(new Date('2026-01-01T00:00:00.001Z'))).toBe('2026-01-01T00:00:00.001Z');
  });
});

describe('strict JSON', () => {
  test.each(['{"a":[1,-2,{"b":"\\"}{"}],"c":null}', '[]', '"x"', ' {"a" : {"a" : 1}} ', '[{"a":1},{"a":1}]'])(
    'takes %s',
    (json) => {
      expect(parseStrictJson(text(json))).toEqual(JSON.parse(json));
    },
  );

  test.each([
    '{"a":1,"a":1}',
    '{"a":{"b":1,"b":2}}',
    '{"a":1,"\\u0061":2}',
    '{"":1,"" :2}',
    '1.5',
    '[1e1]',
    '{',
    `${'['.repeat(17)}${']'.repeat(17)}`,
  ])('refuses %s', (json) => {
    expect(() => parseStrictJson(text(json))).toThrow(JsonInvalid);
  });

  test('refuses bytes that are not UTF-8', () => {
    expect(() => parseStrictJson(new Uint8Array([0x22, 0xff, 0x22]))).toThrow('not UTF-8');
    expect(() => parseStrictJson(new Uint8Array([0x22, 0xed, 0xa0, 0x80, 0x22]))).toThrow('not UTF-8');
  });
});
