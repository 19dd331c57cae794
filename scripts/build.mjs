// Bundles the command into dist/: one file for each entry and lazily loaded part. Native packages and what is large
// and only needed by one adapter stay outside the bundle and are resolved from node_modules. Compiles contracts/ as well.
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, renameSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const node = process.versions.node;
const [major, minor] = node.split('.').map(Number);
if (major < 20 || (major === 20 && minor < 11)) {
  process.stderr.write(`build: this is Node ${node}, and 20.11 or later is needed\n`);
  process.exit(1);
}
let build;
try {
  ({ build } = await import('esbuild'));
} catch {
  // Installed without the development tools (`npm ci --omit=dev`, NODE_ENV=production): dist/ is copied from where it was built.
  const isBuilt = existsSync(new URL('../dist/headwater.js', import.meta.url));
  const told = isBuilt
    ? 'dist/ stays as it is'
    : 'and dist/ is not there: `npm ci --include=dev` brings both';
  process.stderr.write(`build: esbuild is not installed, ${told}\n`);
  process.exit(isBuilt || process.env.npm_lifecycle_event === 'prepare' ? 0 : 1);
}
const { buildPage } = await import('./page.mjs'); // It needs esbuild, too.
const { buildMappings } = await import('./mappings.mjs');
const root = dirname(dirname(fileURLToPath(import.meta.url)));
function isAlive(pid) {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return error.code === 'EPERM';
  }
}
// Whole or not at all: whoever starts the command meanwhile gets the one before.
const outdir = join(root, 'dist');
for (const name of readdirSync(root)) {
  const owner = /^dist\.(\d+)\.(?:new|old)$/.exec(name)?.[1];
  // Of a build that was interrupted.
  if (owner !== undefined && !isAlive(Number(owner)))
    rmSync(join(root, name), { recursive: true, force: true });
}
const [made, before] = [
  join(root, `dist.${process.pid}.new`),
  join(root, `dist.${process.pid}.old`),
];
await build({
  absWorkingDir: root,
  entryPoints: { headwater: 'cli/main.ts', gateway: 'gateway/main.ts' },
  outdir: made,
  bundle: true,
  splitting: true,
  format: 'esm',
  platform: 'node',
  target: 'node20',
  packages: 'external',
  sourcemap: true,
  logLevel: 'warning',
});

await buildPage(join(made, 'page'));
buildMappings(join(made, 'mappings.json'));

try {
  renameSync(outdir, before);
} catch (error) {
  if (error.code !== 'ENOENT') throw error; // The first one.
}
renameSync(made, outdir);
rmSync(before, { recursive: true, force: true });

// What adapters are written against, one file for each source, with its types: `contracts/package.json` exports them.
rmSync(join(root, 'contracts', 'dist'), { recursive: true, force: true });
const { status } = spawnSync('node_modules/.bin/tsc', ['-p', 'contracts'], {
  cwd: root,
  stdio: 'inherit',
});
if (status !== 0) process.exit(1);
