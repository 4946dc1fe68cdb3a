import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { keptCapabilities } from '../../src/daemon/confine.ts';
import { digestOf, Host, makePlace, Signer, smallImage, type Place } from '../support/hosting.ts';
import { isRoot, needs } from '../support/needs.ts';
import type { RawClient } from '../support/raw-client.ts';
import { callWithImage, connectAs, drop } from './acceptance-room.ts';

const policy = `
[[keys]]
id = "site"
file = "site.pub"
[[rules]]
name = "signed"
images = ["example/**"]
signed-by = ["site"]
verity = "never"
`;
const debuggerPort = 19_229;

describe.skipIf(needs('kernel', isRoot, 'only root can start the service'))(
  'a service that somebody took over',
  () => {
    let place: Place;
    let host: Host;
    let client: RawClient;

    beforeAll(async () => {
      place = makePlace('attack-confinement');
      const signer = new Signer();
      host = await Host.start({
        folder: place.folder,
        policy: { '10.toml': policy },
        keys: { 'site.pub': signer.publicPem },
        environment: {
          NODE_OPTIONS: `--inspect=127.0.0.1:${debuggerPort}`,
          NODE_DEBUG: 'net',
          OPENSSL_CONF: '/nowhere',
        },
      });
      client = connectAs(host, 1234);
      // By now it has every kind of thread.
      const image = smallImage({ hello: 'confined\n' });
      const signature = Buffer.from(signer.sign(digestOf(image), 'example/confined')).toString('base64');
      const reply = await callWithImage(client, 'Mount', image, { signatures: [signature] });
      expect(reply.error).toBeUndefined();
      drop(reply);
    });
    afterAll(async () => {
      client.close();
      await host.stop();
      place.remove();
    });

    /** A field of the status of each thread. */
    function ofThreads(field: string): string[] {
      const tasks = `/proc/${host.pid}/task`;
      return readdirSync(tasks).map((task) => {
        const status = readFileSync(join(tasks, task, 'status'), 'latin1');
        return new RegExp(`^${field}:\\s*(\\S+)$`, 'm').exec(status)?.[1] ?? '';
      });
    }

    test('has the capabilities that mounting needs, on every thread, and none to come', () => {
      const masks = new Set(['CapPrm', 'CapEff', 'CapBnd'].flatMap(ofThreads));
      expect(masks.size).toBe(1);
      const bits = [...masks].map((mask) => BigInt(`0x${mask}`).toString(2).replaceAll('0', '').length);
      expect(bits).toEqual([keptCapabilities.length]);
      expect(new Set(['CapInh', 'CapAmb'].flatMap(ofThreads))).toEqual(new Set(['0000000000000000']));
      expect(new Set(ofThreads('NoNewPrivs'))).toEqual(new Set(['1']));
    });

    test('executes nothing and makes no socket of the network’s, on any thread', () => {
      expect(new Set(ofThreads('Seccomp'))).toEqual(new Set(['2']));
    });

    test('gets EPERM for execve(2), and EAFNOSUPPORT for a socket of the internet', () => {
      const dist = resolve(import.meta.dirname, '../../dist/sys');
      const script = `
      import { spawnSync } from 'node:child_process';
      import * as ffi from '${dist}/ffi.js';
      import { lastErrnoName } from '${dist}/errno.js';
      import { filterSystemCalls } from '${dist}/system-call-filter.js';
      const tries = () => [spawnSync('/bin/true').error?.code ?? '', ffi.socket(2, 1, 0) < 0 ? lastErrnoName() : ''];
      console.log(JSON.stringify([tries(), filterSystemCalls(), tries(), ffi.socket(1, 1, 0) >= 0]));`;
      const command = ['--no-new-privs', process.execPath, '--input-type=module', '-e', script];
      const done = spawnSync('setpriv', command, { encoding: 'utf8' });
      expect(done.stdout.trim(), done.stderr).toBe('[["",""],true,["EPERM","EAFNOSUPPORT"],true]');
    });

    test('asks keyrings and changes none but its own', () => {
      const dist = resolve(import.meta.dirname, '../../dist/sys');
      // KEYCTL_DESCRIBE, PKEY_VERIFY, LINK to the process's keyring; LINK to the session's, REVOKE, JOIN_SESSION_KEYRING, SETPERM.
      const calls = '[[6], [28], [8, -2], [8, -3], [3], [1], [5]]';
      const script = `
      import * as ffi from '${dist}/ffi.js';
      import { lastErrnoName } from '${dist}/errno.js';
      import { filterSystemCalls } from '${dist}/system-call-filter.js';
      const number = process.arch === 'x64' ? 250 : 219;
      const tries = () => ${calls}.map(([operation, third = 0]) =>
        ffi.keyctlLink(number, operation, 0x7fffffff, third) < 0 && lastErrnoName() === 'EPERM');
      console.log(JSON.stringify([tries(), filterSystemCalls(), tries()]));`;
      const command = ['--no-new-privs', process.execPath, '--input-type=module', '-e', script];
      const done = spawnSync('setpriv', command, { encoding: 'utf8' });
      const never = '[false,false,false,false,false,false,false]';
      expect(done.stdout.trim(), done.stderr).toBe(`[${never},true,[false,false,false,true,true,true,true]]`);
    });

    test('leaves no core file', () => {
      expect(readFileSync(`/proc/${host.pid}/limits`, 'latin1')).toMatch(/^Max core file size +0 +0 /m);
    });

    test('hears of no variable that changes how Node works, and opens no debugger', () => {
      const environment = readFileSync(`/proc/${host.pid}/environ`, 'latin1');
      expect(environment).not.toMatch(/NODE_|OPENSSL_/);
      const probe = `import socket; socket.create_connection(("127.0.0.1", ${debuggerPort}), 1)`;
      expect(spawnSync('/usr/bin/python3', ['-c', probe]).stderr.toString()).toMatch(/ConnectionRefused/);
    });

    test('says so in Describe', async () => {
      const { parameters } = await client.call('Describe');
      const { capabilities, fences } = parameters['confinement'] as {
        capabilities: string[];
        fences: string[];
      };
      expect(capabilities.sort()).toEqual([...keptCapabilities].sort());
      expect(fences).toEqual(['undumpable', 'noNewPrivileges', 'seccomp']);
    });
  },
);
