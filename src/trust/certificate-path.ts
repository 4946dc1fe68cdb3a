import { equalBytes } from '../base/bytes.ts';
import type { Certificate } from './certificate.ts';
import type { KeyId } from './public-key.ts';

/** A certificate that the policy names. */
export interface TrustedCertificate {
  readonly certificate: Certificate;
  /** Whether certificates that it issued are trusted as well. */
  readonly authority: boolean;
}

/** How a signer's certificate leads to one that is trusted. */
export interface CertificatePath {
  /** The trusted certificate's key: whose word the signature counts as. */
  readonly anchor: KeyId;
  /** All keys on the way, the signer's first and the anchor's last; one alone where the signer's certificate is itself trusted. */
  readonly keys: readonly KeyId[];
  /** When all certificates on the way are valid; both ends belong to the time. */
  readonly notBefore: Date;
  readonly notAfter: Date;
}

/** Paths and why others fail, a sentence each. */
export interface FoundPaths {
  readonly paths: readonly CertificatePath[];
  readonly faults: readonly string[];
}

/** Certificates between the signer's and the anchor. Public authorities have one or two. */
export const intermediatesMax = 6;

/** Paths of one signer: by several anchors, or to one whose certificate was renewed. */
const pathsMax = 16;

/**
 * Every way from a signer's certificate to trusted ones, over certificates that came along. Checked is all but time and revocation
 * (RFC 5280, section 6.1): names, key identifiers, signatures, basicConstraints with its path length, keyUsage and
 * extendedKeyUsage. `spend` answers false once no more signatures may be verified.
 */
export function findPaths(
  signer: Certificate,
  trusted: readonly TrustedCertificate[],
  offered: readonly Certificate[],
  spend: () => boolean,
): FoundPaths {
  const search = new Search(trusted, offered, spend);
  search.from(signer);
  return { paths: search.paths, faults: [...search.faults] };
}

class Search {
  readonly paths: CertificatePath[] = [];
  readonly faults = new Set<string>();
  readonly #trusted: readonly TrustedCertificate[];
  readonly #offered: readonly Certificate[];
  readonly #spend: () => boolean;

  constructor(trusted: readonly TrustedCertificate[], offered: readonly Certificate[], spend: () => boolean) {
    this.#trusted = trusted;
    this.#offered = offered;
    this.#spend = spend;
  }

  from(signer: Certificate): void {
    const unfit = whyNotSigner(signer);
    if (unfit !== undefined) {
      this.faults.add(unfit);
      return;
    }
    if (this.#trusted.some(({ certificate }) => equalBytes(certificate.der, signer.der)))
      this.#found([signer]);
    this.#extend([signer]);
  }

  /** Looks for who issued the last certificate of the chain. */
  #extend(chain: readonly Certificate[]): void {
    const last = chain.at(-1);
    if (last === undefined) return;
    for (const { certificate, authority } of this.#trusted) {
      if (authority && this.#issued(certificate, last, chain, 'anchor')) this.#found([...chain, certificate]);
    }
    for (const certificate of this.#offered) {
      if (chain.length > intermediatesMax || this.paths.length >= pathsMax) return;
      if (chain.some(({ der }) => equalBytes(der, certificate.der))) continue;
      if (this.#issued(certificate, last, chain, 'intermediate')) this.#extend([...chain, certificate]);
    }
  }

  /** Whether the issuer may have issued the certificate, and has. */
  #issued(
    issuer: Certificate,
    certificate: Certificate,
    chain: readonly Certificate[],
    as: 'anchor' | 'intermediate',
  ): boolean {
    if (!equalBytes(issuer.subject, certificate.issuer)) return false;
    const { authorityKeyId } = certificate;
    if (authorityKeyId !== undefined && issuer.subjectKeyId !== undefined) {
      if (authorityKeyId !== issuer.subjectKeyId) return false;
    }
    const [signer] = chain;
    const unfit =
      whyNotIssuer(issuer, chain.length - 1, as) ??
      (signer?.usage === undefined
        ? `${describe(signer)} has no keyUsage, which what an authority issues has to have`
        : undefined);
    if (unfit !== undefined) {
      this.faults.add(unfit);
      return false;
    }
    if (!this.#spend()) return false;
    if (certificate.isSignedBy(issuer.key)) return true;
    this.faults.add(`${describe(certificate)} was not signed by the issuer that it names`);
    return false;
  }

  #found(chain: readonly Certificate[]): void {
    const keys = chain.map(({ key }) => key.id);
    const anchor = keys.at(-1);
    if (anchor === undefined || this.paths.length >= pathsMax) return;
    const begins = chain.map(({ notBefore }) => notBefore.getTime());
    const ends = chain.map(({ notAfter }) => notAfter.getTime());
    this.paths.push({
      anchor,
      keys,
      notBefore: new Date(Math.max(...begins)),
      notAfter: new Date(Math.min(...ends)),
    });
  }
}

/** Why the certificate's key may not sign images, or undefined where it may. */
export function whyNotSigner(certificate: Certificate): string | undefined {
  if (certificate.usage?.signs === false)
    return `${describe(certificate)} is not for signing (keyUsage lacks digitalSignature)`;
  if (!certificate.signsCode)
    return `${describe(certificate)} is not for signing code (extendedKeyUsage lacks codeSigning)`;
  return undefined;
}

/**
 * Why the certificate may not have issued one with so many certificates between it and the signer's, or undefined where it may. An
 * anchor may leave its usage open, since the policy says what it is for; an intermediate may not.
 */
export function whyNotIssuer(
  issuer: Certificate,
  between: number,
  as: 'anchor' | 'intermediate',
): string | undefined {
  const what = describe(issuer);
  if (issuer.authority === undefined)
    return `${what} is no authority (its basicConstraints do not say CA), and issued another`;
  if (issuer.usage === undefined && as === 'intermediate')
    return `${what} has no keyUsage, and issued another`;
  if (!issuer.signsCode) return `${what} is an authority, but not for signing code (extendedKeyUsage)`;
  const { pathLength } = issuer.authority;
  if (pathLength === undefined || between <= pathLength) return undefined;
  return `${what} allows ${pathLength} certificates between itself and the signer's (pathLenConstraint), and there are ${between}`;
}

/** Names in certificates are whatever their makers wrote; the serial number is enough to find one. */
function describe(certificate: Certificate | undefined): string {
  return `the certificate with serial number ${certificate?.serial ?? ''}`;
}
