import { equalBytes } from '../base/bytes.ts';
import type { Certificate } from './certificate.ts';
import { CertificateInvalid, parseCertificate } from './certificate.ts';
import type { CertificatePath, TrustedCertificate } from './certificate-path.ts';
import { findPaths } from './certificate-path.ts';
import type { DigestSignatures } from './digest-signatures.ts';
import type { Pkcs7Signature, Pkcs7Signer } from './pkcs7-signature.ts';
import { verifyPkcs7Signer } from './pkcs7-signature.ts';

/** What signatures are over: the bytes, in which format, and what they are in words. */
export interface Pkcs7Content {
  readonly format: 'fsverity-pkcs7' | 'dmverity-pkcs7';
  readonly bytes: Uint8Array;
  readonly what: string;
}

/** A PKCS#7 signature and where it comes from, for faults. */
export interface Pkcs7Claim {
  readonly where: string;
  readonly signature: Pkcs7Signature;
}

/** Signatures verified for all files of one image in one format, those on certificates included: what a client can make us spend. */
const triesMax = 64;

/** Certificates read of all files of one image: each costs some milliseconds, and ten where it is large. */
const certificatesMax = 8;

/**
 * Finds out whose signatures hold: of certificates that the policy trusts, or that lead to such. A signer names a certificate, which
 * proves nothing; the signature has to be by the key of one that is named so, known here or brought along.
 */
export function attributePkcs7(
  claims: readonly Pkcs7Claim[],
  content: Pkcs7Content,
  trusted: readonly TrustedCertificate[],
  faults: string[],
): readonly DigestSignatures[] {
  const attribution = new Attribution(content, trusted, faults);
  for (const claim of claims) attribution.file(claim);
  return attribution.result();
}

class Attribution {
  readonly #content: Pkcs7Content;
  readonly #trusted: readonly TrustedCertificate[];
  readonly #faults: string[];
  readonly #paths = new Map<string, CertificatePath>();
  readonly #unknown = new Set<string>();
  #triesLeft = triesMax;
  #certificatesLeft = certificatesMax;

  constructor(content: Pkcs7Content, trusted: readonly TrustedCertificate[], faults: string[]) {
    this.#content = content;
    this.#trusted = trusted;
    this.#faults = faults;
  }

  file({ where, signature }: Pkcs7Claim): void {
    const offered = this.#read(where, signature.certificates);
    for (const signer of signature.signers) this.#signer(where, signer, offered);
  }

  result(): readonly DigestSignatures[] {
    const paths = [...this.#paths.values()];
    if (paths.length === 0 && this.#unknown.size === 0) return [];
    const signers = [...new Set(paths.map(({ anchor }) => anchor))];
    return [{ format: this.#content.format, signers, unknownKeyIds: [...this.#unknown], paths }];
  }

  /** The certificates of a file; one that is not taken is a fault, and the others go on without it. */
  #read(where: string, certificates: readonly Uint8Array[]): readonly Certificate[] {
    const read: Certificate[] = [];
    for (const [index, der] of certificates.entries()) {
      const known = this.#trusted.find(({ certificate }) => equalBytes(certificate.der, der));
      if (known === undefined && this.#certificatesLeft-- <= 0) {
        this.#faults.push(`${where}: only the first ${certificatesMax} certificates were read`);
        break;
      }
      try {
        read.push(known?.certificate ?? parseCertificate(der));
      } catch (error) {
        if (!(error instanceof CertificateInvalid)) throw error;
        this.#faults.push(`${where}: certificate ${index + 1} is not taken: ${error.message}`);
      }
    }
    return read;
  }

  #signer(where: string, signer: Pkcs7Signer, offered: readonly Certificate[]): void {
    const named = [...this.#trusted.map(({ certificate }) => certificate), ...offered].filter(
      (certificate, index, all) =>
        isNamed(certificate, signer) &&
        all.findIndex(({ der }) => equalBytes(der, certificate.der)) === index,
    );
    if (named.length === 0) {
      this.#unknown.add(describeClaims(signer));
      return;
    }
    const { bytes, what } = this.#content;
    const makers = named.filter(({ key }) => this.#spend() && verifyPkcs7Signer(signer, bytes, key));
    if (makers.length === 0) {
      this.#faults.push(
        this.#triesLeft === 0
          ? `${where}: too many signatures and certificates to try`
          : `${where}: the signature by ${describeClaims(signer)} does not verify over ${what}`,
      );
    }
    for (const maker of makers) this.#trust(where, maker, offered);
  }

  #trust(where: string, maker: Certificate, offered: readonly Certificate[]): void {
    const { paths, faults } = findPaths(maker, this.#trusted, offered, () => this.#spend());
    for (const path of paths) {
      const { keys, notBefore, notAfter } = path;
      this.#paths.set([...keys, notBefore.getTime(), notAfter.getTime()].join(' '), path);
    }
    if (paths.length > 0) return;
    for (const fault of faults) this.#faults.push(`${where}: ${fault}`);
    this.#unknown.add(maker.key.id);
  }

  #spend(): boolean {
    if (this.#triesLeft === 0) return false;
    this.#triesLeft--;
    return true;
  }
}

function isNamed(certificate: Certificate, { claims }: Pkcs7Signer): boolean {
  if ('subjectKeyId' in claims) return certificate.subjectKeyId === claims.subjectKeyId;
  return certificate.serial === claims.serial && equalBytes(certificate.issuer, claims.issuer);
}

/** Which certificate the signer names, in words. */
export function describeClaims({ claims }: Pkcs7Signer): string {
  return 'subjectKeyId' in claims
    ? `the certificate with key identifier ${claims.subjectKeyId.slice(0, 64)}`
    : `the certificate with serial number ${claims.serial.slice(0, 64)}`;
}
