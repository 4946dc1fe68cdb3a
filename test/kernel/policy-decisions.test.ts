import { spawnSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { toBase64 } from '../../src/base/bytes.ts';
import { askService } from '../../src/cli/ask-service.ts';
import { decideOffline, type OfflineQuestion } from '../../src/cli/offline-decision.ts';
import { explainError } from '../../src/client/explain-error.ts';
import { formatExplanation } from '../../src/policy/explain.ts';
import { formatVersionsFile, versionsFileName } from '../../src/policy/versions-file.ts';
import { VarlinkError } from '../../src/varlink/error.ts';
import { digestOf, Host, makePlace, writePolicy, type Place } from '../support/hosting.ts';
import { isRoot, needs } from '../support/needs.ts';
import type { RawClient, RawReply } from '../support/raw-client.ts';
import { memfdOf } from './acceptance-room.ts';
import type { ImageName, TableRequest } from './policy-table.ts';
import {
  newest,
  peers,
  requests,
  tableEvidence,
  tableImages,
  tableKey,
  tablePolicies,
} from './policy-table.ts';

/** One row: who asks for what, with which evidence. */
interface Row {
  readonly peer: (typeof peers)[number];
  readonly image: ImageName;
  /** Whether the image is asked for by name: then it is the one that is installed. */
  readonly installed: boolean;
  readonly evidence: string;
  readonly request: TableRequest;
}

type Answer = { readonly allowed: unknown } | { readonly refused: string };

const images = tableImages();
const keys = { site: tableKey(), vendor: tableKey(), stranger: tableKey() };
const evidence = Object.fromEntries(
  Object.entries(images).map(([name, bytes]) => [name, tableEvidence(keys, digestOf(bytes))]),
);
const kinds = Object.keys(tableEvidence(keys, digestOf(images.plain)));
const tool = resolve(import.meta.dirname, '../../dist/cli/cfs-mountctl.cjs');
const seed = 20_260_601;

/** Every peer with every evidence, asking for the plain image in each way in turn, and as many rows by chance. */
function rowsOf(index: number): readonly Row[] {
  let state = seed + index;
  const below = (count: number): number => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * count);
  };
  const at = <Value>(list: readonly Value[], position: number): Value => {
    const value = list[position % list.length];
    if (value === undefined) throw new RangeError('an empty list');
    return value;
  };
  const pick = <Value>(list: readonly Value[]): Value => at(list, below(list.length));
  const written = peers.flatMap((peer, number) =>
    kinds.map((kind, position): Row => {
      return {
        ...{ peer, image: 'plain', installed: false, evidence: kind },
        request: position % 2 === 0 ? {} : at(requests, position + number + index),
      };
    }),
  );
  const chosen = written.map((): Row => {
    const installed = below(3) === 0;
    return {
      peer: pick(peers),
      image: installed ? 'plain' : pick(['plain', 'erofs', 'cut', 'devices']),
      installed,
      evidence: pick(kinds),
      request: pick(requests),
    };
  });
  const rows = [...written, ...chosen];
  // Decisions know nothing of kernels: where everything is ten times slower, other rows under each policy.
  const part = process.env['CFS_VM'] === undefined ? 1 : 6;
  return rows.filter((_, position) => position % part === index % part);
}

