// `npm run test:nodes [-- MAJOR …]`: the quick tests with every supported major version of Node but the one that runs this.
// The binaries come from the npm package `node`, each in a folder of its own beside the servers of the tests.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { cache, root } from './here.mjs';
import { flagsOf } from './flags.mjs';

/** docs/decisions says when the first one goes. */
const SUPPORTED = ['20', '22', '24'];

const [own] = process.versions.node.split('.');
const { words: asked } = flagsOf(import.meta.url, { words: { choices: SUPPORTED } });
const majors = asked.length > 0 ? asked : SUPPORTED.filter((major) => major !== own);

/** The folder of that version's `node`; fetched once a machine. */
function bring(major) {
  const folder = join(cache, `node-${major}`);
  const bin = join(folder, 'node_modules/node/bin');
  if (!existsSync(join(bin, 'node'))) {
    mkdirSync(folder, { recursive: true });
    process.stderr.write(`nodes: fetching Node ${major} into ${folder}\n`);
    // It is its install script that fetches the binary, from the registry as well.
    const args = ['install', '--prefix', folder, '--no-audit', '--no-fund', '--foreground-scripts'];
    const { status } = spawnSync('npm', [...args, `node@${major}`], { stdio: 'ignore' });
    if (status !== 0 || !existsSync(join(bin, 'node'))) {
      process.stderr.write(`nodes: Node ${major} could not be had from the npm package 'node'\n`);
      process.exit(1);
    }
  }
  return bin;
}

const failed = [];
for (const major of majors) {
  const env = { ...process.env, PATH: `${bring(major)}:${process.env.PATH}` };
  const { stdout } = spawnSync('node', ['--version'], { env, encoding: 'utf8' });
  process.stdout.write(`nodes: ${stdout.trim()}\n`);
  // What the workspace has compiled for another version is not used by the quick tests.
  for (const args of [
    ['scripts/build.mjs'],
    ['node_modules/vitest/vitest.mjs', 'run', '--project', 'quick'],
  ])
    if (spawnSync('node', args, { cwd: root, env, stdio: 'inherit' }).status !== 0) {
      failed.push(major);
      break;
    }
}
if (failed.length > 0) {
  process.stderr.write(`nodes: the quick tests fail with Node ${failed.join(' and ')}\n`);
  process.exit(1);
}
process.stdout.write(`nodes: the quick tests pass with Node ${majors.join(' and ')}\n`);
