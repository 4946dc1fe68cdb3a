import { describe, expect, test } from 'vitest';
import { mountDelegation, mountDelegationText } from '../../src/api/mount-delegation.ts';
import { ProtocolError, VarlinkError } from '../../src/varlink/error.ts';
import { Frames } from '../../src/varlink/frames.ts';
import { formatInterface } from '../../src/varlink/idl-format.ts';
import { IdlError } from '../../src/varlink/idl-tokens.ts';
import { parseInterface } from '../../src/varlink/idl.ts';
import type { JsonValue } from '../../src/varlink/json.ts';
import { formatCall, formatReply, parseCall, parseReply, type Call } from '../../src/varlink/message.ts';
import { InvalidParameter, MethodNotFound } from '../../src/varlink/service.ts';
import { validateCall, validateReply } from '../../src/varlink/validate.ts';

/** Numbers that are the same for the same seed: mulberry32. */
function seeded(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) % below;
  };
}

type Random = ReturnType<typeof seeded>;

function pick<Item>(random: Random, items: readonly [Item, ...Item[]]): Item {
  return items[random(items.length)] ?? items[0];
}

const seeds = Array.from({ length: 20 }, (_, index) => index + 1);

const valid = [
  '{"method":"io.cfsmountd.MountDelegation.Mount","parameters":{"image":{"fileDescriptor":0},"verity":"require"}}',
  '{"method":"io.cfsmountd.MountDelegation.Mount","parameters":{"image":{"name":"apps/x"},"signatures":["AAAA","+/=="],"attributes":["ro","nodev"],"stores":null},"more":true}',
  '{"method":"io.cfsmountd.MountDelegation.Verify","parameters":{"image":{"name":"ä\\u00e4\\ud83d\\ude00"},"storeFileDescriptors":[1,2,3],"allowUnsigned":false},"oneway":true}',
  '{"error":"io.cfsmountd.MountDelegation.ObjectsMissing","parameters":{"count":9007199254740991,"objects":["a"],"reason":""}}',
  '{"parameters":{"mountFileDescriptor":0,"evidence":{"digest":"sha256:00","signers":[],"rule":"r"},"attributes":[]},"continues":true}',
] as const;

const pieces = [
  '{',
  '}',
  '[',
  ']',
  ':',
  ',',
  '"',
  '\\',
  '\\u',
  '\\ud800',
  'null',
  'true',
  '-',
  '0',
  '1e999',
  '9007199254740993',
  '"__proto__":',
  '"parameters":{}',
  '"method":',
  '\0',
  ' ',
  '[[[[[[[[[[[[[[[[[[[[',
  '\uFEFF',
] as const;

function mutate(random: Random, text: string): Buffer {
  const bytes = Buffer.from(text);
  let mutated: Buffer = Buffer.from(bytes);
  for (let count = 1 + random(4); count > 0; count--) {
    const at = random(mutated.length + 1);
    const end = Math.min(mutated.length, at + random(12));
    const part = pick(random, [
      Buffer.from(pick(random, pieces)),
      Buffer.from([random(256)]),
      mutated.subarray(random(mutated.length + 1)),
      Buffer.alloc(0),
    ]);
    mutated = Buffer.concat([mutated.subarray(0, at), part, mutated.subarray(random(2) === 0 ? at : end)]);
  }
  return mutated;
}

/** What the function returns; undefined where it throws one of the errors that it may. */
function may<Result>(
  run: () => Result,
  ...errors: readonly (abstract new (...parameters: never[]) => Error)[]
): Result | undefined {
  try {
    return run();
  } catch (error) {
    if (errors.some((known) => error instanceof known)) return undefined;
    throw error;
  }
}

function check(frame: Uint8Array): void {
  const call = may(() => parseCall(frame), ProtocolError);
  if (call !== undefined) {
    checkCall(call);
    if (call.fault === undefined) expect(parseCall(formatCall(call).subarray(0, -1))).toEqual(call);
  }
  const reply = may(() => parseReply(frame), ProtocolError);
  if (reply === undefined) return;
  expect(parseReply(formatReply(reply).subarray(0, -1))).toEqual(reply);
  for (const method of ['Mount', 'Verify', 'Describe', 'Reload']) {
    may(() => validateReply(mountDelegation, method, reply.parameters), ProtocolError);
  }
}

function checkCall(call: Call): void {
  const method = call.method.slice(call.method.lastIndexOf('.') + 1);
  const checked = may(
    () => validateCall(mountDelegation, method, call.parameters),
    InvalidParameter,
    MethodNotFound,
  );
  if (checked === undefined) return;
  expect(JSON.stringify(checked)).not.toContain('null');
  expect(validateCall(mountDelegation, method, checked)).toBe(checked);
}

describe('messages', () => {
  test.each(seeds)('mutated and random bytes are parsed or refused, seed %i', (seed) => {
    const random = seeded(seed);
    for (let round = 0; round < 500; round++) {
      check(mutate(random, pick(random, valid)));
      check(Buffer.from(Array.from({ length: random(40) }, () => random(256))));
      check(Buffer.from(Array.from({ length: random(30) }, () => pick(random, pieces)).join('')));
    }
  });

  test.each(valid)('cut off at any byte, they are refused: %s', (text) => {
    const bytes = Buffer.from(text);
    check(bytes);
    for (let length = 0; length < bytes.length; length++) {
      expect(() => parseCall(bytes.subarray(0, length))).toThrow(ProtocolError);
      expect(() => parseReply(bytes.subarray(0, length))).toThrow(ProtocolError);
    }
  });
});

