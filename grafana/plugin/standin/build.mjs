// Builds the page on which the built plugin is mounted in tests: Grafana's packages as they come, in one file, and SystemJS, which loads
// the plugin as Grafana does.

import { build } from 'esbuild';
import { copyFile, mkdir } from 'node:fs/promises';

const OUT = 'standin/dist';

await mkdir(OUT, { recursive: true });
await build({
  entryPoints: { standin: 'standin/page.tsx' },
  outdir: OUT,
  bundle: true,
  format: 'iife',
  target: 'es2022',
  tsconfigRaw: { compilerOptions: { jsx: 'react-jsx' } },
  loader: { '.ttf': 'dataurl', '.svg': 'dataurl', '.woff2': 'dataurl', '.png': 'dataurl' },
  // SystemJS has a `define` on the page, which is for the plugin: packages in this file are not to register there.
  define: { 'process.env.NODE_ENV': '"production"', global: 'window', define: 'undefined' },
  logLevel: 'warning',
});
await copyFile('node_modules/systemjs/dist/system.min.js', `${OUT}/system.js`);
await copyFile('node_modules/systemjs/dist/extras/amd.min.js', `${OUT}/amd.js`);
await copyFile('standin/index.html', `${OUT}/index.html`);
