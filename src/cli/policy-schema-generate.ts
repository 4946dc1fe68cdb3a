import { writeFileSync } from 'node:fs';
import { formatPolicyJsonSchema } from '../policy/json-schema.ts';

// Writes policy/policy.schema.json anew from the description by which policies are parsed: `npm run generate`, in the
// project's folder. A test compares the two.
writeFileSync('policy/policy.schema.json', formatPolicyJsonSchema());
