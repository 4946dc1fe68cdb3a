import { expect, test } from 'vitest';
import { descriptionLines } from '../../../src/cli/commands/status.ts';
import { noFeatures } from '../../../src/mount/features.ts';

const lines = (kernel: Readonly<Record<string, boolean>>): string[] =>
  descriptionLines({
    version: '1.2.3',
    policy: { digest: 'sha256:00', loadedAt: '2026-01-01T00:00:00Z' },
    fileSystems: ['erofs'],
    limits: { imageBytes: 1 },
    kernel,
  });

test('every feature has a line: whether it is here, since which Linux, what for', () => {
  const shown = lines({ ...noFeatures, erofsFromFile: true });
  for (const name of Object.keys(noFeatures)) {
    const here = name === 'erofsFromFile' ? 'yes' : 'no';
    const line = shown.find((each) => each.startsWith(`  ${name}:`));
    expect(line).toMatch(new RegExp(`^  ${name}: +${here} +(Linux \\d+\\.\\d+ +)?[a-zA-Z].+`));
  }
  expect(shown.find((each) => each.includes('erofsFromFile'))).toContain('Linux 6.12');
});

test('a feature of a newer service is shown by its name', () => {
  expect(lines({ erofsFromFile: false, squashfsFromFile: true })).toContain('  squashfsFromFile: yes');
});
