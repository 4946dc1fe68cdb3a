import { formatTime } from '../trust/time.ts';
import type { Policy, PolicyStore, VerityLevel } from './policy.ts';
import { verityLevels } from './policy.ts';
import { isScanned } from '../trust/file-system.ts';
import type { Constraints, ImageContents } from './question.ts';
import type { Case, Verdict } from './verdict.ts';
import {
  countedKeyrings,
  countedKeys,
  denied,
  distinctSigners,
  failed,
  held,
  howToAsk,
  invalidNow,
  invalidStatementNow,
  soundPaths,
  validKeyrings,
  validKeys,
} from './verdict.ts';

// What an image has to meet once a rule decides. What fails here refuses, and no later rule is asked.

/** The statement's time, and that of enough of the keys. */
export function checkValidity(asked: Case): Verdict {
  const { policy, rule, candidate } = asked;
  if (rule.signedBy === undefined || candidate === undefined)
    return held('nothing was signed that could expire');
  const stated = candidate.statement && invalidStatementNow(asked, candidate.statement);
  if (stated !== undefined)
    return expired(policy, `the statement on "${candidate.statement?.name ?? ''}"`, stated);
  if (distinctSigners(asked, validKeys(asked), 'now') >= rule.threshold || validKeyrings(asked).length > 0)
    return held(
      `${candidate.statement === undefined ? 'the keys' : 'the statement and its keys'} are valid now`,
    );
  for (const key of countedKeys(asked)) {
    const dated = [
      { what: `the key "${key.id}"`, time: key },
      ...soundPaths(policy, key, candidate).map((time) => ({
        what: `a certificate by which the key "${key.id}" counts`,
        time,
      })),
    ];
    for (const { what, time } of dated) {
      const limit = invalidNow(asked, time);
      if (limit === undefined) continue;
      return expired(policy, what, limit);
    }
  }
  for (const keyring of countedKeyrings(asked)) {
    const limit = invalidNow(asked, keyring);
    if (limit !== undefined) return expired(policy, `the keyring "${keyring.id}"`, limit);
  }
  throw new RangeError('keys that counted are neither enough nor invalid');
}

function expired(
  { clockSkew }: Policy,
  what: string,
  { when, at }: { readonly when: 'before' | 'after'; readonly at: Date },
): Verdict {
  const time = formatTime(at);
  const [how, hint] =
    when === 'before'
      ? ['is not valid before', "is this machine's clock right?"]
      : ['expired at', 'it has to be signed anew'];
  const skew =
    clockSkew === 0 ? '' : `, by more than the ${clockSkew / 1000} seconds that the clock may be wrong`;
  return failed(`${what} ${how} ${time}${skew}; ${hint}`, {
    kind: 'Expired',
    parameters: { what, at: time },
  });
}

/** rollback-protection. */
export function checkVersion({ rule, question, candidate }: Case): Verdict {
  if (!rule.rollbackProtection) return held('takes every version');
  const { name, version } = candidate?.statement ?? {};
  if (name === undefined || version === undefined) {
    return denied('protects against rollback, and nobody that it trusts states a version of this image');
  }
  const newest = question.newestVersion(rule.name, name);
  if (newest === undefined || version >= newest)
    return held(`version ${version} is not older than the newest seen`);
  return failed(
    `version ${version} of "${name}" is older than ${newest}, which has been mounted here already`,
    {
      kind: 'RolledBack',
      parameters: { name, version, newest },
    },
  );
}

/** The policy's stores that are to be used, in order: those asked for, or with none asked for those of the rule. */
export function storesInUse({ policy, rule, question, fileSystem }: Case): readonly PolicyStore[] {
  if (fileSystem !== 'composefs') return [];
  const asked = question.stores ?? [];
  const names = asked.length === 0 && !question.clientStores ? rule.stores : asked;
  return [...new Set(names)].map((name) => policy.stores.get(name)).filter((store) => store !== undefined);
}

