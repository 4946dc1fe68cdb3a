import { describe, expect, test } from 'vitest';
import { DerInvalid, parseDer } from '../../../src/trust/der.ts';

const bytes = (hex: string): Uint8Array => new Uint8Array(Buffer.from(hex.replaceAll(' ', ''), 'hex'));

describe('what is refused by name', () => {
  test.each([
    ['an indefinite length', '3080 0500 0000', 'an indefinite length at 1'],
    ['an indefinite length within', '3006 3080 0500 0000', 'an indefinite length at 3'],
    ['a length in the long form that needs none', '308102 0500', 'not in its shortest form'],
    ['a length with leading zeros', `3082 0080 ${'0500'.repeat(64)}`, 'not in its shortest form'],
    ['a length of five bytes', '30 85 0000000002 0500', 'a length of 5 bytes'],
    ['a length of 126 bytes', `30fe ${'ff'.repeat(126)}`, 'a length of 126 bytes'],
    ['a length of four gigabytes', '3084 ffffffff 0500', 'a length of 4294967295 at 1'],
    ['a length beyond what holds it', '3002 3002 0500', 'beyond what holds it'],
    ['bytes behind the end', '3002 0500 00', '1 bytes behind the end'],
    ['nothing at all', '', 'cut short at 0'],
    ['a tag without a length', '30', 'cut short at 1'],
    ['a tag of several bytes', '3f8101 00', 'a tag of several bytes'],
    ['an octet string in pieces', '2404 0402 0000', 'a constructed OCTET STRING'],
    ['the end of contents as a value', '3002 0000', 'the tag 0 at 2'],
    ['a type that nobody uses', '3003 090100', 'the tag 9 at 2'],
    ['a primitive sequence', '1002 0500', 'the tag 16 at 0'],
    ['true that is not ff', '010101', 'the BOOLEAN at 0'],
    ['a number with leading zeros', '02020001', 'the INTEGER at 0'],
    ['a negative number with leading ones', '0202ffff', 'the INTEGER at 0'],
    ['a number of no bytes', '0200', 'the INTEGER at 0'],
    ['unused bits that are set', '03020101', 'the BIT STRING at 0'],
    ['eight unused bits', '03020800', 'the BIT STRING at 0'],
    ['unused bits of nothing', '030101', 'the BIT STRING at 0'],
    ['a null with something in it', '050100', 'the NULL at 0'],
    ['an identifier with a leading zero', '0603 2a8001', 'the OBJECT IDENTIFIER at 0'],
    ['an identifier that does not end', '0602 2a86', 'the OBJECT IDENTIFIER at 0'],
    ['an arc of more than 32 bits', '0607 2a 818181818101', 'the OBJECT IDENTIFIER at 0'],
    ['a time without seconds', `170b${Buffer.from('2601010000Z').toString('hex')}`, 'the UTCTime at 0'],
    ['a time in another zone', `1711${Buffer.from('260101000000+0100').toString('hex')}`, 'the UTCTime'],
    ['31 February', `170d${Buffer.from('260231000000Z').toString('hex')}`, 'the UTCTime at 0'],
    ['29 February 2026', `180f${Buffer.from('20260229000000Z').toString('hex')}`, 'the GeneralizedTime'],
    ['a fraction', `1811${Buffer.from('20260228000000.5Z').toString('hex')}`, 'the GeneralizedTime'],
  ])('%s', (_name, hex, message) => {
    expect(() => parseDer(bytes(hex), 1000)).toThrow(DerInvalid);
    expect(() => parseDer(bytes(hex), 1000)).toThrow(message);
  });

  test('deep nesting', () => {
    const nested = (levels: number): Uint8Array => {
      let inner = bytes('0500');
      for (let level = 1; level < levels; level++) inner = new Uint8Array([0x30, inner.length, ...inner]);
      return inner;
    };
    expect(parseDer(nested(24), 1000).tag).toBe(0x30);
    expect(() => parseDer(nested(25), 1000)).toThrow('nested deeper than 24 levels');
  });

  test('many values, and many bytes', () => {
    const flat = (count: number): Uint8Array => {
      const length = 2 * count;
      return new Uint8Array([0x30, 0x82, length >> 8, length & 0xff, ...bytes('0500'.repeat(count))]);
    };
    expect(parseDer(flat(4095), 10_000).children).toHaveLength(4095);
    expect(() => parseDer(flat(4096), 10_000)).toThrow('more than 4096 values');
    expect(() => parseDer(flat(4096), 1000)).toThrow('longer than 1000 bytes');
  });
});

test('says where everything lies', () => {
  const { tag, contentStart, end, children } = parseDer(bytes('a006 020101 040105'), 1000);
  expect({ tag, contentStart, end }).toEqual({ tag: 0xa0, contentStart: 2, end: 8 });
  expect(children.map((child) => [child.tag, child.start, child.contentStart, child.end])).toEqual([
    [2, 2, 4, 5],
    [4, 5, 7, 8],
  ]);
});

test.each(['010100', '0101ff', '02020080', '0302007f', '030205a0', '0603550403'])('takes %s', (hex) => {
  expect(parseDer(bytes(hex), 100).start).toBe(0);
});
