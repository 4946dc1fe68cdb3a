import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { inSid } from './sid.ts';

const path = fileURLToPath(new URL('../../../shared/vectors/composefs', import.meta.url));

/** The folder of composefs's own test dumps, beside the checkout; undefined where it is missing. */
export const composefsVectors: string | undefined = existsSync(path) ? path : undefined;

const wycheproof =
  process.env['CFS_WYCHEPROOF'] ?? inSid('usr/share/gocode/src/github.com/c2sp/wycheproof/testvectors_v1');

/** The folder of project Wycheproof's testvectors_v1, of Debian sid or where CFS_WYCHEPROOF says; undefined where it is missing. */
export const wycheproofVectors: string | undefined = existsSync(wycheproof) ? wycheproof : undefined;
