import { expect, test } from 'vitest';
import { handedOver } from '../../../src/sys/handed-over.ts';
import {
  formatRecord,
  parseRecord,
  type ChargeRecord,
} from '../../../src/daemon/callers/superblock-records.ts';
import { isKeptName } from '../../../src/daemon/callers/superblock-watches.ts';

test('descriptors are handed over with their names, and to the process that is meant alone', () => {
  const environment = {
    LISTEN_FDS: '3',
    LISTEN_PID: '17',
    LISTEN_FDNAMES: 'cfs-mountd.socket:superblocks-1-0:',
  };
  expect(handedOver(environment, 17)).toEqual([
    { fd: 3, name: 'cfs-mountd.socket' },
    { fd: 4, name: 'superblocks-1-0' },
    { fd: 5, name: '' },
  ]);
  expect(handedOver(environment, 18)).toEqual([]);
  expect(handedOver({ ...environment, LISTEN_FDS: undefined }, 17)).toEqual([]);
  expect(handedOver({ LISTEN_FDS: '1', LISTEN_PID: '17' }, 17)).toEqual([{ fd: 3, name: 'unknown' }]);
  expect(['cfs-mountd.socket', 'superblocks-1-0', 'unknown'].filter(isKeptName)).toEqual(['superblocks-1-0']);
});

test.each([
  [
    { LISTEN_FDS: '2', LISTEN_FDNAMES: 'one' },
    /LISTEN_FDNAMES is "one", not a name for each of 2 descriptors/,
  ],
  [{ LISTEN_FDS: '0' }, /LISTEN_FDS is "0"/],
  [{ LISTEN_FDS: '-1' }, /LISTEN_FDS is "-1"/],
  [{ LISTEN_FDS: '1000' }, /LISTEN_FDS is "1000"/],
])('%o says what is wrong with it', (environment, message) => {
  expect(() => handedOver({ ...environment, LISTEN_PID: '17' }, 17)).toThrow(message);
});

const record: ChargeRecord = {
  watch: 7,
  owner: { user: -3, root: false, group: 'container 4026531837' },
  loops: 2,
  copiedBytes: 2 ** 52,
};

test('a record is read as it was written, in a slot of one size', () => {
  const written = formatRecord(record);
  expect(written).toHaveLength(128);
  expect(parseRecord(Buffer.from(written).toString('latin1'))).toEqual(record);
  const largest = {
    ...record,
    watch: 2 ** 31 - 1,
    owner: { ...record.owner, user: 2 ** 32 - 2 },
    loops: 2 ** 31,
  };
  expect(parseRecord(Buffer.from(formatRecord(largest)).toString('latin1'))).toEqual(largest);
  const long = { ...record, owner: { user: 1, group: 'g'.repeat(128) } };
  expect(() => formatRecord(long)).toThrow(RangeError);
});

test('what is not whole is no record', () => {
  const whole = Buffer.from(formatRecord(record)).toString('latin1');
  const text = whole.slice(0, whole.indexOf('\n') + 1);
  for (let length = 0; length < text.length; length += 1) {
    expect(parseRecord(text.slice(0, length).padEnd(128, '\0')), String(length)).toBeUndefined();
  }
  expect(parseRecord(`${text}${text}`)).toBeUndefined();
  expect(parseRecord(`x${text}`)).toBeUndefined();
});
