import { defineConfig } from 'vitest/config';

// One project per kind of test. Those that need root, other programs or a virtual machine skip aloud where it
// is missing, and fail instead where CFS_TEST_REQUIRE names them (test/support/needs.ts).
const build = { globalSetup: './test/support/build.ts', pool: 'forks' } as const;
// On a busy machine a process may be given so little time that a test's patience ends. It gets one more try; a test that
// needed it is named at the end (test/support/skips-reporter.ts).
const real = { ...build, retry: 1 } as const;

export default defineConfig({
  test: {
    reporters: ['default', './test/support/skips-reporter.ts'],
    projects: [
      { test: { name: 'unit', include: ['test/unit/**/*.test.ts'], testTimeout: 30_000 } },
      { test: { name: 'fuzz', include: ['test/fuzz/**/*.test.ts'], testTimeout: 300_000 } },
      {
        test: {
          ...real,
          name: 'kernel',
          include: ['test/kernel/**/*.test.ts'],
          testTimeout: 120_000,
          hookTimeout: 120_000,
        },
      },
      {
        test: {
          ...real,
          name: 'interop',
          include: ['test/interop/**/*.test.ts'],
          testTimeout: 180_000,
          hookTimeout: 180_000,
        },
      },
      {
        test: {
          ...build,
          name: 'vm',
          // The machines have both processors to themselves.
          sequence: { groupOrder: 1 },
          include: ['test/vm/**/*.test.ts'],
          testTimeout: 1_800_000,
          hookTimeout: 1_800_000,
        },
      },
      // Only inside the machines that the vm project starts, or by hand where the kernel has fs-verity.
      {
        test: {
          ...real,
          name: 'verity',
          include: ['test/verity/**/*.test.ts'],
          testTimeout: 300_000,
          hookTimeout: 300_000,
        },
      },
    ],
  },
});
