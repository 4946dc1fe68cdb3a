import { describe, expect, test } from 'vitest';
import { ProtocolError } from '../../../src/varlink/error.ts';
import { formatCall, formatReply, parseCall, parseReply } from '../../../src/varlink/message.ts';

const frame = (text: string): Uint8Array => Buffer.from(text);
const text = (bytes: Uint8Array): string => Buffer.from(bytes).toString('utf8');
const plain = { parameters: {}, oneway: false, more: false, upgrade: false };

describe('calls', () => {
  test.each([
    ['{"method":"a.b.C"}', { ...plain, method: 'a.b.C' }],
    ['{"method":"a.b.C","parameters":{"x":[1]}}', { ...plain, method: 'a.b.C', parameters: { x: [1] } }],
    ['{"method":"a.b.C","more":true}', { ...plain, method: 'a.b.C', more: true }],
    ['{"method":"a.b.C","oneway":true,"more":false}', { ...plain, method: 'a.b.C', oneway: true }],
    ['{"method":"a.b.C","upgrade":true}', { ...plain, method: 'a.b.C', upgrade: true }],
    ['{"method":"a.b.C","parameters":null,"more":null}', { ...plain, method: 'a.b.C' }],
    ['{"method":"a.b.C","unknown":{"to":"us"}}', { ...plain, method: 'a.b.C' }],
    ['{"method":""}', { ...plain, method: '' }],
  ])('%s', (json, call) => {
    expect(parseCall(frame(json))).toEqual(call);
  });

  test.each([
    '',
    'x',
    'null',
    '[]',
    '"a.b.C"',
    '{}',
    '{"method":1}',
    '{"method":null}',
    '{"method":"a.b.C","method":"a.b.D"}',
    '{"method":"a.b.C","parameters":[]}',
    '{"method":"a.b.C","parameters":"x"}',
    '{"method":"a.b.C","parameters":{},"parameters":{}}',
    '{"method":"a.b.C","more":1}',
    '{"method":"a.b.C","oneway":"true"}',
    '{"method":"a.b.C","oneway":true,"more":true}',
    '{"__proto__":{"method":"a.b.C"}}',
    '{"method":"a.b.C"}\n{',
  ])('refused: %s', (json) => {
    expect(() => parseCall(frame(json))).toThrow(ProtocolError);
  });

  test.each([
    ['{"image":{"name":"a","name":"b"}}', 'image.name', 'is given twice'],
    ['{"fd":[1,9007199254740992]}', 'fd[1]', 'is beyond ±(2^53 - 1)'],
    ['{"a":[[[[]]]]}', 'a[0][0]', 'is nested deeper than 4 levels'],
    ['{"a":1,"a":1}', 'a', 'is given twice'],
  ])(
    'parameters that readers understand differently are a fault of the call: %s',
    (json, parameter, reason) => {
      const call = parseCall(frame(`{"method":"a.b.C","parameters":${json},"oneway":true}`), { depthMax: 4 });
      expect(call).toMatchObject({ method: 'a.b.C', oneway: true, fault: { parameter, reason } });
    },
  );

  test('format and parse again', () => {
    const call = {
      method: 'a.b.C',
      parameters: { text: 'ä\0"', n: null, list: [1, {}] },
      oneway: false,
      more: true,
      upgrade: false,
    };
    const bytes = formatCall(call);
    expect(bytes.indexOf(0)).toBe(bytes.length - 1);
    expect(parseCall(bytes.subarray(0, -1))).toEqual(call);
    expect(text(formatCall({ ...plain, method: 'a.b.C' }))).toBe('{"method":"a.b.C","parameters":{}}\0');
    expect(text(formatCall({ ...plain, method: 'a.b.C', oneway: true }))).toContain('"oneway":true');
    expect(text(formatCall({ ...plain, method: 'a.b.C', upgrade: true }))).toContain('"upgrade":true');
  });
});

describe('replies', () => {
  test.each([
    ['{}', { parameters: {}, continues: false }],
    ['{"parameters":{"a":1},"continues":true,"new":1}', { parameters: { a: 1 }, continues: true }],
    ['{"error":"a.b.E"}', { error: 'a.b.E', parameters: {}, continues: false }],
    ['{"error":null,"parameters":null}', { parameters: {}, continues: false }],
  ])('%s', (json, reply) => {
    expect(parseReply(frame(json))).toEqual(reply);
  });

  test.each([
    '[]',
    '{"error":1}',
    '{"error":""}',
    '{"error":"a.b.E","continues":true}',
    '{"continues":"no"}',
    '{"parameters":[]}',
    '{"parameters":{"a":1,"a":1}}',
    '{"parameters":{"a":18446744073709551615}}',
  ])('refused: %s', (json) => {
    expect(() => parseReply(frame(json))).toThrow(ProtocolError);
  });

  test('format', () => {
    expect(text(formatReply({ parameters: { a: 1 }, continues: false }))).toBe('{"parameters":{"a":1}}\0');
    expect(text(formatReply({ parameters: {}, continues: true }))).toBe(
      '{"parameters":{},"continues":true}\0',
    );
    expect(text(formatReply({ error: 'a.b.E', parameters: {}, continues: false }))).toBe(
      '{"error":"a.b.E","parameters":{}}\0',
    );
  });
});
