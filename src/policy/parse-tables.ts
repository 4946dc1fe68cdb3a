import type { Digest } from '../base/digest.ts';
import type { Certificate } from '../trust/certificate.ts';
import { CertificateInvalid, parseCertificatePem } from '../trust/certificate.ts';
import { whyNotIssuer } from '../trust/certificate-path.ts';
import type { KeyId, PublicKey } from '../trust/public-key.ts';
import { parsePublicKey } from '../trust/key.ts';
import { parseKeyId } from '../trust/key-id.ts';
import { KeyInvalid } from '../trust/public-key.ts';
import { FieldInvalid } from './fault.ts';
import type { Fields } from './fields.ts';
import { nearestName } from './nearest-name.ts';
import { parsePattern } from './pattern.ts';
import type { PolicyKey, PolicyStore } from './policy.ts';
import { parseChoice, parseDigestValue, parseDirectory, parseLabel } from './values.ts';

/** Names that rules may refer to: those at fault as well, so that one fault is not reported again by each rule. */
export class Names {
  readonly #names = new Set<string>();
  /** False once a definition could not be read so far that its name is known. */
  complete = true;

  add(name: string): void {
    this.#names.add(name);
  }

  /** The name, if it is defined or may be. Throws FieldInvalid. */
  check(name: string, kind: string): string {
    if (this.#names.has(name) || !this.complete) return name;
    const nearest = nearestName(name, [...this.#names]);
    const hint = nearest === undefined ? '' : `; did you mean "${nearest}"?`;
    throw new FieldInvalid(`no ${kind} "${name.slice(0, 64)}" is defined${hint}`);
  }
}

/** Collects [[keys]]. `readKey` gives the text of a key file, and throws FieldInvalid. */
export function parseKeys(
  tables: readonly Fields[],
  names: Names,
  readKey: (policyFile: string, name: string) => { readonly path: string; readonly text: string },
): Map<string, PolicyKey> {
  const keys = new Map<string, PolicyKey>();
  for (const fields of tables) {
    const id = readLabel(fields, 'id', names);
    const source = parseKeySource(fields, readKey);
    const authority = fields.boolean('authority') ?? false;
    if (authority && source !== undefined) checkAuthority(fields, source.certificate);
    const notBefore = fields.time('not-before');
    const notAfter = fields.time('not-after');
    const patterns = fields.list('names', parsePattern);
    if (notBefore !== undefined && notAfter !== undefined && notAfter < notBefore) {
      fields.fault('not-after', 'lies before not-before');
    }
    if (!fields.sound || id === undefined || source === undefined) continue;
    const merged = mergeKey(keys.get(id), {
      id,
      key: source.key,
      certificates: source.certificate === undefined ? [] : [source.certificate],
      authority,
      notBefore,
      notAfter,
      names: patterns ? [patterns] : [],
    });
    if (merged === undefined) fields.fault('id', `"${id}" is already the ID of another key`);
    else keys.set(id, merged);
  }
  return keys;
}

/** An authority has to be a certificate that lets its key issue others. */
function checkAuthority(fields: Fields, certificate: Certificate | undefined): void {
  if (certificate === undefined) {
    fields.fault('authority', 'the key is no certificate, and only a certificate can be an authority');
    return;
  }
  const unfit = whyNotIssuer(certificate, 0, 'anchor');
  if (unfit !== undefined) fields.fault('authority', unfit);
}

/**
 * A key that is defined twice has to keep within the limits of both definitions; either of two certificates of it will do, as while one is
 * renewed. Undefined if it is another key.
 */
function mergeKey(earlier: PolicyKey | undefined, key: PolicyKey): PolicyKey | undefined {
  if (earlier === undefined) return key;
  if (earlier.key.id !== key.key.id) return undefined;
  const begins = [earlier.notBefore, key.notBefore].filter((time) => time !== undefined);
  const ends = [earlier.notAfter, key.notAfter].filter((time) => time !== undefined);
  return {
    ...earlier,
    certificates: [...earlier.certificates, ...key.certificates],
    authority: earlier.authority && key.authority,
    notBefore: begins.toSorted((a, b) => b.getTime() - a.getTime())[0],
    notAfter: ends.toSorted((a, b) => a.getTime() - b.getTime())[0],
    names: [...earlier.names, ...key.names],
  };
}

/** A key and the certificate that it was given as. */
interface KeySource {
  readonly key: PublicKey;
  readonly certificate: Certificate | undefined;
}

function parseKeySource(
  fields: Fields,
  readKey: (policyFile: string, name: string) => { readonly path: string; readonly text: string },
): KeySource | undefined {
  const given = ['file', 'public-key'].filter((name) => fields.has(name));
  if (given.length !== 1) {
    fields.fault(
      undefined,
      given.length > 1 ? `has both ${given.join(' and ')}` : 'has none of file, public-key and keyring',
    );
    return undefined;
  }
  const inline = fields.string('public-key', (text) => parseKeyText(text, undefined));
  const fromFile = fields.string('file', (name) => {
    if (name === '' || name === '.' || name === '..' || /[/\0]/.test(name)) {
      throw new FieldInvalid('not the plain name of a file in keys.d');
    }
    const { path, text } = readKey(fields.place.file, name);
    return parseKeyText(text, path);
  });
  return inline ?? fromFile;
}

function parseKeyText(text: string, path: string | undefined): KeySource {
  try {
    return { key: parsePublicKey(text), certificate: parseCertificatePem(text) };
  } catch (error) {
    if (error instanceof KeyInvalid || error instanceof CertificateInvalid)
      throw new FieldInvalid(`${path ?? 'the text'} is no usable key: ${error.message}`);
    throw error;
  }
}

/** Collects [[revoked]]: each names a key or a digest. */
export function parseRevoked(tables: readonly Fields[]): { keys: Set<KeyId>; digests: Set<Digest> } {
  const keys = new Set<KeyId>();
  const digests = new Set<Digest>();
  for (const fields of tables) {
    const key = fields.string('key', parseKeyIdValue);
    const digest = fields.string('digest', parseDigestValue);
    if (fields.has('key') === fields.has('digest'))
      fields.fault(undefined, 'is to have one of key and digest');
    if (key !== undefined) keys.add(key);
    if (digest !== undefined) digests.add(digest);
  }
  return { keys, digests };
}

function parseKeyIdValue(text: string): KeyId {
  const id = parseKeyId(text);
  if (id === undefined) {
    const what = text.startsWith('SHA256:') ? "a fingerprint of OpenSSH's, and " : '';
    throw new FieldInvalid(
      `${what}not the 64 lower-case hexadecimal digits of a key ID (SHA-256 of the key's SPKI DER), as cfs-mountctl policy show and ` +
        'cfs-mountctl inspect print them',
    );
  }
  return id;
}

const parseStoreVerity = parseChoice(['require', 'trusted'] as const);

/** Collects [[stores]]. `checkDirectory` throws FieldInvalid. */
export function parseStores(
  tables: readonly Fields[],
  names: Names,
  checkDirectory: (path: string) => void,
): Map<string, PolicyStore> {
  const stores = new Map<string, PolicyStore>();
  for (const fields of tables) {
    const name = readLabel(fields, 'name', names);
    const verity = fields.string('verity', parseStoreVerity);
    const path = fields.string('path', (text) => {
      const directory = parseDirectory(text);
      if (verity === 'trusted') checkDirectory(directory);
      return directory;
    });
    if (name === undefined || path === undefined || verity === undefined) continue;
    const earlier = stores.get(name);
    if (earlier !== undefined && (earlier.path !== path || earlier.verity !== verity)) {
      fields.fault('name', `"${name}" is already the name of another store`);
    } else {
      stores.set(name, { name, path, verity });
    }
  }
  return stores;
}

/** Collects [[image-directories]], each once, in their order. `checkDirectory` throws FieldInvalid. */
export function parseImageDirectories(
  tables: readonly Fields[],
  checkDirectory: (path: string) => void,
): string[] {
  const paths = new Set<string>();
  for (const fields of tables) {
    const path = fields.string('path', (text) => {
      const directory = parseDirectory(text);
      checkDirectory(directory);
      return directory;
    });
    if (path !== undefined) paths.add(path);
  }
  return [...paths];
}

/** How many seconds the clock may be wrong, by all [clock] together: they have to agree. 0 where there is none. */
export function parseClock(tables: readonly Fields[]): number {
  let skew: number | undefined;
  for (const fields of tables) {
    const seconds = fields.integer('skew-seconds');
    if (seconds !== undefined && skew !== undefined && seconds !== skew)
      fields.fault('skew-seconds', `${seconds}, and another file says ${skew}`);
    skew ??= seconds;
  }
  return skew ?? 0;
}

/** The name of a key or store, noted as defined at once. */
export function readLabel(fields: Fields, field: string, names: Names): string | undefined {
  const label = fields.string(field, parseLabel);
  if (label === undefined) names.complete = false;
  else names.add(label);
  return label;
}
