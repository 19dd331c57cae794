// `npm run check`: types, lint, format, and generated files that must be as their sources say.
import { spawnSync } from 'node:child_process';
import { dirname } from 'node:path';
import { fileURLToPath } from 'node:url';
import { flagsOf } from './flags.mjs';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
flagsOf(import.meta.url);
const steps = [
  ['types', ['tsc', '--noEmit', '-p', '.']],
  ['types of the page', ['tsc', '-p', 'dashboards/page']],
  ['lint', ['oxlint', '--type-aware']],
  ['format', ['biome', 'format', '.']],
  ['generated files', ['tsx', 'scripts/generate.ts', '--check']],
  ['house', ['tsx', 'scripts/house.mjs']],
];
for (const [name, args] of steps) {
  const [command, ...rest] = args;
  const { status, stdout, stderr, error } = spawnSync(`node_modules/.bin/${command}`, rest, {
    cwd: root,
    encoding: 'utf8',
  });
  if (error !== undefined) {
    process.stderr.write(
      `check: ${command} cannot be started (${error.message}): \`npm ci --include=dev\` brings it\n`,
    );
    process.exit(1);
  }
  if (status !== 0) {
    process.stderr.write(`check: ${name}\n${stdout}${stderr}`);
    process.exit(1);
  }
  process.stdout.write(`check: ${name} ok\n`);
}
