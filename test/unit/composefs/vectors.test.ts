import { createHash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { describe, expect, test } from 'vitest';
import { parseDump } from '../../../src/composefs/dump.ts';
import { formatDump } from '../../support/format-dump.ts';
import { dumpImage } from '../../../src/composefs/dump-image.ts';
import { DumpError } from '../../../src/composefs/errors.ts';
import { readTree } from '../../../src/composefs/read.ts';
import { scanImage } from '../../../src/composefs/scan.ts';
import type { WriteOptions } from '../../../src/composefs/write.ts';
import { writeImage } from '../../../src/composefs/write.ts';
import { absent } from '../../support/needs.ts';
import { composefsVectors } from '../../support/vectors.ts';

const folder = composefsVectors ?? '';

function readVector(name: string): Uint8Array {
  const bytes = readFileSync(join(folder, name));
  return name.endsWith('.gz') ? gunzipSync(bytes) : bytes;
}

/** The versions that mkcomposefs's own tests ask for: those of the .version file, or its defaults. */
function versionsOf(name: string): WriteOptions {
  const file = join(folder, `${name}.version`);
  if (!existsSync(file)) return { minVersion: 0, maxVersion: 1 };
  const version = readFileSync(file, 'utf8').trim() === '1' ? 1 : 0;
  return { minVersion: version, maxVersion: version };
}

describe.skipIf(
  absent(composefsVectors !== undefined, "composefs's test vectors are not beside the checkout"),
)("composefs's own vectors", () => {
  describe.each([
    'special_v1.dump',
    'special.dump',
    'bigfile.dump',
    'longlink.dump',
    'no-newline.dump',
    'honggfuzz-long-symlink.dump',
    'cs9-x86_64-minimal.dump.gz',
  ])('%s', { timeout: 120_000 }, (name) => {
    test('becomes the image that mkcomposefs writes', () => {
      const image = writeImage(parseDump(readVector(name)), versionsOf(name));
      const expected = readFileSync(join(folder, `${name}.sha256`), 'utf8').trim();
      expect(createHash('sha256').update(image).digest('hex')).toBe(expected);
    });

    test('is the same image again by way of a dump of the image', () => {
      const image = writeImage(parseDump(readVector(name)), versionsOf(name));
      const version = scanImage(image).formatVersion === 1 ? 1 : 0;
      const again = writeImage(parseDump(dumpImage(image)), {
        minVersion: version,
        maxVersion: version,
      });
      expect(Buffer.compare(again, image)).toBe(0);
      // By way of a tree as well, and the two dumps are alike.
      expect(Buffer.compare(formatDump(readTree(image)), dumpImage(image))).toBe(0);
    });
  });

  test.each(['special_v1.dump', 'special.dump', 'bigfile.dump', 'cs9-x86_64-minimal.dump.gz'])(
    '%s is formatted as it was parsed',
    { timeout: 60_000 },
    (name) => {
      const dump = readVector(name);
      expect(Buffer.compare(formatDump(parseDump(dump)), dump)).toBe(0);
    },
  );

  test.each([
    ['should-fail-dir-hardlink.dump', 'a directory cannot be a hard link'],
    ['should-fail-dot-name.dump', 'a name must not be "."'],
    ['should-fail-empty-name.dump', 'a name must not be empty'],
    ['should-fail-long-link.dump', 'the target of a symbolic link must not have more than 4095 bytes'],
    ['should-fail-no-ftype.dump', 'the field MODE has no file type'],
    ['should-fail-too-big.dump', 'the file is too big'],
  ])('%s is refused with its line', (name, reason) => {
    expect(() => parseDump(readVector(name))).toThrow(new DumpError(2, reason));
  });

  test('the large vector needs its objects and holds no device', { timeout: 60_000 }, () => {
    const scan = scanImage(
      writeImage(parseDump(readVector('cs9-x86_64-minimal.dump.gz')), { minVersion: 1, maxVersion: 1 }),
    );
    expect(scan).toMatchObject({ fileSystem: 'composefs', formatVersion: 1, devices: false, inodes: 22266 });
    expect(scan.objects).toHaveLength(13244);
    expect(scan.objects).toContain('50/231e63ee6dc2bdcf2eff83cb49ba96bff4c7171a9da96c3846e4107690c7a1.file');
  });
});
