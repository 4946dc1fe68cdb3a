import { defineConfig } from 'rolldown';

// mount(8)'s helper runs once for each mount, so that starting it is what it costs: as the modules that the compiler
// writes, it takes nearly twice the time of a Node that does nothing, as one file 1.3 to 1.4 times. Much of that is
// CommonJS: to import a module of Node's own runs all its getters, node:fs's loading streams and node:crypto's WebCrypto.
// Of what is left, koffi is half. A smaller file gains nothing more, Node 20 has no compile cache for it, and a snapshot
// can hold no native addon.
export default defineConfig({
  input: 'dist/cli/mount.cfs-delegated.js',
  platform: 'node',
  external: ['koffi'],
  output: { file: 'dist/cli/mount.cfs-delegated.cjs', format: 'cjs', codeSplitting: false },
});
