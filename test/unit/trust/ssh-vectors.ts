/** A key and a signature as OpenSSH 9.2 made them. */
export interface SshVector {
  readonly algorithm: 'ed25519' | 'ecdsa-p256' | 'ecdsa-p384' | 'rsa';
  /** The .pub file. */
  readonly publicKey: string;
  /** The lines between those of the armor. */
  readonly signature: readonly string[];
}

/** `ssh-keygen -Y sign -n cfs-mountd -f KEY line`, where line holds the digest of 32 bytes of 7 and a newline. */
export const sshVectors: readonly SshVector[] = [
  {
    algorithm: 'ed25519',
    publicKey: 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIPVeV8SGUvp4oEaMKgpPzO7njYU7BAXwn3VWzG3yeQDl',
    signature: [
      'U1NIU0lHAAAAAQAAADMAAAALc3NoLWVkMjU1MTkAAAAg9V5XxIZS+nigRowqCk/M7ueNhT',
      'sEBfCfdVbMbfJ5AOUAAAAKY2ZzLW1vdW50ZAAAAAAAAAAGc2hhNTEyAAAAUwAAAAtzc2gt',
      'ZWQyNTUxOQAAAEATi4i5pdD2lBlDL84z8kdx52h+gSc0IsvP3l1cD7d4QARHPXJwAjCZbx',
      'xdZw5CGfiK2jc9MgXCJJZr+C7ejUYN',
    ],
  },
  {
    algorithm: 'ecdsa-p256',
    publicKey:
      'ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBGTzU+EAJ2w3cQELcPxkib7mBu33' +
      'DhKmwxd1DTMadPgNQXG2XaD4XuijH2RtmM8PTlxXimGOvvxm/uh1D3YOpiU=',
    signature: [
      'U1NIU0lHAAAAAQAAAGgAAAATZWNkc2Etc2hhMi1uaXN0cDI1NgAAAAhuaXN0cDI1NgAAAE',
      'EEZPNT4QAnbDdxAQtw/GSJvuYG7fcOEqbDF3UNMxp0+A1BcbZdoPhe6KMfZG2Yzw9OXFeK',
      'YY6+/Gb+6HUPdg6mJQAAAApjZnMtbW91bnRkAAAAAAAAAAZzaGE1MTIAAABjAAAAE2VjZH',
      'NhLXNoYTItbmlzdHAyNTYAAABIAAAAIEuzzhmV3F4MQkSKtCZ+T4OSXqaIvJ3hElXBUTjF',
      'fg4qAAAAIFAmRln0bOEHMYpmGMJyFUw79lvwvmIkSsHP8MaPl1ft',
    ],
  },
  {
    algorithm: 'ecdsa-p384',
    publicKey:
      'ecdsa-sha2-nistp384 AAAAE2VjZHNhLXNoYTItbmlzdHAzODQAAAAIbmlzdHAzODQAAABhBNIHYDLZ8TGPzE56euiLDjqnN/er' +
      '5lJoNjHPnRwsSqHvCDhlitJor+r0APenhp5AnjuZxxlu49A4ULA9fWw5wc1PvZU5rAkAVbgT20H3u1h+feWU/9WxlrBbqCFTTiUu' +
      'hw==',
    signature: [
      'U1NIU0lHAAAAAQAAAIgAAAATZWNkc2Etc2hhMi1uaXN0cDM4NAAAAAhuaXN0cDM4NAAAAG',
      'EE0gdgMtnxMY/MTnp66IsOOqc396vmUmg2Mc+dHCxKoe8IOGWK0miv6vQA96eGnkCeO5nH',
      'GW7j0DhQsD19bDnBzU+9lTmsCQBVuBPbQfe7WH595ZT/1bGWsFuoIVNOJS6HAAAACmNmcy',
      '1tb3VudGQAAAAAAAAABnNoYTUxMgAAAIMAAAATZWNkc2Etc2hhMi1uaXN0cDM4NAAAAGgA',
      'AAAwS4McgKsn8fsrJoUT/to6yeLR7mSSgvSBBSNh+ct5lEsfgvktwVrzShFydI1nm4sTAA',
      'AAMGN5BnHlszFvQPO1rDaak+IeBNfHJ96WjmvRofZcFthRg4LlzpoVke98HUbJ8SVJKQ==',
    ],
  },
  {
    algorithm: 'rsa',
    publicKey:
      'ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABAQCx1LX00t3lWy14Y5+C5pfPRtKPr7NTWFx3ThZNRuKy8F+jluSlVSk+oO9aYtLv' +
      '6Z9BNj7Fj/cMP46HkfMlIMJHu/JjaaE/vCxRjY0JDZbu+UpT+WpIx+gSv28PFgDBebnbklGKpcPIYvhVDb/L7rJuZRd2r8mstkWp' +
      'nMq245/qQPhA+LzgQDF1xYUO4647V/ykX2xNQtXggkogxcmvqGi6YF+zu2O4fEhCaGErxwqKm539h0+KJgafIHnYWEH0iTAKnlvg' +
      'BOHmnkfnkr5y3whtJ/HcZ6AcJ2kKbsbzKdk6L/aoNNtv/bCMYSQzl/8z9w1b3zBpIp0VlPSxtnZVSbVB',
    signature: [
      'U1NIU0lHAAAAAQAAARcAAAAHc3NoLXJzYQAAAAMBAAEAAAEBALHUtfTS3eVbLXhjn4Lml8',
      '9G0o+vs1NYXHdOFk1G4rLwX6OW5KVVKT6g71pi0u/pn0E2PsWP9ww/joeR8yUgwke78mNp',
      'oT+8LFGNjQkNlu75SlP5akjH6BK/bw8WAMF5uduSUYqlw8hi+FUNv8vusm5lF3avyay2Ra',
      'mcyrbjn+pA+ED4vOBAMXXFhQ7jrjtX/KRfbE1C1eCCSiDFya+oaLpgX7O7Y7h8SEJoYSvH',
      'Coqbnf2HT4omBp8gedhYQfSJMAqeW+AE4eaeR+eSvnLfCG0n8dxnoBwnaQpuxvMp2Tov9q',
      'g022/9sIxhJDOX/zP3DVvfMGkinRWU9LG2dlVJtUEAAAAKY2ZzLW1vdW50ZAAAAAAAAAAG',
      'c2hhNTEyAAABFAAAAAxyc2Etc2hhMi01MTIAAAEAIApBGBM24PcrK1Les0Geni3eVbtGsp',
      'NbfZNnqXQEYNKThYRp4o5DXjMydIlTOG8pnyJ5iOs7C7Bx6aN99nrugJhCVlth7Tc3teJK',
      'bX5GDGCl1Td4Xo2NXdzDatZpAWA/jqnVVseYlcF5danMn6PzJSy09Th/jn+C4MAzd/WVtH',
      'ZgrIzfBM0LHMCyfAzayWtLLuQ+s2cB8tadm+pweccucHgxKx309j1cubJKYijVXS0VhO4Q',
      'qMAv5oe1zvYz7A0U6ja4+ml3zuf1V24pwwWh7sdnBiXUWnIgFTi9aYm4uGmkcJLwhrQ3ej',
      '1dbPVfzWZBjormAi++wWqwJDAEfIw5qw==',
    ],
  },
];

/** The file of a signature with these lines. */
export function armored(lines: readonly string[]): Uint8Array {
  return Buffer.from(
    ['-----BEGIN SSH SIGNATURE-----', ...lines, '-----END SSH SIGNATURE-----', ''].join('\n'),
  );
}
