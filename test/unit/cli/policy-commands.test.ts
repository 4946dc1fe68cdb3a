import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { addKeygenCommand } from '../../../src/cli/commands/keygen.ts';
import { addPolicyCommand } from '../../../src/cli/commands/policy.ts';
import { addSignCommand } from '../../../src/cli/commands/sign.ts';
import { addVerifyCommand } from '../../../src/cli/commands/verify.ts';
import { addVersionsCommand } from '../../../src/cli/commands/versions.ts';
import { groupsOfUser } from '../../../src/cli/caller.ts';
import { writeImage } from '../../../src/composefs/write.ts';
import { parseDump } from '../../../src/composefs/dump.ts';
import { formatVersionsFile, versionsFileName } from '../../../src/policy/versions-file.ts';
import { generateKeyPair } from '../../../src/trust/private-key.ts';
import { lockFile, openFile } from '../../../src/sys/file.ts';
import { verityDigest } from '../../../src/verity/verity.ts';
import type { Outcome } from './tool-program.ts';
import { run } from './tool-program.ts';

const everyone = `
[[keys]]
id = "site"
file = "site.pub"
[[rules]]
name = "everyone"
users = ["*"]
images = ["site/**"]
signed-by = ["site"]
verity = "never"
rollback-protection = true
`;

let folder: string;
let image: string;
let images: string;
beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'cfs-policy-'));
  images = join(folder, 'images');
  for (const name of ['policy.d', 'keys.d', 'images', 'state']) mkdirSync(join(folder, name));
  image = join(images, 'a.cfs');
  const dump = '/ 0 40755 2 0 0 0 0.0 - - -\n/f 2 100644 1 0 0 0 0.0 - hi -\n';
  writeFileSync(image, writeImage(parseDump(Buffer.from(dump)), { minVersion: 1, maxVersion: 1 }));
  await run(addKeygenCommand, 'keygen', '--output', join(folder, 'key'));
  writeFileSync(join(folder, 'keys.d', 'site.pub'), readFileSync(join(folder, 'key.pub')));
  policy(everyone);
});
afterEach(() => {
  rmSync(folder, { recursive: true });
});

function policy(text: string): void {
  writeFileSync(join(folder, 'policy.d', '10.toml'), text);
}

function sign(...more: readonly string[]): Promise<Outcome> {
  return run(
    addSignCommand,
    'sign',
    image,
    '--key',
    join(folder, 'key'),
    '--name',
    'site/a',
    '--version',
    '3',
    ...more,
  );
}

function verify(...more: readonly string[]): Promise<Outcome> {
  const words = ['--policy', folder, '--state', join(folder, 'state')];
  return run(addVerifyCommand, 'verify', image, ...words, ...more);
}

