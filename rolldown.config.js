import { defineConfig } from 'rolldown';

// What is started often is started from few files: as the modules that the compiler writes, the helper of mount(8) takes
// nearly twice the time of a Node that does nothing, and the service three times that of its bundle. Much of it is
// CommonJS: to import a module of Node's own runs all its getters, node:fs's loading streams and node:crypto's WebCrypto.
// Of what is left of the helper, koffi is half. A smaller file gains nothing more, and a snapshot can hold no native addon.
const common = {
  platform: 'node',
  external: ['koffi'],
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
  inOneFile('daemon/mounting-thread'),
  inOneFile('daemon/closing-thread'),
  inOneFile('store/adding-thread'),
  // The service may begin anew before it needs the rest of itself (src/daemon/confine.ts).
  inParts('cli/cfs-mountd', 'daemon'),
  inParts('cli/cfs-mountctl', 'tool'),
]);
