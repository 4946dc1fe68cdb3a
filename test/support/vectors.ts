import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const path = fileURLToPath(new URL('../../../shared/vectors/composefs', import.meta.url));

/** The folder of composefs's own test dumps, beside the checkout; undefined where it is missing. */
export const composefsVectors: string | undefined = existsSync(path) ? path : undefined;
