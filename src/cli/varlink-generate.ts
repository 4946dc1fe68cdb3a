import { readFileSync, writeFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { generate } from '../varlink/generate.ts';

// Writes src/api/mount-delegation.ts anew from the interface's description beside it: `npm run generate`, in the
// project's folder. A test compares the two.
const folder = resolve('src/api');
const source = 'io.cfsmountd.MountDelegation.varlink';
const text = readFileSync(resolve(folder, source), 'utf8');
writeFileSync(resolve(folder, 'mount-delegation.ts'), generate(text, { source, library: '../varlink' }));
