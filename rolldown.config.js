import { readFileSync } from 'node:fs';
import { defineConfig } from 'rolldown';

// What is started often is started from few files: as the modules that the compiler writes, the helper of mount(8) takes
// nearly twice the time of a Node that does nothing, and the service three times that of its bundle. Much of it is
// CommonJS: to import a module of Node's own runs all its getters, node:fs's loading streams and node:crypto's WebCrypto.
// A smaller file gains nothing more, Node 20 has no compile cache for it, and a snapshot can hold no native addon.

const koffiVersion = JSON.parse(readFileSync('node_modules/koffi/package.json', 'utf8')).version;

/**
 * koffi's addon itself where it lies where koffi has it: koffi's own way to it, which asks what C library Node has
 * and wraps what nothing here uses, takes twice as long as the addon.
 */
const koffiDirectly = {
  name: 'koffi-directly',
  resolveId: (id, importer) => {
    if (id !== 'koffi') return undefined;
    return importer === '\0koffi' ? { id, external: true } : '\0koffi';
  },
  load: (id) =>
    id === '\0koffi'
      ? `
const load = () => {
  try {
    const addon = require(\`@koromix/koffi-linux-\${process.arch}/linux_\${process.arch}/koffi.node\`);
    if (addon.version === '${koffiVersion}') return addon;
  } catch {}
  return require('koffi');
};
module.exports = load();
`
      : undefined,
};

const common = {
  platform: 'node',
  plugins: [koffiDirectly],
  // To bind a function of libc is no effect of its own: each program binds those that it calls.
  treeshake: { manualPureFunctions: ['libc.func'] },
};

const inOneFile = (name) => ({
  ...common,
  input: { [name]: `dist/${name}.js` },
  output: { dir: 'dist', entryFileNames: '[name].cjs', format: 'cjs', codeSplitting: false },
});

/** With a file, in `folder`, for each module that it imports when it needs it. */
const inParts = (name, folder) => ({
  ...common,
  input: { [name]: `dist/${name}.js` },
  output: {
    dir: 'dist',
    entryFileNames: '[name].cjs',
    chunkFileNames: `${folder}/[name].cjs`,
    format: 'cjs',
  },
});

export default defineConfig([
  inOneFile('cli/mount.cfs-delegated'),
  inOneFile('daemon/threads/mounting-thread'),
  inOneFile('daemon/connections/closing-thread'),
  inOneFile('store/adding-thread'),
  // The service may begin anew before it needs the rest of itself (src/daemon/confine.ts).
  inParts('cli/cfs-mountd', 'daemon'),
  inParts('cli/cfs-mountctl', 'tool'),
]);
