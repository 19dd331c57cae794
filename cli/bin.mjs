#!/usr/bin/env node
// The command as it is installed: runs what `npm run build` (also part of `npm ci`) has put into dist/.
import { existsSync } from 'node:fs';

const built = new URL('../dist/headwater.js', import.meta.url);
if (!existsSync(built)) {
  process.stderr.write('headwater: not built yet: run `npm ci` or `npm run build` first\n');
  process.exit(1);
}
const { main } = await import(built.href);
await main(process.argv.slice(2));