describe('verify', () => {
  test('says whether files may be added, and to which store', async () => {
    await sign();
    const store = `[[stores]]\nname = "s"\npath = "${folder}"\nverity = "trusted"\n`;
    policy(`${store}${everyone}`);
    expect((await verify('--add-to')).failure).toMatch(/DeniedByPolicy: .*: add-objects: lets nobody add/);
    policy(`${store}${everyone}stores = ["s"]\nadd-objects = ["s"]\nadd-bytes-per-hour = 4096\n`);
    const { stdout } = await verify('--add-to');
    expect(stdout).toContain(`adds to      s (${folder})`);
    expect(stdout).not.toContain('attributes');
    const json: unknown = JSON.parse((await verify('--json', '--add-to', 's')).stdout);
    expect(json).toMatchObject({ outcome: 'allow', addTo: { store: 's', bytesPerHour: 4096 } });
    expect((await verify('--add-to', 'none')).failure).toMatch(/StoreNotFound: /);
  });

  test('says by which rule and key', async () => {
    await sign();
    const { stdout, failure, exitCode } = await verify();
    expect(failure).toBeUndefined();
    expect(exitCode).toBeUndefined();
    expect(stdout).toMatch(/^allowed by rule "everyone"\n/);
    expect(stdout).toContain(verityDigest(readFileSync(image)));
    expect(stdout).toMatch(/signers +site\n/);
    expect(stdout).toMatch(/version +3\n/);
  });

  test('says why not', async () => {
    expect((await verify()).failure).toMatch(/^.*a\.cfs: NotSigned: rule "everyone": /);
    await sign('--expires', '2020-01-01T00:00:00Z');
    expect((await verify()).failure).toMatch(/a\.cfs: Expired: rule "everyone": /);
  });

  test('knows the newest versions', async () => {
    await sign();
    const versions = formatVersionsFile([{ rule: 'everyone', name: 'site/a', version: 4 }]);
    writeFileSync(join(folder, 'state', versionsFileName), versions);
    expect((await verify()).failure).toMatch(/: RolledBack: /);
  });

  test('prints JSON, and the exit code says the outcome', async () => {
    const refused = await verify('--json');
    expect(refused).toMatchObject({ failure: undefined, exitCode: 1 });
    expect(JSON.parse(refused.stdout)).toMatchObject({
      outcome: 'deny',
      refusal: { kind: 'NotSigned', rule: 'everyone' },
    });
    await sign();
    const allowed = await verify('--json');
    expect(allowed.exitCode).toBeUndefined();
    expect(JSON.parse(allowed.stdout)).toMatchObject({
      outcome: 'allow',
      evidence: { name: 'site/a', version: 3, signers: ['site'], rule: 'everyone' },
      constraints: { fileSystem: 'composefs', attributes: ['ro', 'nosuid', 'nodev'], stores: [] },
    });
  });

  test('asks for another user', async () => {
    policy(everyone.replace('"*"', '"12345"'));
    await sign();
    expect((await verify('--user', '12345')).failure).toBeUndefined();
    expect((await verify('--user', '12346')).failure).toMatch(/: DeniedByPolicy: /);
    expect((await verify('--user', 'nobody-of-that-name')).failure).toMatch(/there is no such user/);
  });

  test('an image that was changed after it was signed', async () => {
    await sign();
    const bytes = readFileSync(image);
    bytes[bytes.length - 1] = (bytes.at(-1) ?? 0) ^ 1;
    writeFileSync(image, bytes);
    expect((await verify()).failure).toMatch(/: SignatureInvalid: /);
  });

  test('looks into the image as the service does', async () => {
    const dump = '/ 0 40755 2 0 0 0 0.0 - - -\n/d 0 20600 1 0 0 259 0.0 - - -\n';
    writeFileSync(image, writeImage(parseDump(Buffer.from(dump)), { minVersion: 1, maxVersion: 1 }));
    await sign();
    expect((await verify()).failure).toMatch(/: IncompatibleImage: .*device/);
    policy(`${everyone}devices = true\n`);
    expect((await verify()).failure).toBeUndefined();
    writeFileSync(image, readFileSync(image).subarray(0, 3000));
    rmSync(`${image}.sig`);
    await sign();
    expect((await verify()).failure).toMatch(/: IncompatibleImage: /);
  });

  test('an image by its name has a location', async () => {
    policy(
      `[[image-directories]]\npath = "${images}"\n[[rules]]\nname = "installed"\nlocations = ["${images}"]\nverity = "never"\n`,
    );
    expect((await verify()).failure).toMatch(/: DeniedByPolicy: /);
    const file = image;
    image = 'name:a';
    expect((await verify()).failure).toBeUndefined();
    image = 'name:b';
    expect((await verify()).failure).toBe('name:b: no image directory of the policy holds it');
    image = 'name:../a';
    expect((await verify()).failure).toMatch(/^name:\.\.\/a: not the path/);
    image = file;
  });

  test('an image and a signature that are not there', async () => {
    expect((await verify('--signature', join(folder, 'x'))).failure).toBe(
      `${folder}/x: no such file or directory`,
    );
    rmSync(image);
    expect((await verify()).failure).toBe(`${image}: no such file or directory`);
  });
});

