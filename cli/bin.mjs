#!/usr/bin/env node
// The command as it is installed: runs what `npm run build` (also part of `npm ci`) has put into dist/. Written so that a
// Node that is too old reads it, and says so.
import { existsSync } from 'fs';

const node = process.versions.node;
const [major, minor] = node.split('.').map(Number);
if (major < 20 || (major === 20 && minor < 11)) {
  process.stderr.write(`headwater: this is Node ${node}, and 20.11 or later is needed\n`);
  process.exit(1);
}
const built = new URL('../dist/headwater.js', import.meta.url);
if (!existsSync(built)) {
  process.stderr.write(
    'headwater: not built yet: run `npm ci` first (`npm ci --include=dev` where NODE_ENV is production)\n',
  );
  process.exit(1);
}
import(built.href)
  .then(({ main }) => main(process.argv.slice(2)))
  .catch((error) => {
    // Here and in gateway/bin.mjs: one more file could not be opened where none may be.
    const isOfFiles = error.code === 'EMFILE' || error.code === 'ENFILE';
    const advice = isOfFiles
      ? ': this process may open too few; raise the limit (ulimit -n 1024)'
      : '';
    process.stderr.write(`headwater: ${error.message}${advice}\n`);
    process.exit(1);
  });