/** stores and client-stores. */
export function checkStores({ policy, rule, question, fileSystem }: Case): Verdict {
  const asked = question.stores ?? [];
  const missing = asked.find((name) => !policy.stores.has(name));
  if (missing !== undefined) {
    return failed(`the policy has no store "${missing}"`, {
      kind: 'StoreNotFound',
      parameters: { name: missing },
    });
  }
  if (fileSystem !== 'composefs') {
    if (asked.length === 0 && !question.clientStores) return held(`${fileSystem} images use no stores`);
    const detail = `stores are for composefs images, and this one is ${fileSystem}`;
    return failed(detail, { kind: 'IncompatibleImage' });
  }
  const foreign = asked.find((name) => !rule.stores.includes(name));
  if (foreign !== undefined) return denied(`does not let its images use the store "${foreign}"`);
  if (question.clientStores && !rule.clientStores) {
    return denied("takes no directories of the client's as stores (client-stores)");
  }
  return held('the stores are those of the rule');
}

/**
 * The level that holds for the mount: the higher of what the rule demands and the client asks for. Overlayfs reads a
 * client's directory with root's rights, so that only files checked by digest may come from there.
 */
export function effectiveVerity({ rule, question }: Case): VerityLevel {
  if (question.clientStores) return 'require';
  const asked = verityLevels.indexOf(question.verity ?? rule.verity);
  return verityLevels[Math.max(asked, verityLevels.indexOf(rule.verity))] ?? 'require';
}

/** verity. Whether the kernel can do it is for the plan to say. */
export function checkVerity(asked: Case): Verdict {
  const { rule, question } = asked;
  const level = effectiveVerity(asked);
  const trusted = storesInUse(asked).find((store) => store.verity === 'trusted');
  if (level !== 'require' || trusted === undefined) return held(`the level is ${level}`);
  const store = `the store "${trusted.name}" is only trusted, its files are not checked by fs-verity`;
  if (question.clientStores) {
    return denied(`beside a directory of the client's every store has to be checked, and ${store}`);
  }
  if (rule.verity === 'require') {
    return denied(
      `demands verity = "require", and ${store}; verity = "if-present" in the rule would let it be used`,
    );
  }
  return denied(
    `verity was asked for as require (verity_check=2), and ${store}; without that, or with verity_check=1, it would be used`,
  );
}

/** What of an image does not go with how it would be mounted; undefined where all does. */
export function misfit(
  contents: ImageContents,
  mounted: Pick<Constraints, 'fileSystem' | 'devices' | 'verity'>,
): 'file system' | 'devices' | 'digests' | undefined {
  if (contents.fileSystem !== mounted.fileSystem) return 'file system';
  if (contents.devices === true && !mounted.devices) return 'devices';
  return contents.missingDigest && mounted.verity === 'require' ? 'digests' : undefined;
}

/**
 * What was found in the image: its filesystem, devices, and whether its files can be checked. Nothing is known of that before
 * the image was scanned: then this is asked again.
 */
export function checkContents(asked: Case): Verdict {
  const { rule, question, candidate, fileSystem } = asked;
  const { contents } = question;
  if (!isScanned(fileSystem) && !rule.unscanned)
    return denied(
      `nobody looks into ${fileSystem} images for device nodes before the kernel reads them, and the rule does not say that ` +
        'nodev is enough to keep these from working (unscanned)',
    );
  if (contents === undefined) return held('not scanned yet');
  const which = misfit(contents, { fileSystem, devices: rule.devices, verity: effectiveVerity(asked) });
  if (which === undefined) return held('what it holds is what the rule takes');
  const found = contents.fileSystem;
  const details = {
    'file system':
      question.fileSystem === undefined && candidate?.statement === undefined
        ? `the image is ${found}, and ${fileSystem} is taken where nobody says: ${howToAsk(found)}`
        : `the image is ${found}, and ${fileSystem} was asked for or stated`,
    devices: `the image holds device nodes (${contents.devicePath ?? 'without a path'}), and the rule does not let them in (devices)`,
    digests: 'the image holds files without a digest, which cannot be checked, and verity is "require"',
  };
  return failed(details[which], { kind: 'IncompatibleImage' });
}