describe('policy', () => {
  const command = (...words: readonly string[]): Promise<Outcome> =>
    run(addPolicyCommand, 'policy', ...words);

  test('check takes a policy that is valid', async () => {
    const { stdout, failure } = await command('check', folder);
    expect(failure).toBeUndefined();
    expect(stdout).toMatch(
      /^the policy is valid: 1 file, 1 key, 0 stores, 1 rule \(sha256:[0-9a-f]{64}\)\n$/,
    );
    expect(JSON.parse((await command('check', folder, '--json')).stdout)).toMatchObject({
      valid: true,
      faults: [],
    });
  });

  test('check warns of a store that others can write, whatever is checked as its files are opened', async () => {
    const store = join(folder, 'store');
    mkdirSync(store);
    const text = `[[stores]]\nname = "s"\npath = "${store}"\nverity = "require"\n${everyone}`;
    const warnings = async (): Promise<readonly string[]> => {
      const { stdout } = await command('check', folder, '--json');
      return (JSON.parse(stdout) as { warnings: readonly string[] }).warnings.filter((line) =>
        line.includes('"s"'),
      );
    };
    policy(`${text}stores = ["s"]\n`);
    chmodSync(store, 0o755);
    const before = await warnings();
    chmodSync(store, 0o777);
    const problem = `store "s": ${store} can be written by others than root (mode 0777): `;
    expect(await warnings()).toEqual([
      ...before,
      expect.stringContaining(`${problem}others can take files away`),
    ]);
    policy(`${text}add-objects = ["s"]\nstores = ["s"]\n`);
    expect((await warnings()).at(-1)).toContain(`${problem}the service adds no files there`);
    policy(text);
    expect(await warnings()).toEqual([]);
  });

  test('check names every fault with file, line and field', async () => {
    policy(`${everyone}threshold = 2\n[[rules]]\nname = "x"\nsigned-by = ["nobody"]\n`);
    const { stderr, failure } = await command('check', folder);
    const said = `${stderr}cfs-mountctl: ${failure ?? ''}\n`.trimEnd().split('\n');
    expect(said).toHaveLength(2);
    expect(said[0]).toMatch(/policy\.d\/10\.toml:\d+: rules\[0\]\.threshold: /);
    expect(said[1]).toMatch(/policy\.d\/10\.toml:\d+: rules\[1\]\.signed-by/);
    const json = await command('check', folder, '--json');
    expect(json).toMatchObject({ failure: undefined, exitCode: 1 });
    const { valid, faults } = JSON.parse(json.stdout) as { valid: boolean; faults: unknown[] };
    expect(valid).toBe(false);
    expect(faults).toHaveLength(2);
  });

  test('show fills in the defaults', async () => {
    const { stdout } = await command('show', folder);
    expect(stdout).toContain('rule "everyone"');
    expect(stdout).toMatch(/attributes +ro, nosuid, nodev\n/);
    const shown = JSON.parse((await command('show', '--policy', folder, '--json')).stdout) as {
      rules: unknown[];
    };
    expect(shown.rules[0]).toMatchObject({ name: 'everyone', users: ['*'], threshold: 1, devices: false });
  });

  test('explain walks through the rules', async () => {
    await sign();
    policy(`[[rules]]\nname = "first"\nusers = ["4242"]\nunsigned = true\n${everyone}`);
    const { stdout, exitCode } = await command('explain', image, '--policy', folder, '--state', folder);
    expect(exitCode).toBeUndefined();
    expect(stdout).toMatch(/^rule "first" .*: passed over\n/);
    expect(stdout).toMatch(/\nallowed by rule "everyone"\n$/);
  });

  test('nothing in a signature file writes to the terminal: not its key IDs, not its members', async () => {
    await sign();
    const explain = (): Promise<Outcome> => command('explain', image, '--policy', folder, '--state', folder);
    const envelope = JSON.parse(readFileSync(`${image}.sig`, 'utf8')) as { signatures: { keyid: string }[] };
    writeFileSync(join(folder, 'keys.d', 'site.pub'), generateKeyPair().publicPem);
    for (const signature of envelope.signatures) signature.keyid = '\u001b[2J\u202ehidden\u2028';
    const payload = Buffer.from(String.raw`{"\u001b[31m":1,"\u001b[31m":2}`).toString('base64');
    for (const [file, shown] of [
      [envelope, '\ufffd[2J\ufffdhidden\ufffd (not a key of this policy)'],
      [{ ...envelope, payload }, 'the member "\ufffd[31m" is there twice'],
    ] as const) {
      writeFileSync(`${image}.sig`, JSON.stringify(file));
      const { stdout } = await explain();
      expect(stdout.replaceAll('\n', '')).not.toMatch(/[\p{C}\p{Zl}\p{Zp}]/u);
      expect(Buffer.from(stdout).toString()).toContain(shown);
    }
  });

  test('explain exits 1 where the image is refused', async () => {
    const { stdout, exitCode } = await command('explain', image, '--policy', folder, '--state', folder);
    expect(stdout).toMatch(/refused: NotSigned: /);
    expect(exitCode).toBe(1);
  });
});