describe('values', () => {
  function value(random: Random, depth: number): JsonValue {
    const key = (): string =>
      pick(random, ['a', 'b', '__proto__', 'constructor', '', 'ä"\\\n', '\u{1F600}', String(random(9))]);
    switch (depth === 0 ? random(4) : random(6)) {
      case 0:
        return null;
      case 1:
        return random(2) === 0;
      case 2:
        return pick(random, [0, -1, 0.25, 1e21 + 0.5, 9007199254740991, random(1000000)]);
      case 3:
        return key();
      case 4:
        return Array.from({ length: random(4) }, () => value(random, depth - 1));
      default:
        return Object.fromEntries(
          Array.from({ length: random(5) }, () => [key(), value(random, depth - 1)] as const),
        );
    }
  }

  test.each(seeds)('come back as they were, seed %i', (seed) => {
    const random = seeded(seed);
    for (let round = 0; round < 300; round++) {
      const parameters = { v: value(random, 6) };
      const call = { method: 'a.b.C', parameters, oneway: false, more: random(2) === 0, upgrade: false };
      const parsed = parseCall(formatCall(call).subarray(0, -1));
      // A number of 22 digits is written without a point, and refused as a whole number that is not exact.
      if (parsed.fault === undefined)
        expect(JSON.stringify(parsed.parameters)).toBe(JSON.stringify(parameters));
      else expect(parsed.fault.reason).toBe('is beyond ±(2^53 - 1)');
    }
  });
});

describe('frames', () => {
  test.each(seeds)('messages and descriptors come out whole however reads cut them, seed %i', (seed) => {
    const random = seeded(seed);
    for (let round = 0; round < 50; round++) {
      const messages = Array.from({ length: 1 + random(8) }, (_, index) => ({
        text: 'x'.repeat(random(40)),
        fds: random(3) === 0 ? [index * 10, index * 10 + 1] : [],
      }));
      const frames = new Frames({ messageBytesMax: 64, descriptorsMax: 4 });
      const taken: { text: string; fds: readonly number[] }[] = [];
      // As the kernel does: a read ends with what one sendmsg(2) with descriptors has sent, at the latest.
      let pending = '';
      const read = (fds: readonly number[]): void => {
        frames.push(Buffer.from(pending), fds);
        pending = '';
        if (random(2) === 0) drain();
      };
      const drain = (): void => {
        for (let next = frames.next(); next !== undefined; next = frames.next()) {
          taken.push({ text: Buffer.from(next.frame).toString(), fds: next.fds });
        }
      };
      for (const { text, fds } of messages) {
        const bytes = `${text}\0`;
        const cut = random(bytes.length + 1);
        if (cut > 0) {
          pending += bytes.slice(0, cut);
          if (fds.length > 0 || random(2) === 0) read(fds);
          pending += bytes.slice(cut);
        } else {
          pending += bytes;
          if (fds.length > 0) read(fds);
        }
        if (random(3) === 0 && pending !== '') read([]);
      }
      if (pending !== '') read([]);
      drain();
      expect(taken).toEqual(messages);
      expect(frames.pendingBytes).toBe(0);
      expect(frames.abandon()).toEqual([]);
    }
  });

  test.each(seeds)('no descriptor is lost or given twice, seed %i', (seed) => {
    const random = seeded(seed);
    for (let round = 0; round < 200; round++) {
      const frames = new Frames({ messageBytesMax: 20, descriptorsMax: 3 });
      const back: number[] = [];
      let given = 0;
      let refused = false;
      for (let count = random(12); count > 0 && !refused; count--) {
        const bytes = Buffer.from(Array.from({ length: 1 + random(16) }, () => random(4)));
        const fds = Array.from({ length: random(3) }, () => given++);
        const step = (): boolean => {
          frames.push(bytes, fds);
          for (let left = random(4); left > 0; left--) back.push(...(frames.next()?.fds ?? []));
          return true;
        };
        refused = may(step, ProtocolError) === undefined;
      }
      back.push(...frames.abandon());
      expect(back).toEqual(Array.from({ length: given }, (_, index) => index));
    }
  });
});

describe('descriptions', () => {
  const words = [
    'interface a.b\n',
    'type ',
    'method ',
    'error ',
    'T',
    'U',
    'a',
    'b_c',
    '(',
    ')',
    ':',
    ',',
    '?',
    '[]',
    '[string]',
    'int',
    'string',
    '->',
    '\n',
    '\n\n',
    '# c\n',
    ' ',
    '\r',
    'é',
  ] as const;

  test.each(seeds)('mutated and random texts are parsed or refused, seed %i', (seed) => {
    const random = seeded(seed);
    const inspect = (text: string): void => {
      const description = may(() => parseInterface(text), IdlError);
      if (description === undefined) return;
      const tidy = formatInterface(description);
      expect(formatInterface(parseInterface(tidy))).toBe(tidy);
    };
    for (let round = 0; round < 100; round++) {
      const at = random(mountDelegationText.length);
      const rest = mountDelegationText.slice(at + random(6));
      inspect(`${mountDelegationText.slice(0, at)}${random(2) === 0 ? pick(random, words) : ''}${rest}`);
      inspect(`interface a.b\n${Array.from({ length: random(20) }, () => pick(random, words)).join('')}`);
    }
  });
});

test('errors of the protocol and of methods are different things', () => {
  expect(new ProtocolError('x')).not.toBeInstanceOf(VarlinkError);
});
