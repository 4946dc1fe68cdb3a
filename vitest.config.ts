import { defineConfig } from 'vitest/config';

// One project per kind of test. Those that need root, other programs or a virtual machine skip aloud where it
// is missing, and fail instead where CFS_TEST_REQUIRE names them (test/support/needs.ts).
const build = { globalSetup: './test/support/build.ts', pool: 'forks' } as const;
// On a busy machine a process may be given so little time that a test's patience ends. It gets one more try; a test that
// needed it is named at the end (test/support/skips-reporter.ts).
const real = { ...build, retry: 1 } as const;
// Tests that look at what the whole machine has (mounts, loop devices, processes) run one file at a time, after the others.
const alone = (groupOrder: number) => ({ maxWorkers: 1, sequence: { groupOrder } }) as const;
const together = { maxWorkers: '100%' } as const;

export default defineConfig({
  test: {
    reporters: ['default', './test/support/skips-reporter.ts'],
    projects: [
      { test: { ...together, name: 'unit', include: ['test/unit/**/*.test.ts'], testTimeout: 30_000 } },
      { test: { ...together, name: 'fuzz', include: ['test/fuzz/**/*.test.ts'], testTimeout: 300_000 } },
      {
        test: {
          ...real,
          ...alone(1),
          name: 'kernel',
          include: ['test/kernel/**/*.test.ts'],
          testTimeout: 120_000,
          hookTimeout: 120_000,
        },
      },
      {
        test: {
          ...real,
          ...together,
          name: 'interop',
          include: ['test/interop/**/*.test.ts'],
          testTimeout: 180_000,
          hookTimeout: 180_000,
        },
      },
      {
        test: {
          ...build,
          ...alone(2),
          name: 'vm',
          include: ['test/vm/**/*.test.ts'],
          testTimeout: 1_800_000,
          hookTimeout: 1_800_000,
        },
      },
      // Only inside the machines that the vm project starts, or by hand where the kernel has fs-verity.
      {
        test: {
          ...real,
          ...alone(3),
          name: 'verity',
          include: ['test/verity/**/*.test.ts'],
          testTimeout: 300_000,
          hookTimeout: 300_000,
        },
      },
    ],
  },
});