describe('versions', () => {
  const versions = (...words: readonly string[]): Promise<Outcome> =>
    run(addVersionsCommand, 'versions', '--state', join(folder, 'state'), ...words);
  const entries = [
    { rule: 'r', name: 'a', version: 1 },
    { rule: 'r', name: 'b', version: 2 },
    { rule: 's', name: 'a', version: 3 },
  ];
  beforeEach(() => {
    writeFileSync(join(folder, 'state', versionsFileName), formatVersionsFile(entries));
  });

  test('lists, and forgets', async () => {
    expect((await versions()).stdout).toBe('a  1  r\nb  2  r\na  3  s\n');
    expect((await versions('--forget', 'a')).stdout).toBe('forgot 2 versions of a\n');
    expect(JSON.parse((await versions('--json')).stdout)).toEqual([entries[1]]);
    expect((await versions('--forget', 'a')).failure).toBe('no version of "a" is remembered');
  });

  test('forgets nothing while the service has the folder locked', async () => {
    using held = openFile(join(folder, 'state'), { directory: true });
    expect(lockFile(held.number)).toBe(true);
    expect((await versions('--forget', 'a')).failure).toMatch(/is in use by the service/);
    expect((await versions()).stdout).toContain('a  1  r\n');
  });

  test('says why there is nothing to list', async () => {
    rmSync(join(folder, 'state', versionsFileName));
    expect((await versions()).stderr).toMatch(/no newest version is remembered in .*: none was mounted/);
    rmSync(join(folder, 'state'), { recursive: true });
    expect((await versions()).stderr).toMatch(/: it does not exist\n$/);
  });

  describe('of a damaged file', () => {
    const path = (): string => join(folder, 'state', versionsFileName);
    const damage = (): string => {
      const sound = formatVersionsFile(entries);
      const text = `\u001b[2J\n${Buffer.from(sound).toString()}{"rule":"r","name":"b","version":9}\n{"rule":"r","na`;
      writeFileSync(path(), text);
      return text;
    };

    test('--repair keeps what can be read, says what is dropped, and keeps the file', async () => {
      const text = damage();
      const { stdout, stderr, failure } = await versions('--repair');
      expect(failure).toBeUndefined();
      expect(stderr.split('\n')).toEqual([
        String.raw`warning: line 1 is dropped: not JSON: a syntax error: \x1b[2J`,
        'warning: line 5 is dropped: the same rule and name a second time: {"rule":"r","name":"b","version":9}',
        'warning: line 6 is dropped: cut off: the last line has no newline: {"rule":"r","na',
        '',
      ]);
      expect(stdout).toBe(`kept 3 versions, dropped 3 lines; ${path()}.damaged is the file as it was\n`);
      expect(readFileSync(`${path()}.damaged`, 'utf8')).toBe(text);
      // Of the two versions of one image the higher one is kept.
      expect((await versions()).stdout).toBe('a  1  r\nb  9  r\na  3  s\n');
      expect((await versions('--repair')).stdout).toBe(`${path()} is not damaged: it holds 3 versions\n`);
      expect(readFileSync(`${path()}.damaged`, 'utf8')).toBe(text);
    });

    test('--forget forgets nothing by itself, and goes with --repair', async () => {
      const text = damage();
      expect((await versions('--forget', 'a')).failure).toMatch(/line 1: .*cfs-mountctl versions --repair/);
      expect(readFileSync(path(), 'utf8')).toBe(text);
      const { stdout } = await versions('--forget', 'a', '--repair');
      expect(stdout).toMatch(/^kept 3 versions, dropped 3 lines; .*\nforgot 2 versions of a\n$/);
      expect((await versions()).stdout).toBe('b  9  r\n');
    });

    test('is not repaired while the service has the folder locked', async () => {
      const text = damage();
      using held = openFile(join(folder, 'state'), { directory: true });
      expect(lockFile(held.number)).toBe(true);
      expect((await versions('--repair')).failure).toMatch(/is in use by the service/);
      expect(readFileSync(path(), 'utf8')).toBe(text);
    });

    test('that holds nothing but rubbish is empty afterwards', async () => {
      writeFileSync(path(), '\u0000\n'.repeat(100));
      const { stdout, stderr } = await versions('--repair');
      expect(stdout).toMatch(/^kept 0 versions, dropped 100 lines; /);
      expect(stderr).toMatch(/warning: and 68 more lines are dropped\n$/);
      expect(readFileSync(path(), 'utf8')).toBe('');
    });
  });

  test('a damaged file is named, with the line, and with what to do', async () => {
    writeFileSync(join(folder, 'state', versionsFileName), 'x\n');
    expect((await versions()).failure).toMatch(/versions\.jsonl: line 1: not JSON.*Restore it/);
  });
});

test('the groups of a user', () => {
  const passwd = 'root:x:0:0:::\nalex:x:1000:1000:::\nsam:x:1001:100:::\n';
  const group = 'root:x:0:\nwheel:x:10:sam,alex\nalex:x:1000:\nother:x:11:alexa\n';
  expect(groupsOfUser(1000, passwd, group)).toEqual([1000, 10]);
  expect(groupsOfUser(1001, passwd, group)).toEqual([100, 10]);
  expect(groupsOfUser(4, passwd, group)).toEqual([]);
});
