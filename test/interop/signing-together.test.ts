import { execFile, execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, test } from 'vitest';

import { parsePublicKey } from '../../src/trust/key.ts';
import { verifySignatures } from '../../src/trust/verify.ts';
import { verityDigest } from '../../src/verity/verity.ts';

const program = resolve(import.meta.dirname, '../../dist/cli/cfs-mountctl.cjs');
const start = promisify(execFile);
const names = ['a', 'b', 'c', 'd', 'e', 'f'];

let folder: string;
let image: string;

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'cfs-together-'));
  image = join(folder, 'image');
  const bytes = Buffer.alloc(5000);
  bytes.writeUInt32LE(0xe0f5e1e2, 1024);
  writeFileSync(image, bytes);
  for (const name of names) execFileSync(process.execPath, [program, 'keygen', '-o', join(folder, name)]);
});

afterAll(() => {
  rmSync(folder, { recursive: true, force: true });
});

function sign(name: string, ...more: readonly string[]): Promise<unknown> {
  return start(process.execPath, [program, 'sign', image, '--key', join(folder, name), ...more]);
}

test('signatures that are added at once are all there', async () => {
  await Promise.all(names.map((name) => sign(name, '--name', 'site/app')));
  const keys = names.map((name) => parsePublicKey(readFileSync(join(folder, `${name}.pub`), 'utf8')));
  const files = [readFileSync(`${image}.sig`)];
  const { statements, faults } = verifySignatures(files, verityDigest(readFileSync(image)), keys);
  expect(faults).toEqual([]);
  expect(statements).toHaveLength(1);
  expect([...(statements[0]?.signers ?? [])].sort()).toEqual(keys.map(({ id }) => id).sort());
  expect(readdirSync(folder).filter((name) => name.endsWith('.tmp'))).toEqual([]);
});

test('of signatures that a file can hold one of, made at once, one is there and the others say so', async () => {
  const output = join(folder, 'bare');
  const results = await Promise.allSettled(
    names.map((name) => sign(name, '--format', 'ssh', '--output', output)),
  );
  const failed = results.filter(({ status }) => status === 'rejected');
  expect(failed).toHaveLength(names.length - 1);
  for (const result of failed)
    expect(result).toMatchObject({
      reason: { stderr: expect.stringContaining('it exists already') as unknown },
    });
});
