import { describe, expect, test } from 'vitest';
import { parseDelegatedOptions, splitOptions } from '../../../src/cli/delegated-options.ts';

const hex = 'ab'.repeat(32);

describe('the options of mount.cfs-delegated', () => {
  test('defaults', () => {
    expect(parseDelegatedOptions([])).toEqual({
      basedirs: [],
      digest: undefined,
      verity: 'ifPresent',
      signatures: [],
      idmap: undefined,
      type: undefined,
      socket: undefined,
      unsigned: false,
      attributes: [],
    });
  });

  test('commas in values are escaped', () => {
    expect(splitOptions('signature=a\\,b.sig,ro,,basedir=/x\\,y:/z')).toEqual([
      'signature=a,b.sig',
      'ro',
      'basedir=/x,y:/z',
    ]);
  });

  test('every option at once', () => {
    const list = `basedir=/a:/b,digest=${hex},signature=1.sig,signature=2.sig,idmap=none,type=erofs,socket=/s,unsigned,noexec,ro,noatime,nosymfollow,nodev,nosuid`;
    expect(parseDelegatedOptions([list])).toEqual({
      basedirs: ['/a', '/b'],
      digest: `sha256:${hex}`,
      verity: 'require',
      signatures: ['1.sig', '2.sig'],
      idmap: 'none',
      type: 'erofs',
      socket: '/s',
      unsigned: true,
      attributes: ['ro', 'nosuid', 'nodev', 'noexec', 'noatime', 'nosymfollow'],
    });
  });

  test('a digest sets verity_check to 2 unless that is given', () => {
    expect(parseDelegatedOptions([`digest=sha256:${hex}`]).verity).toBe('require');
    expect(parseDelegatedOptions([`digest=${hex},verity_check=0`]).verity).toBe('never');
    expect(parseDelegatedOptions([`verity_check=1`, `digest=${hex}`]).verity).toBe('ifPresent');
  });

  test('what mount(8) adds on its own is ignored', () => {
    const list =
      'rw,defaults,suid,dev,exec,nofail,_netdev,user,users,owner,group,nouser,user=alex,auto,noauto';
    expect(parseDelegatedOptions([`${list},x-systemd.automount,X-mount.mkdir=0755`])).toEqual(
      parseDelegatedOptions([]),
    );
  });

  test('the last value of an option counts', () => {
    expect(parseDelegatedOptions(['type=erofs,idmap=none', 'idmap=caller,type=composefs'])).toMatchObject({
      type: 'composefs',
      idmap: 'caller',
    });
  });

  test.each([
    ['remount', 'unknown option "remount"'],
    ['ro=1', 'unknown option "ro=1"'],
    ['constructor', 'unknown option "constructor"'],
    ['digest', 'the option digest needs a value: digest=…'],
    ['signature=', 'the option signature needs a value: signature=…'],
    [`digest=${hex.toUpperCase()}`, `digest=${hex.toUpperCase()}: not 64 lower-case hexadecimal digits`],
    ['verity_check=3', 'verity_check=3: not 0, 1 or 2'],
    ['idmap=auto', 'idmap=auto: not none or caller'],
    ['basedir=/a::/b', 'basedir=/a::/b: an empty directory name'],
  ])('%s', (list, message) => {
    expect(() => parseDelegatedOptions([list])).toThrow(expect.objectContaining({ message, exitCode: 1 }));
  });

  test('a type that is none', () => {
    expect(() => parseDelegatedOptions(['type=vfat'])).toThrow(/^type=vfat: not one of composefs, erofs/);
  });

  test('-s passes over what is unknown, and over nothing else', () => {
    expect(parseDelegatedOptions(['remount,ro'], true).attributes).toEqual(['ro']);
    expect(() => parseDelegatedOptions(['idmap=auto'], true)).toThrow('idmap=auto');
  });
});
