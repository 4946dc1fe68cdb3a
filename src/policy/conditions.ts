import type { Rule } from './policy.ts';
import { matchesPattern } from './pattern.ts';
import type { CallerIdentity } from './question.ts';
import type { Case, Verdict } from './verdict.ts';
import {
  countedKeyrings,
  countedKeys,
  denied,
  distinctSigners,
  failed,
  hasSigned,
  held,
  howToAsk,
  whyKeyringNotCounted,
  whyNotCounted,
} from './verdict.ts';

// What has to hold for a rule to decide at all, in the order in which it is asked.

/** Key IDs named in one error; an image has rarely more signers than two. */
const keyIdsMax = 64;

/** What to do next about an image without a signature. */
const howToSign =
  'sign it (cfs-mountctl sign), and show the signature: FILE.sig beside the image, or the option signature=FILE';

/** Rules for unsigned images are passed over unless they are asked for. */
export function checkAsked({ rule, question }: Case): Verdict {
  if (!rule.unsigned) return held('needs no asking for');
  if (question.allowUnsigned) return held('unsigned images were asked for');
  const detail =
    'lets unsigned images in only for callers that ask for it (allowUnsigned, mount -o unsigned)';
  const { statements, digestSignatures, faults } = question.verification;
  if (statements.length + digestSignatures.length + faults.length > 0) return denied(detail);
  return failed(detail, { kind: 'NotSigned', parameters: { digest: question.digest } });
}

/** users and groups; both where both are given. */
export function checkCaller({ rule, question: { caller } }: Case): Verdict {
  if (!isAmongUsers(rule, caller)) return denied(`is not for ${describeCaller(caller)}`);
  if (!isInGroup(rule, caller)) {
    return denied(
      `is for groups ${rule.groups?.join(', ') ?? ''}, and ${describeCaller(caller)} is in none of them`,
    );
  }
  return held(`is for ${describeCaller(caller)}`);
}

/** Only rules for everybody are for nobody in particular. */
function isAmongUsers(rule: Rule, caller: CallerIdentity): boolean {
  return (
    rule.users?.some(
      (match) =>
        match.kind === 'everybody' ||
        (!isNobodyInParticular(caller) && match.first <= caller.uid && caller.uid <= match.last),
    ) ?? true
  );
}

/** The groups are those that the process itself has. Nobody in particular is in none: setgroups(2) gives it any. */
function isInGroup({ groups }: Rule, caller: CallerIdentity): boolean {
  return groups?.some((gid) => !isNobodyInParticular(caller) && caller.gids.includes(gid)) ?? true;
}

/**
 * User 0 is root of the initial user namespace or nobody in particular: a container's root without a user namespace
 * of its own shows the same number.
 */
function isNobodyInParticular({ uid, root }: CallerIdentity): boolean {
  return uid === 0 && !root;
}

function describeCaller(caller: CallerIdentity): string {
  if (caller.root) return 'root';
  return caller.uid === 0 ? 'user 0 of a container' : `user ${caller.uid}`;
}

/** locations. */
export function checkLocation({ rule, question: { location } }: Case): Verdict {
  if (rule.locations === undefined) return held('is for images from anywhere');
  if (location === undefined) {
    return denied('is for images that the service opened by name, and this one was handed over');
  }
  const directory = rule.locations.find((path) => location.startsWith(path === '/' ? path : `${path}/`));
  if (directory !== undefined) return held(`the image lies below ${directory}`);
  return denied(`the image ${location} lies below none of ${rule.locations.join(', ')}`);
}

/** file-systems, and whether what is asked for is what the signers say. */
export function checkFileSystem({ rule, question, candidate, fileSystem }: Case): Verdict {
  const stated = candidate?.statement?.fileSystem;
  if (stated !== undefined && stated !== fileSystem) {
    const detail = `${question.fileSystem ?? fileSystem} was asked for, and the signature states ${stated}`;
    return failed(detail, { kind: 'IncompatibleImage' });
  }
  if (rule.fileSystems.includes(fileSystem)) return held(`takes ${fileSystem}`);
  const taken = rule.fileSystems.join(', ');
  if (stated !== undefined || question.fileSystem !== undefined)
    return denied(`takes ${taken}, and this image is ${fileSystem}`);
  const [only, ...others] = rule.fileSystems;
  const hint = howToAsk(only === undefined || others.length > 0 ? 'TYPE' : only);
  return denied(`takes ${taken}, and ${fileSystem} is taken where nobody says: ${hint}`);
}

