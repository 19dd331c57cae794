/** How the collector's page is bundled: for the build, and for the SBOM, which lists what is in it. */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { brotliCompressSync, constants, gzipSync } from 'node:zlib';
import { build } from 'esbuild';
import { root } from './here.mjs';

const OPTIONS = {
  absWorkingDir: root,
  entryPoints: { page: 'dashboards/page/src/main.tsx' },
  bundle: true,
  minify: true,
  format: 'esm',
  platform: 'browser',
  target: ['chrome110', 'firefox115', 'safari16'],
  legalComments: 'eof',
  logLevel: 'warning',
};

/** Three files, whose bytes depend on the sources alone, each in two packings beside it (as small as they get: packed once, sent often). */
export async function buildPage(outdir) {
  await build({ ...OPTIONS, outdir });
  writeFileSync(join(outdir, 'index.html'), readFileSync(join(root, 'dashboards/page/index.html')));
  for (const name of ['index.html', 'page.js', 'page.css']) {
    const bytes = readFileSync(join(outdir, name));
    const params = { [constants.BROTLI_PARAM_SIZE_HINT]: bytes.length };
    writeFileSync(join(outdir, `${name}.br`), brotliCompressSync(bytes, { params }));
    writeFileSync(join(outdir, `${name}.gz`), gzipSync(bytes, { level: 9 }));
  }
}

/** Names of the packages of which the page has code or style, by esbuild's own account. */
export async function packagesOfPage() {
  const { metafile } = await build({ ...OPTIONS, outdir: root, metafile: true, write: false });
  const files = Object.values(metafile.outputs).flatMap(({ inputs }) =>
    Object.entries(inputs).filter(([, { bytesInOutput }]) => bytesInOutput > 0),
  );
  const names = files.flatMap(([file]) => {
    const name = /.*node_modules\/((?:@[^/]+\/)?[^/]+)/.exec(file)?.[1];
    return name === undefined ? [] : [name];
  });
  return new Set(names);
}
