import type { Attribute, VerityLevel } from '../policy/policy.ts';
import type { FileSystem } from '../trust/file-system.ts';

/**
 * Which image: a file (copied into a sealed memfd unless it cannot change anyway), an open descriptor of one, which stays
 * the caller's, or an image that the administrator installed, by its path below an image directory or its digest
 * (`sha256:<hex>`).
 */
export type ImageSource = { readonly path: string } | { readonly fd: number } | { readonly name: string };

/** Where a composefs image finds its files: a store of the policy by name, or a directory by path or descriptor. */
export type StoreSource = { readonly name: string } | { readonly path: string } | { readonly fd: number };

/** What is asked of Verify. */
export interface VerifyOptions {
  readonly image: ImageSource;
  /** Left out, what the signature states, else composefs. */
  readonly fileSystem?: FileSystem | undefined;
  /** The digest that the image must have, `sha256:<64 lower-case hexadecimal digits>`. */
  readonly digest?: string | undefined;
  /** Signature files, by path or content. Left out, PATH.sig beside an image given by path, where it exists. */
  readonly signatures?: readonly (string | Uint8Array)[] | undefined;
  /** Lets rules for unsigned images apply. */
  readonly allowUnsigned?: boolean | undefined;
  /** Left out, the stores of the rule that lets the image in. Names are searched before directories. */
  readonly stores?: readonly StoreSource[] | undefined;
  /** Left out, the rule's level; the policy may demand more. */
  readonly verity?: VerityLevel | undefined;
}

/** What is asked of Mount. */
export interface MountOptions extends VerifyOptions {
  /** Whose IDs the mount shows; left out, the image's own. */
  readonly idMap?: 'none' | 'caller' | { readonly userNamespaceFd: number } | undefined;
  /** Attributes beyond those that the policy sets. */
  readonly attributes?: readonly Attribute[] | undefined;
}

/** What is asked of AddObjects. */
export interface AddObjectsOptions extends Pick<
  VerifyOptions,
  'image' | 'digest' | 'signatures' | 'allowUnsigned'
> {
  /** The name of one of the policy's stores. Left out, the first that the rule lets its callers add to. */
  readonly store?: string | undefined;
  /** The files, by path or open descriptor: at most 253 with an image by name, one less otherwise. */
  readonly objects?: readonly (string | number)[] | undefined;
  /** Where in the image's list missing files are looked for: 0 unless given, or an earlier reply's missingNext. */
  readonly missingFrom?: number | undefined;
  /** How many missing files are listed, at most 1024; 0 looks for none. */
  readonly missingMost?: number | undefined;
}

type Check = (value: unknown, where: string) => string | undefined;

const text: Check = (value, where) =>
  typeof value === 'string' && value !== '' ? undefined : `${where} must be a text that is not empty`;
const flag: Check = (value, where) =>
  typeof value === 'boolean' ? undefined : `${where} must be true or false`;
const descriptor: Check = (value, where) =>
  typeof value === 'number' && Number.isInteger(value) && value >= 0
    ? undefined
    : `${where} must be the number of an open descriptor`;
const bytesOrPath: Check = (value, where) =>
  value instanceof Uint8Array || (typeof value === 'string' && value !== '')
    ? undefined
    : `${where} must be the path of a signature file, or its bytes (Uint8Array)`;

const count: Check = (value, where) =>
  typeof value === 'number' && Number.isSafeInteger(value) && value >= 0
    ? undefined
    : `${where} must be a whole number, 0 or more`;
const descriptorOrPath: Check = (value, where) =>
  descriptor(value, where) === undefined || text(value, where) === undefined
    ? undefined
    : `${where} must be the path of a file, or the number of an open descriptor`;

function listOf(check: Check): Check {
  return (value, where) => {
    if (!Array.isArray(value)) return `${where} must be an array`;
    return firstFault(value.map((each, index) => () => check(each, `${where}[${index}]`)));
  };
}

/** An object with just one of the fields. */
function oneFieldOf(fields: Readonly<Record<string, Check>>): Check {
  const shown = Object.keys(fields)
    .map((field) => `{ ${field} }`)
    .join(', ')
    .replace(/, ([^,]*)$/, ' or $1');
  return (value, where) => {
    const [field, ...more] = isObject(value) ? Object.keys(value) : [];
    const check =
      field === undefined || more.length > 0 || !Object.hasOwn(fields, field) ? undefined : fields[field];
    if (!isObject(value) || field === undefined || check === undefined) return `${where} must be ${shown}`;
    return check(value[field], `${where}.${field}`);
  };
}

const idMap: Check = (value, where) =>
  value === 'none' ||
  value === 'caller' ||
  oneFieldOf({ userNamespaceFd: descriptor })(value, where) === undefined
    ? undefined
    : `${where} must be 'none', 'caller' or { userNamespaceFd }`;

const image = oneFieldOf({ path: text, fd: descriptor, name: text });

const verifyChecks: Readonly<Record<string, Check>> = {
  image,
  fileSystem: text,
  digest: text,
  signatures: listOf(bytesOrPath),
  allowUnsigned: flag,
  stores: listOf(oneFieldOf({ name: text, path: text, fd: descriptor })),
  verity: text,
};

const mountChecks: Readonly<Record<string, Check>> = { ...verifyChecks, idMap, attributes: listOf(text) };

const addObjectsChecks: Readonly<Record<string, Check>> = {
  image,
  digest: text,
  signatures: listOf(bytesOrPath),
  allowUnsigned: flag,
  store: text,
  objects: listOf(descriptorOrPath),
  missingFrom: count,
  missingMost: count,
};

type Method = 'mount' | 'verify' | 'addObjects';

const checksOf: Readonly<Record<Method, Readonly<Record<string, Check>>>> = {
  mount: mountChecks,
  verify: verifyChecks,
  addObjects: addObjectsChecks,
};

/**
 * Throws TypeError, which names the option, unless `options` are well-formed: programs in plain JavaScript have no
 * compiler to say so. Names of filesystems, levels and attributes are left to the service, which may know more of them.
 */
export function checkOptions(method: Method, options: unknown): void {
  if (!isObject(options))
    throw new TypeError(`${method}: options must be an object such as { image: { path } }`);
  const checks = checksOf[method];
  const unknown = Object.keys(options).find((name) => !Object.hasOwn(checks, name));
  if (unknown !== undefined) {
    throw new TypeError(
      `${method}: unknown option "${unknown}"; there are ${Object.keys(checks).join(', ')}`,
    );
  }
  const fault = firstFault(
    Object.entries(checks).map(
      ([name, check]) =>
        () =>
          options[name] === undefined && name !== 'image' ? undefined : check(options[name], name),
    ),
  );
  if (fault !== undefined) throw new TypeError(`${method}: ${fault}`);
}

function firstFault(checks: readonly (() => string | undefined)[]): string | undefined {
  for (const check of checks) {
    const fault = check();
    if (fault !== undefined) return fault;
  }
  return undefined;
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