/** digests and images. Without a statement there is no name yet: then the signers are what is missing. */
export function checkImage({ rule, question, candidate }: Case): Verdict {
  if (rule.digests?.has(question.digest) === false) {
    return denied(`the digest ${question.digest} is none of those that it names`);
  }
  if (rule.images === undefined)
    return held(rule.digests === undefined ? 'takes every image' : 'names the digest');
  if (candidate === undefined) return held('the name is for signers to say');
  const name = candidate.statement?.name;
  if (name === undefined) return denied('takes images by their signed name, and the signature states none');
  if (rule.images.some((pattern) => matchesPattern(pattern, name))) return held(`takes the name "${name}"`);
  return denied(`the signed name "${name}" matches none of ${rule.images.join(', ')}`);
}

/** signed-by and threshold. */
export function checkSigners(asked: Case): Verdict {
  const { rule, question, candidate } = asked;
  if (rule.signedBy === undefined) {
    if (rule.images === undefined) return held('needs no signature');
    return denied('takes images by their signed name and has no signed-by, and so no name that it trusts');
  }
  if (candidate === undefined) {
    const { faults, statements, digestSignatures } = question.verification;
    const formats = [
      ...(statements.length > 0 ? ['dsse'] : []),
      ...digestSignatures.map(({ format }) => format),
    ];
    if (formats.length > 0) {
      return denied(
        `takes signatures in the format ${rule.formats.join(' or ')}, and the image has them in ${formats.join(' and ')}`,
      );
    }
    if (faults.length === 0) {
      const detail = `the image is not signed, or its signature was not shown; ${howToSign}`;
      return failed(detail, {
        kind: 'NotSigned',
        parameters: { digest: question.digest },
      });
    }
    return failed(faults.slice(0, 8).join('; '), { kind: 'SignatureInvalid' });
  }
  const counted = countedKeys(asked);
  const keyrings = countedKeyrings(asked);
  const distinct = distinctSigners(asked, counted);
  if (distinct >= rule.threshold || keyrings.length > 0) {
    const ids = [...counted, ...keyrings].map(({ id }) => `"${id}"`);
    return held(`signed by ${ids.join(', ')} (${rule.threshold} needed)`);
  }
  const { signers, digestSigners, paths, unknownKeyIds } = candidate;
  const keyIds = [
    ...new Set([...signers, ...digestSigners, ...paths.flatMap(({ keys }) => keys.slice(0, 1))]),
    ...unknownKeyIds.filter((id) => id !== ''),
  ].slice(0, keyIdsMax);
  return failed(describeShortage(asked, distinct), { kind: 'KeyNotTrusted', parameters: { keyIds } });
}

function describeShortage({ policy, rule, question, candidate }: Case, distinct: number): string {
  if (candidate === undefined) return '';
  const signedBy = new Set(rule.signedBy);
  const known = [...policy.keys.values()].filter((key) => hasSigned(key, candidate));
  const signers = [
    ...known.map((key) => {
      const why =
        whyNotCounted(policy, key, candidate) ?? (signedBy.has(key.id) ? 'counts' : 'not one of signed-by');
      return `"${key.id}" (${why})`;
    }),
    ...[...policy.keyrings.values()].flatMap(({ id, keyring }) =>
      candidate.keyrings
        .filter((signature) => signature.keyring === keyring)
        .map((signature) => {
          const why =
            whyKeyringNotCounted(policy, signature) ?? (signedBy.has(id) ? 'counts' : 'not one of signed-by');
          return `"${id}" (${why})`;
        }),
    ),
    ...candidate.unknownKeyIds.map((id) => `${id === '' ? 'an unnamed key' : id} (not a key of this policy)`),
  ];
  const faults = question.verification.faults.slice(0, 8).map((fault) => `; ${fault}`);
  return (
    `${distinct} of the ${rule.threshold} signatures needed, by ${[...signedBy].map((id) => `"${id}"`).join(', ')}; ` +
    `the image is signed by ${signers.slice(0, keyIdsMax).join(', ')}${faults.join('')}; ` +
    'have it signed by keys that the rule names, or let the administrator add who signed it to signed-by'
  );
}
