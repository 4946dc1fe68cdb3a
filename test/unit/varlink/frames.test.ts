import { describe, expect, test } from 'vitest';
import { ProtocolError } from '../../../src/varlink/error.ts';
import { Frames } from '../../../src/varlink/frames.ts';

const limits = { messageBytesMax: 16, descriptorsMax: 4 };

/** Every message that is complete, as text with its descriptors. */
function take(frames: Frames): [string, ...number[]][] {
  const taken: [string, ...number[]][] = [];
  for (let next = frames.next(); next !== undefined; next = frames.next()) {
    taken.push([Buffer.from(next.frame).toString('latin1'), ...next.fds]);
  }
  return taken;
}

function push(frames: Frames, text: string, fds: number[] = []): void {
  frames.push(Buffer.from(text, 'latin1'), fds);
}

describe('bytes', () => {
  test('messages come out as they were, however they are cut', () => {
    const text = 'one\0two\0\0three\0';
    for (let a = 0; a <= text.length; a++) {
      for (let b = a; b <= text.length; b++) {
        const frames = new Frames(limits);
        for (const part of [text.slice(0, a), text.slice(a, b), text.slice(b)]) push(frames, part);
        expect(take(frames)).toEqual([['one'], ['two'], [''], ['three']]);
        expect(frames.pendingBytes).toBe(0);
      }
    }
  });

  test('what is pushed is copied, and what was taken stays as it was', () => {
    const frames = new Frames(limits);
    const buffer = Buffer.from('first\0sec');
    frames.push(buffer, []);
    buffer.fill(0x78);
    const first = frames.next();
    frames.push(Buffer.from('ond\0third\0'), []);
    const rest = take(frames);
    expect(Buffer.from(first?.frame ?? []).toString()).toBe('first');
    expect(rest).toEqual([['second'], ['third']]);
  });

  test('a message may be as long as the limit', () => {
    const frames = new Frames(limits);
    push(frames, `${'x'.repeat(16)}\0`);
    expect(take(frames)).toEqual([['x'.repeat(16)]]);
  });

  test('a longer one is refused before it is complete', () => {
    const frames = new Frames(limits);
    push(frames, 'x'.repeat(16));
    expect(() => {
      push(frames, 'x');
    }).toThrow(ProtocolError);
  });

  test('a longer one between others is refused in its turn', () => {
    const frames = new Frames(limits);
    push(frames, `a\0${'x'.repeat(17)}\0b`);
    expect(Buffer.from(frames.next()?.frame ?? []).toString()).toBe('a');
    expect(() => frames.next()).toThrow(ProtocolError);
  });

  test('what is pending is known', () => {
    const frames = new Frames(limits);
    expect(frames.pendingBytes).toBe(0);
    push(frames, 'abc\0de');
    expect(frames.pendingBytes).toBe(6);
    frames.next();
    expect(frames.pendingBytes).toBe(2);
    expect(frames.next()).toBeUndefined();
  });
});

describe('descriptors', () => {
  test('belong to the message that they came with', () => {
    const frames = new Frames(limits);
    push(frames, 'one\0', [10, 11]);
    push(frames, 'two\0');
    push(frames, 'three\0', [12]);
    expect(take(frames)).toEqual([['one', 10, 11], ['two'], ['three', 12]]);
  });

  test('belong to a message that comes in several chunks', () => {
    const frames = new Frames(limits);
    push(frames, 'on', [10]);
    expect(take(frames)).toEqual([]);
    push(frames, 'e', [11]);
    push(frames, '\0two\0');
    expect(take(frames)).toEqual([['one', 10, 11], ['two']]);
  });

  test('are not those of earlier messages that the kernel put in front', () => {
    const frames = new Frames(limits);
    push(frames, 'e\0one\0two\0', [10]);
    push(frames, 'th');
    push(frames, 'ree\0fo', [11]);
    push(frames, 'ur\0');
    expect(take(frames)).toEqual([['e'], ['one'], ['two', 10], ['three'], ['four', 11]]);
  });

  test('too many with one message are refused, and given back', () => {
    const frames = new Frames(limits);
    push(frames, 'a', [1, 2, 3]);
    expect(() => {
      push(frames, 'b', [4, 5]);
    }).toThrow(ProtocolError);
    expect(frames.abandon()).toEqual([1, 2, 3, 4, 5]);
    expect(frames.abandon()).toEqual([]);
  });

  test('those of messages that were not taken are given back, also where the bytes were refused', () => {
    const frames = new Frames(limits);
    push(frames, 'one\0', [1]);
    push(frames, 'two\0', [2]);
    expect(frames.next()?.fds).toEqual([1]);
    expect(() => {
      push(frames, 'x'.repeat(40), [3]);
    }).toThrow(ProtocolError);
    expect(frames.abandon()).toEqual([2, 3]);
    expect(frames.pendingBytes).toBe(0);
    expect(frames.next()).toBeUndefined();
  });
});

test('a message that was taken leaves no memory behind', () => {
  const bytes = 1024 * 1024;
  const part = Buffer.alloc(64 * 1024, 0x78);
  const frames = new Frames({ messageBytesMax: bytes, descriptorsMax: 4 });
  for (let sent = 0; sent < bytes; sent += part.length) push(frames, part.toString('latin1'));
  push(frames, '\0');
  const first = frames.next()?.frame;
  push(frames, 'a\0');
  const second = frames.next()?.frame;
  expect([first?.length, second?.length]).toEqual([bytes, 1]);
  // The buffer of the first is large enough for both; kept for each connection, it would not be counted against anybody.
  expect(second?.buffer).not.toBe(first?.buffer);
});

test('descriptors find their message after the buffer was given up', () => {
  const frames = new Frames(limits);
  push(frames, 'a\0', [1]);
  expect(take(frames)).toEqual([['a', 1]]);
  push(frames, 'b');
  push(frames, 'c\0', [2]);
  expect(take(frames)).toEqual([['bc', 2]]);
  push(frames, 'd\0e\0', [3]);
  expect(take(frames)).toEqual([['d'], ['e', 3]]);
});