describe.skipIf(needs('kernel', isRoot, 'only root can take other identities'))(
  'one decision, whoever is asked',
  () => {
    let place: Place;
    let host: Host;
    let root: RawClient;
    let policies: Readonly<Record<string, string>>;
    const clients = new Map<string, RawClient>();
    const keyFiles = { 'site.pub': keys.site.pem, 'vendor.pub': keys.vendor.pem };

    beforeAll(async () => {
      place = makePlace('policy-decisions');
      const { folder } = place;
      for (const name of ['store', 'trusted', 'images', 'files']) mkdirSync(join(folder, name));
      mkdirSync(join(folder, 'state'), { mode: 0o700 });
      writeFileSync(join(folder, 'state', versionsFileName), formatVersionsFile([newest]));
      writeFileSync(join(folder, 'images', 'plain.cfs'), images.plain);
      for (const [name, bytes] of Object.entries(images)) {
        writeFileSync(join(folder, 'files', name), bytes);
        for (const [kind, files] of Object.entries(evidence[name] ?? {})) {
          files.forEach((file, index) => {
            writeFileSync(signaturePath(name, kind, index), file);
          });
        }
      }
      policies = tablePolicies(folder, keys);
      host = await Host.start({ folder, policy: { '50.toml': policies['no rule'] ?? '' }, keys: keyFiles });
      root = host.connect();
      await root.call('Describe');
      for (const peer of peers) clients.set(peer.name, await connectAs(peer));
    });

    afterAll(async () => {
      root.close();
      for (const client of clients.values()) client.close();
      await host.stop();
      place.remove();
    });

    function signaturePath(image: string, kind: string, index: number): string {
      return join(place.folder, 'files', `${image}.${kind.replaceAll(/\W/g, '-')}.${index}`);
    }

    async function connectAs({ uid, gid }: (typeof peers)[number]): Promise<RawClient> {
      if (process.seteuid === undefined || process.setegid === undefined || process.setgroups === undefined)
        throw new Error('this system has no users');
      const groups = process.getgroups?.() ?? [];
      process.setgroups([gid]);
      process.setegid(gid);
      process.seteuid(uid);
      let client;
      try {
        client = host.connect();
      } finally {
        process.seteuid(0);
        process.setegid(0);
        process.setgroups(groups);
      }
      await client.call('Describe');
      return client;
    }

    async function loadPolicy(name: string): Promise<void> {
      writePolicy(place.folder, { '50.toml': policies[name] ?? '' }, keyFiles);
      const reply = await root.call('Reload');
      if (reply.error !== undefined) throw new Error(JSON.stringify(reply));
    }

    async function askDaemon(row: Row): Promise<Answer> {
      const client = clients.get(row.peer.name);
      const files = evidence[row.image]?.[row.evidence] ?? [];
      const parameters = { ...row.request, signatures: files.map(toBase64) };
      const ask = async (image: Record<string, string | number>, fds: number[]): Promise<RawReply> => {
        if (client === undefined) throw new Error('no such peer');
        const { stores, ...others } = { stores: undefined, ...parameters };
        return await client.call(
          'Verify',
          { image, ...others, ...(stores !== undefined && { stores: [...stores] }) },
          fds,
        );
      };
      if (row.installed) return answerOf(await ask({ name: row.image }, []));
      using memfd = memfdOf(images[row.image]);
      return answerOf(await ask({ fileDescriptor: 0 }, [memfd.number]));
    }

    function answerOf({ error, parameters }: RawReply): Answer {
      if (error === undefined) return { allowed: parameters['evidence'] };
      return { refused: explainError(new VarlinkError(error, parameters)) };
    }

    function questionOf(row: Row): OfflineQuestion {
      const { folder } = place;
      const { fileSystem, allowUnsigned, stores, verity } = {
        ...{ fileSystem: undefined, allowUnsigned: false, stores: [], verity: undefined },
        ...row.request,
      };
      return {
        image: row.installed ? `name:${row.image}` : join(folder, 'files', row.image),
        signatures: (evidence[row.image]?.[row.evidence] ?? []).map((_, index) =>
          signaturePath(row.image, row.evidence, index),
        ),
        policy: join(folder, 'policy'),
        user: String(row.peer.uid),
        ...{ fileSystem, addTo: undefined, unsigned: allowUnsigned, stores, verity },
        state: join(folder, 'state'),
      };
    }

    /** What offline verify says, and the last line of explain. */
    function askOffline(row: Row): { verify: Answer; explain: string; notChecked: readonly string[] } {
      const decided = decideOffline(questionOf(row));
      const { decision, notChecked } = decided;
      const explained = formatExplanation(decided).at(-1) ?? '';
      if (decision.outcome === 'deny') {
        const { kind, message } = decision.refusal;
        return { verify: { refused: `${kind}: ${message}` }, explain: explained, notChecked };
      }
      const stated: unknown = JSON.parse(JSON.stringify(decision.evidence));
      return { verify: { allowed: stated }, explain: explained, notChecked };
    }

    const names = Object.keys(tablePolicies('/', keys));
    test.each(names.map((name, index) => ({ name, index })))('$name', async ({ name, index }) => {
      await loadPolicy(name);
      const rows = rowsOf(index);
      const audited = host.audit.length;
      const told: string[] = [];
      const outcomes = new Set<string>();
      for (const row of rows) {
        const where = `${row.peer.name}, ${row.image}${row.installed ? ' by name' : ''}, ${row.evidence}, ${JSON.stringify(row.request)}`;
        const daemon = await askDaemon(row);
        const offline = askOffline(row);
        told.push('refused' in daemon ? daemon.refused : 'allowed');
        outcomes.add('refused' in daemon ? (daemon.refused.split(':')[0] ?? '') : 'allowed');
        if ('refused' in daemon && daemon.refused.startsWith('KernelUnsupported: ')) {
          // What offline verify says that it does not check.
          expect(offline.verify, where).toHaveProperty('allowed');
          expect(offline.notChecked.join(), where).toContain('whether this kernel can mount squashfs');
          continue;
        }
        expect(offline.verify, where).toEqual(daemon);
        const verdict = 'refused' in daemon ? `refused: ${daemon.refused}` : 'allowed by rule';
        expect(offline.explain, where).toContain(verdict);
        if (row.peer.uid !== 0) continue;
        const answer = await askService(host.socketPath, questionOf(row));
        told.push(answer.outcome === 'deny' ? answer.message : 'allowed');
        const service =
          answer.outcome === 'deny' ? { refused: answer.message } : { allowed: answer.evidence };
        expect(service, where).toEqual(daemon);
      }
      await host.until('the audit is whole', () => host.audit.length >= audited + told.length);
      const lines = host.audit.slice(audited).map(({ result, reason }) => {
        return result === 'allowed' ? 'allowed' : `${String(result)}: ${String(reason)}`;
      });
      const policyTold = told.map((line) => !line.startsWith('KernelUnsupported: '));
      expect(lines.filter((_, at) => policyTold[at])).toEqual(told.filter((_, at) => policyTold[at]));
      expect(outcomes.size).toBeGreaterThan(name === 'no rule' ? 0 : 1);
    });

    // Not only the same, but the right ones: what a person would expect, row by row.
    const [asRoot, asDaemon, asSomebody] = peers;
    const plain = { peer: asSomebody, image: 'plain', installed: false, request: {} } as const;
    const rule = (name: string): unknown => ({ allowed: expect.objectContaining({ rule: name }) as unknown });
    const refusal = (text: RegExp): unknown => ({ refused: expect.stringMatching(text) as unknown });
    const expected: readonly (readonly [string, Partial<Row> & { readonly evidence: string }, unknown])[] = [
      ['no rule', { evidence: 'both' }, refusal(/^DeniedByPolicy: the policy has no rule/)],
      ['no rule', { peer: asRoot, evidence: 'none', request: requests[1] }, refusal(/^DeniedByPolicy: /)],
      ['one of two', { evidence: 'site' }, rule('one')],
      ['one of two', { evidence: 'vendor' }, rule('one')],
      ['one of two', { evidence: 'none' }, refusal(/^NotSigned: .*cfs-mountctl sign/)],
      ['one of two', { evidence: 'stranger' }, refusal(/^KeyNotTrusted: .*signed-by/)],
      ['one of two', { evidence: 'site and stranger' }, rule('one')],
      ['one of two', { evidence: 'expired' }, refusal(/^Expired: .*expired at 2020/)],
      ['one of two', { evidence: 'not yet' }, refusal(/^Expired: .*not valid before 2900/)],
      ['one of two', { evidence: 'malformed' }, refusal(/^SignatureInvalid: /)],
      ['one of two', { evidence: 'of another image' }, refusal(/^SignatureInvalid: .*about the image/)],
      ['one of two', { evidence: 'ssh by site' }, refusal(/^DeniedByPolicy: .*format dsse/)],
      ['one of two', { evidence: 'another name' }, refusal(/^DeniedByPolicy: .*other\/app/)],
      ['one of two', { evidence: 'site', image: 'devices' }, refusal(/^IncompatibleImage: .*\/disk/)],
      ['one of two', { evidence: 'site', image: 'erofs' }, refusal(/^IncompatibleImage: .*erofs/)],
      ['one of two', { evidence: 'site', image: 'cut' }, refusal(/^IncompatibleImage: /)],
      ['one of two', { evidence: 'site', request: { stores: ['absent'] } }, refusal(/^StoreNotFound: /)],
      [
        'one of two',
        { evidence: 'site', request: { stores: ['system'] } },
        refusal(/^DeniedByPolicy: .*store/),
      ],
      ['two of two', { evidence: 'both' }, rule('two')],
      ['two of two', { evidence: 'both apart' }, rule('two')],
      ['two of two', { evidence: 'both, saying different things' }, refusal(/^KeyNotTrusted: .*1 of the 2/)],
      ['two of two', { evidence: 'site' }, refusal(/^KeyNotTrusted: /)],
      ['a revoked key', { evidence: 'vendor' }, refusal(/^KeyNotTrusted: .*revoked/)],
      ['a revoked key', { evidence: 'both' }, rule('one')],
      ['a revoked digest', { evidence: 'both' }, refusal(/^DeniedByPolicy: .*is revoked/)],
      ['a revoked digest', { peer: asRoot, evidence: 'none', request: requests[1] }, refusal(/is revoked/)],
      ['versions', { evidence: 'version 7' }, rule('versions')],
      ['versions', { evidence: 'version 3' }, refusal(/^RolledBack: .*older than 5/)],
      ['versions', { evidence: 'site' }, refusal(/^DeniedByPolicy: .*version/)],
      ['unsigned for root', { peer: asRoot, evidence: 'none', request: requests[1] }, rule('root')],
      ['unsigned for root', { peer: asRoot, evidence: 'none' }, refusal(/^NotSigned: .*allowUnsigned/)],
      [
        'unsigned for root',
        { evidence: 'none', request: requests[1] },
        refusal(/^DeniedByPolicy: .*user 1234/),
      ],
      [
        'unsigned for all, wide',
        { evidence: 'none', image: 'erofs', request: requests[1] },
        refusal(/^IncompatibleImage: .*type=erofs/),
      ],
      ['unsigned for all, wide', { evidence: 'none', image: 'erofs', request: requests[10] }, rule('all')],
      ['pinned', { peer: asDaemon, evidence: 'none' }, rule('pinned')],
      ['pinned', { evidence: 'none' }, refusal(/^DeniedByPolicy: .*user 1234/)],
      ['pinned', { peer: asDaemon, image: 'devices', evidence: 'both' }, refusal(/none of those/)],
      ['pinned and signed', { evidence: 'site' }, refusal(/^KeyNotTrusted: /)],
      ['installed', { installed: true, evidence: 'none' }, rule('installed')],
      ['installed', { evidence: 'both' }, refusal(/^DeniedByPolicy: .*handed over/)],
      ['installed and signed', { installed: true, evidence: 'none' }, refusal(/^NotSigned: /)],
      ['ssh', { evidence: 'ssh by vendor' }, rule('ssh')],
      ['ssh', { evidence: 'vendor' }, refusal(/^DeniedByPolicy: .*format ssh/)],
      ['two in any format', { evidence: 'ssh by site, dsse by vendor' }, rule('any')],
      ['two in any format', { evidence: 'ssh by site' }, refusal(/^KeyNotTrusted: /)],
      ['for a group', { peer: asDaemon, evidence: 'site' }, rule('group')],
      ['for a group', { evidence: 'site' }, refusal(/^DeniedByPolicy: .*groups 1/)],
      ['erofs too', { image: 'erofs', evidence: 'erofs stated' }, rule('erofs')],
      ['a trusted store', { evidence: 'site' }, rule('lax')],
      ['a trusted store', { evidence: 'site', request: { verity: 'require' } }, refusal(/verity_check=1/)],
      ['a trusted store, required', { evidence: 'site' }, refusal(/^DeniedByPolicy: .*only trusted/)],
      ['the first decides', { evidence: 'site' }, refusal(/^DeniedByPolicy: rule "first"/)],
      ['the first decides', { evidence: 'vendor' }, rule('second')],
      ['passed on', { evidence: 'site' }, refusal(/^KeyNotTrusted: rule "last"/)],
      ['keys with limits', { evidence: 'site' }, refusal(/^KeyNotTrusted: .*may not speak/)],
      ['keys with limits', { evidence: 'vendor' }, refusal(/^Expired: .*key "vendor"/)],
      ['keys with limits', { evidence: 'another name' }, rule('one')],
      ['one key, two ids', { evidence: 'site' }, refusal(/^KeyNotTrusted: .*1 of the 2/)],
      ['one key, two ids', { evidence: 'both' }, rule('ids')],
    ];

    test('the written rows', async () => {
      for (const [policy, row, answer] of expected) {
        await loadPolicy(policy);
        const whole = { ...plain, ...row };
        const where = `${policy}: ${JSON.stringify(row)}`;
        expect(await askDaemon(whole), where).toEqual(answer);
        expect(askOffline(whole).verify, where).toEqual(answer);
      }
    });

    test('the programs say it too', async () => {
      await loadPolicy('one of two');
      // Other users may not reach the checkout; then root asks.
      const daemon = ['--reuid=1', '--regid=1', '--clear-groups', '--'];
      const mayReach = spawnSync('setpriv', [...daemon, process.execPath, tool, '--version']).status === 0;
      const identity = mayReach ? daemon : ['--'];
      const ask = (...words: readonly string[]): string => {
        const done = spawnSync('setpriv', [...identity, ...words], { encoding: 'utf8' });
        return done.status === 0 ? done.stdout : done.stderr.replaceAll(/^warning: .*\n/gm, '');
      };
      const image = join(place.folder, 'files', 'plain');
      for (const kind of ['site', 'stranger', 'expired', 'malformed']) {
        const signature = ['--signature', signaturePath('plain', kind, 0)];
        const verify = [process.execPath, tool, 'verify', image, ...signature];
        const service = ask(...verify, '--service', '--socket', host.socketPath);
        const offline = ask(...verify, '--policy', join(place.folder, 'policy'));
        if (kind === 'site') {
          expect(service).toMatch(/^allowed by rule "one"\n/);
          expect(offline.startsWith(service.trimEnd())).toBe(true);
          expect(offline).toMatch(/\nnot checked here: .*kernel/);
        } else {
          expect(service).toMatch(
            /^cfs-mountctl: .*: (KeyNotTrusted|Expired|SignatureInvalid): rule "one": /,
          );
          expect(offline).toBe(service);
        }
      }
    });
  },
);
