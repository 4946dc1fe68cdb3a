import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { expect, test } from 'vitest';
import {
  BadFileDescriptor,
  mountDelegation,
  mountDelegationText,
  MountDelegationClient,
} from '../../../src/api/mount-delegation.ts';
import { Client } from '../../../src/varlink/client.ts';
import { generate } from '../../../src/varlink/generate.ts';
import { formatInterface } from '../../../src/varlink/idl-format.ts';
import { formatReply } from '../../../src/varlink/message.ts';

const source = 'io.cfsmountd.MountDelegation.varlink';
const folder = resolve(import.meta.dirname, '../../../src/api');
const text = readFileSync(resolve(folder, source), 'utf8');

test('the TypeScript is what its description generates: npm run generate', () => {
  expect(generate(text, { source, library: '../varlink' })).toBe(
    readFileSync(resolve(folder, 'mount-delegation.ts'), 'utf8'),
  );
});

test('services tell the bytes of the description', () => {
  expect(mountDelegationText).toBe(text);
});

test('the description is tidy: formatted anew it has the same bytes', () => {
  expect(formatInterface(mountDelegation)).toBe(text);
});

test('a client gets the classes of the errors, and VarlinkError for those that it does not know', async () => {
  const answers = [
    { error: 'io.cfsmountd.MountDelegation.BadFileDescriptor', parameters: { field: 'image', reason: 'no' } },
    { error: 'io.cfsmountd.MountDelegation.BadFileDescriptor', parameters: { field: 1 } },
    { error: 'io.cfsmountd.MountDelegation.Newer', parameters: {} },
  ];
  const client = new Client({
    start(receiver) {
      for (const answer of answers) {
        queueMicrotask(() => {
          receiver.received(formatReply({ ...answer, continues: false }), []);
        });
      }
    },
    send: () => undefined,
    discard: () => undefined,
    close: () => undefined,
  });
  const calls = new MountDelegationClient(client);
  const results = await Promise.allSettled(
    answers.map(() => calls.mount({ image: { fileDescriptor: 0 } }, [5])),
  );
  const reasons = results.map((result) =>
    result.status === 'rejected' ? (result.reason as unknown) : undefined,
  );
  expect(reasons[0]).toBeInstanceOf(BadFileDescriptor);
  expect(reasons[0]).toMatchObject({ parameters: { field: 'image', reason: 'no' } });
  expect(reasons[1]).not.toBeInstanceOf(BadFileDescriptor);
  expect(reasons[1]).toMatchObject({ name: 'io.cfsmountd.MountDelegation.BadFileDescriptor' });
  expect(reasons[2]).toMatchObject({ name: 'io.cfsmountd.MountDelegation.Newer' });
});
