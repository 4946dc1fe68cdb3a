import { describe, expect, test } from 'vitest';
import { DerInvalid } from '../../../src/trust/der.ts';
import { formatName } from '../../../src/trust/distinguished-name.ts';

const wrap = (tag: number, ...parts: readonly Buffer[]): Buffer => {
  const body = Buffer.concat(parts);
  return Buffer.concat([Buffer.from([tag, body.length]), body]);
};
const commonName = Buffer.from('0603550403', 'hex');
const attribute = (tag: number, value: Buffer | string, type = commonName): Buffer =>
  wrap(0x30, type, wrap(tag, Buffer.from(value)));
const name = (...attributes: readonly Buffer[]): Buffer => wrap(0x30, wrap(0x31, ...attributes));

describe('a name', () => {
  test.each([
    ['UTF8String', attribute(12, 'Bär'), 'CN=Bär'],
    ['PrintableString', attribute(19, 'a'), 'CN=a'],
    ['BMPString', attribute(30, Buffer.from('004200e40072', 'hex')), 'CN=Bär'],
    ['a value that is not of its encoding', attribute(12, Buffer.from([0xff])), 'CN=#0c01ff'],
    ['TeletexString', attribute(20, 'a'), 'CN=#140161'],
    ['an unknown attribute', attribute(12, 'a', Buffer.from('06032a0304', 'hex')), '1.2.3.4=a'],
    ['what would look like more of the name', attribute(12, 'a, O=b'), 'CN="a, O=b"'],
    ['quotes', attribute(12, String.raw`a"\ `), String.raw`CN="a\"\\ "`],
  ])('%s', (_what, value, text) => {
    expect(formatName(name(value))).toBe(text);
  });

  test('of several parts', () => {
    expect(formatName(name(attribute(12, 'a'), attribute(12, 'b')))).toBe('CN=a+CN=b');
    const two = wrap(0x30, wrap(0x31, attribute(12, 'a')), wrap(0x31, attribute(12, 'b')));
    expect(formatName(two)).toBe('CN=a, CN=b');
    expect(formatName(wrap(0x30))).toBe('');
  });

  test.each([
    ['not a sequence', attribute(12, 'a').subarray(2)],
    ['no DER', Buffer.from('3005', 'hex')],
    ['an attribute without a value', name(wrap(0x30, commonName))],
  ])('%s is none', (_what, bytes) => {
    expect(() => formatName(bytes)).toThrow(DerInvalid);
  });
});
