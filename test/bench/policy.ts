import { performance } from 'node:perf_hooks';
import { toBase64 } from '../../src/base/bytes.ts';
import { digestFromBytes } from '../../src/base/digest.ts';
import { decide } from '../../src/policy/decide.ts';
import { parsePolicy } from '../../src/policy/parse.ts';
import type { Question } from '../../src/policy/question.ts';
import { formatEnvelope } from '../../src/trust/dsse.ts';
import { generateKeyPair, parsePrivateKey } from '../../src/trust/private-key.ts';
import { signStatement } from '../../src/trust/sign.ts';
import { verifySignatures } from '../../src/trust/verify.ts';

// What a decision costs under a large policy: `npm run bench:policy`. Signatures are verified once for each image and
// remembered (src/daemon/images/evidence.ts); what is asked anew for each request is measured here.

const rules = 100;
const keys = 1000;
const rounds = 20_000;

const pairs = Array.from({ length: keys }, () => generateKeyPair());
const texts = [
  ...pairs.map(
    ({ publicKey }, index) => `[[keys]]\nid = "key-${index}"\npublic-key = "${toBase64(publicKey.spki)}"\n`,
  ),
  ...Array.from({ length: rules }, (_, index) => {
    const signers = Array.from({ length: keys / rules }, (__, at) => `"key-${(index * keys) / rules + at}"`);
    return (
      `[[rules]]\nname = "rule ${index}"\nusers = ["1000-1999"]\nimages = ["example.org/group-${index}/**"]\n` +
      `signed-by = [${signers.join(', ')}]\n`
    );
  }),
];
const context = {
  accounts: { user: () => undefined, group: () => undefined },
  complete: true,
  readKey: () => {
    throw new RangeError('no key file');
  },
  checkDirectory: () => undefined,
  realPath: (path: string) => path,
};
const loading = performance.now();
const policy = parsePolicy([{ path: 'bench.toml', text: texts.join('') }], context);
const loaded = performance.now() - loading;

const digest = digestFromBytes(new Uint8Array(32).fill(1));
const last = pairs.at(-1);
if (last === undefined) throw new RangeError('no keys');
const name = `example.org/group-${rules - 1}/app`;
const signed = formatEnvelope(
  signStatement({ name, digest, fileSystem: 'composefs' }, parsePrivateKey(last.privatePem)),
);
const question: Question = {
  caller: { uid: 1000, root: false, gids: [1000] },
  digest,
  verification: verifySignatures(
    [signed],
    digest,
    [...policy.keys.values()].map(({ key }) => key),
  ),
  allowUnsigned: false,
  clientStores: false,
  now: new Date(),
  newestVersion: () => undefined,
};

report('the last of the rules allows', question);
report('no rule allows, the refusal says why', { ...question, caller: { ...question.caller, uid: 1 } });
report('not signed', { ...question, verification: { statements: [], digestSignatures: [], faults: [] } });
process.stdout.write(`loading the policy: ${loaded.toFixed(0)} ms\n`);

function report(what: string, asked: Question): void {
  const times: number[] = [];
  for (let round = 0; round < rounds; round++) {
    const begun = performance.now();
    decide(policy, asked);
    times.push((performance.now() - begun) * 1000);
  }
  times.sort((a, b) => a - b);
  const at = (share: number): string => (times[Math.floor(times.length * share)] ?? 0).toFixed(1);
  process.stdout.write(
    `${rules} rules, ${keys} keys, ${what}: median ${at(0.5)} µs, 99 of 100 below ${at(0.99)} µs\n`,
  );
}
