import { spawnSync } from 'node:child_process';
import { chmodSync, cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { expect, test } from 'vitest';
import { keptCapabilities } from '../../src/daemon/confine.ts';
import { needs } from '../support/needs.ts';
import { sid, sidMissing } from '../support/sid.ts';

const unit = resolve(import.meta.dirname, '../../systemd/cfs-mountd.service');
const security = sid('systemd-analyze', 'security', '--offline=true', '--threshold=51', '--no-pager');
const analyze = sid('systemd-analyze', 'verify', '--recursive-errors=no', '--man=no');

test.skipIf(needs('interop', analyze !== undefined, sidMissing))(
  'systemd finds no fault in the units',
  () => {
    const folder = mkdtempSync(join(tmpdir(), 'cfs-units-'));
    try {
      // The program's place in the unit must be one that can be executed: here, a stand-in.
      const program = join(folder, 'cfs-mountd');
      writeFileSync(program, '#!/bin/sh\n');
      chmodSync(program, 0o755);
      const units = join(folder, 'units');
      mkdirSync(units);
      cpSync(resolve(import.meta.dirname, '../../systemd'), units, { recursive: true });
      const service = join(units, 'cfs-mountd.service');
      const edited = spawnSync('sed', [
        '-i',
        `s#^ExecStart=/usr/bin/cfs-mountd#ExecStart=${program}#`,
        service,
      ]);
      expect(edited.status).toBe(0);
      const [command, ...parameters] = analyze ?? [''];
      const result = spawnSync(command, [...parameters, service, join(units, 'cfs-mountd.socket')], {
        encoding: 'utf8',
        env: { ...process.env, SYSTEMD_UNIT_PATH: `${units}:` },
      });
      const told = result.stderr
        .split('\n')
        .filter((line) => line.includes('cfs-mountd'))
        .join('\n');
      expect(told).toBe('');
      expect(result.status).toBe(0);
    } finally {
      rmSync(folder, { recursive: true });
    }
  },
);

test.skipIf(needs('interop', security !== undefined, sidMissing))(
  'the service is exposed no more than it has to be: 5.1 of 10, and 7.2 without its sandbox',
  () => {
    const [command, ...parameters] = security ?? [''];
    const result = spawnSync(command, [...parameters, unit], { encoding: 'utf8' });
    expect(result.stdout).toMatch(/Overall exposure level/);
    expect(result.status, result.stdout).toBe(0);
  },
);

test('the unit keeps the capabilities that the service keeps', () => {
  const listed = /^CapabilityBoundingSet=(.*)$/m.exec(readFileSync(unit, 'utf8'))?.[1]?.split(' ');
  expect(listed?.sort()).toEqual([...keptCapabilities].sort());
});
