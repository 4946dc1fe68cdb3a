import { spawn, spawnSync } from 'node:child_process';
import { chmodSync, chownSync, copyFileSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { limits } from '../../src/daemon/callers/limits.ts';
import { digestOf, Host, makePlace, Signer, smallImage, type Place } from '../support/hosting.ts';
import { isRoot, needs } from '../support/needs.ts';
import type { RawClient } from '../support/raw-client.ts';
import { connectAs, connectAsRoot, drop, errorName, python, serviceError } from './acceptance-room.ts';
import { hasProgram } from './sys-room.ts';

interface Answer {
  readonly error?: string;
  readonly parameters: Readonly<Record<string, unknown>>;
}

const skip = needs(
  'kernel',
  isRoot && hasProgram('python3') && hasProgram('setpriv'),
  'root, python3, setpriv',
);

const asUser = (uid: number, groups = '--clear-groups'): readonly string[] => [
  'setpriv',
  `--reuid=${uid}`,
  `--regid=${uid}`,
  groups,
  '--',
];
const inGroup = '--groups=500';
const inNamespace = ['unshare', '--user', '--map-root-user', '--'];
const subordinate = (creator: number, uid: number): readonly string[] => [
  ...python('acceptance-subordinate.py'),
  String(creator),
  String(uid),
];
/** Sets its groups, as root of a user namespace may, and goes on as the command that follows. */
const takingGroups = ['setpriv', inGroup, '--'];
const bounded = ['setpriv', '--bounding-set=-sys_admin', '--inh-caps=-sys_admin', '--'];

describe.skipIf(skip)('who a caller is to the policy', () => {
  let place: Place;
  let host: Host;

  beforeAll(async () => {
    place = makePlace('acceptance-identity');
    const folder = join(place.folder, 'images');
    mkdirSync(folder, { mode: 0o755 });
    const signer = new Signer();
    for (const name of ['unsigned', 'user', 'subordinate', 'zero', 'group']) {
      const image = smallImage({ hello: `${name}\n` });
      writeFileSync(join(folder, `${name}.cfs`), image);
      if (name !== 'unsigned')
        writeFileSync(join(folder, `${name}.cfs.sig`), signer.sign(digestOf(image), `example/${name}`));
    }
    const rule = (name: string, users: string, kind = 'users'): string => `
[[rules]]
name = "${name}"
${kind} = ["${users}"]
images = ["example/${name}"]
signed-by = ["site"]
verity = "never"
`;
    const policy = `
[[keys]]
id = "site"
file = "site.pub"
[[image-directories]]
path = "${folder}"
[[rules]]
name = "root"
users = ["root"]
unsigned = true
verity = "never"
${rule('user', '1000')}
${rule('subordinate', '100000-165535')}
${rule('zero', '0')}
${rule('group', '500', 'groups')}
`;
    host = await Host.start({
      folder: place.folder,
      policy: { '10.toml': policy },
      keys: { 'site.pub': signer.publicPem },
    });
  });
  afterAll(async () => {
    await host.stop();
    place.remove();
  });

  const asking = (method: string, parameters: object): string[] => [
    ...python('acceptance-receive.py'),
    host.socketPath,
    method,
    JSON.stringify(parameters),
  ];

  function ask(wrapper: readonly string[], method: string, parameters: object): Answer {
    const [command = '', ...rest] = [...wrapper, ...asking(method, parameters)];
    const done = spawnSync(command, rest, { encoding: 'utf8' });
    if (done.status !== 0) throw new Error(`the call failed: ${done.stderr}`);
    const answer: unknown = JSON.parse(done.stdout);
    return answer as Answer;
  }

  // What the rule lacks that got furthest: for the callers of another rule, the signature.
  const refusals = [errorName('DeniedByPolicy'), errorName('NotSigned')];

  /** Which of the rules let the caller in. */
  function rulesFor(wrapper: readonly string[]): string[] {
    const unsigned = ask(wrapper, 'Mount', { image: { name: 'unsigned' }, allowUnsigned: true });
    if (unsigned.error !== undefined) expect(refusals).toContain(unsigned.error);
    const signed = ['user', 'subordinate', 'zero', 'group'].filter((name) => {
      const answer = ask(wrapper, 'Mount', { image: { name } });
      if (answer.error !== undefined) expect(answer.error).toBe(errorName('DeniedByPolicy'));
      return answer.error === undefined;
    });
    return [...(unsigned.error === undefined ? ['root'] : []), ...signed];
  }

  test.each([
    ['root', [], ['root', 'zero']],
    ['user 0 whose bounding set lacks CAP_SYS_ADMIN', bounded, []],
    ['user 0 without any capability', ['setpriv', '--bounding-set=-all', '--inh-caps=-all', '--'], []],
    ['root of a user namespace that root made', inNamespace, []],
    ['user 0 without CAP_SYS_ADMIN in a user namespace of its own', [...bounded, ...inNamespace], []],
    ['a user', asUser(1000), ['user']],
    ['another user', asUser(1001), []],
    ['root of a container of the user', [...asUser(1000), ...inNamespace], ['user']],
    ['root of a nested container', [...asUser(1000), ...inNamespace, ...inNamespace], ['user']],
    ['root of a container with subordinate IDs', subordinate(1000, 0), ['user']],
    ['a subordinate user', subordinate(1000, 33), ['user']],
    ["a subordinate user's own container", [...subordinate(1000, 33), ...inNamespace], ['user']],
    ['a nested container with subordinate IDs', [...subordinate(1000, 0), ...inNamespace], ['user']],
    ["another user's subordinate user", subordinate(1001, 33), []],
    ['a subordinate user of a namespace that root made', subordinate(0, 33), ['subordinate']],
    ['root in a group', takingGroups, ['root', 'zero', 'group']],
    ['a user in a group', asUser(1001, inGroup), ['group']],
    ['a container that kept a group of its user', [...asUser(1001, inGroup), ...inNamespace], ['group']],
    ['user 0 without CAP_SYS_ADMIN, which may take any group', [...bounded, ...takingGroups], []],
    ['root of a container that takes a group of that number', [...subordinate(1001, 0), ...takingGroups], []],
    [
      'root of a namespace that root made, in the same way',
      [...subordinate(0, 0), ...takingGroups],
      ['subordinate'],
    ],
  ])('%s', (_, wrapper, rules) => {
    expect(rulesFor(wrapper)).toEqual(rules);
  });

  test('of a set-ID program is its file’s, and no longer once it has gone back to its caller’s', () => {
    const program = (name: string, uid: number, gid: number, mode: number): string => {
      const path = join(place.folder, name);
      copyFileSync('/usr/bin/env', path);
      chownSync(path, uid, gid);
      chmodSync(path, mode);
      return path;
    };
    const ofUser = program('set-user', 1000, 0, 0o4755);
    const ofGroup = program('set-group', 0, 500, 0o2755);
    const ofRoot = program('set-root', 0, 0, 0o4755);
    const back = ['setpriv', '--euid=1001', '--'];
    expect(rulesFor([...asUser(1001), ofUser])).toEqual(['user']);
    expect(rulesFor([...asUser(1001), ofUser, ...back])).toEqual([]);
    expect(rulesFor([...asUser(1001), ofGroup])).toEqual(['group']);
    // It has all that root has, and could do as root whatever it asks for.
    expect(rulesFor([...asUser(1001), ofRoot])).toEqual(['root', 'zero']);
    expect(rulesFor([...asUser(1001), ofRoot, ...back])).toEqual([]);
    // In a user namespace such a file gives no user ID that the namespace does not have.
    expect(rulesFor([...asUser(1001), ...inNamespace, ofRoot])).toEqual([]);
  });

  test('only root reloads', () => {
    expect(ask([], 'Reload', {}).error).toBeUndefined();
    for (const wrapper of [bounded, asUser(1000), inNamespace, subordinate(1000, 0), subordinate(0, 0)])
      expect(ask(wrapper, 'Reload', {}).error).toBe(serviceError('PermissionDenied'));
  });

  test('a user and the containers of that user have one share', async () => {
    const held: RawClient[] = [];
    // The service may not have seen yet that the connections of the tests before have ended.
    for (const end = Date.now() + 30_000; held.length < limits.connectionsPerUser && Date.now() < end;) {
      const client = connectAs(host, 1000);
      const reply = await client.call('Describe').catch(() => undefined);
      if (reply !== undefined && reply.error === undefined) held.push(client);
      else client.close();
    }
    expect(held).toHaveLength(limits.connectionsPerUser);
    const spent = {
      error: errorName('LimitExceeded'),
      parameters: { limit: 'connectionsPerUser', value: limits.connectionsPerUser },
    };
    for (const wrapper of [asUser(1000), [...asUser(1000), ...inNamespace], subordinate(1000, 33)])
      expect(ask(wrapper, 'Describe', {})).toEqual(spent);
    for (const wrapper of [[], asUser(1001), subordinate(1001, 33)])
      expect(ask(wrapper, 'Describe', {}).error).toBeUndefined();
    for (const client of held) client.close();
  });

  test('a process that has gone by the time it is looked at is nobody', async () => {
    const before = await connectAsRoot(host);
    const [command = '', ...rest] = asking('Mount', { image: { name: 'unsigned' }, allowUnsigned: true });
    for (let round = 0; round < 10; round += 1) {
      const child = spawn(command, rest, { stdio: 'ignore' });
      const closed = new Promise((resolve) => child.once('close', resolve));
      child.kill('SIGKILL');
      await closed;
    }
    const reply = await before.call('Mount', { image: { name: 'unsigned' }, allowUnsigned: true });
    expect(reply.error).toBeUndefined();
    drop(reply);
    before.close();
  });
});
