// `npm run check`: types, lint, format, and generated files that must be as their sources say. Two steps at a time.
import { spawn } from 'node:child_process';
import { dirname } from 'node:path';
import { fileURLToPath } from 'node:url';
import { flagsOf } from './flags.mjs';

const AT_ONCE = 2;

const root = dirname(dirname(fileURLToPath(import.meta.url)));
flagsOf(import.meta.url);
const steps = [
  ['types', ['tsc', '--noEmit', '-p', '.']],
  ['lint', ['oxlint', '--type-aware']],
  ['types of the page', ['tsc', '-p', 'dashboards/page']],
  ['generated files', ['tsx', 'scripts/generate.ts', '--check']],
  ['format', ['biome', 'format', '.']],
  ['house', ['tsx', 'scripts/house.mjs']],
];

/** What it said; undefined: all is well. */
function failureOf([command, ...args]) {
  const child = spawn(`node_modules/.bin/${command}`, args, {
    cwd: root,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const said = [];
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk) => said.push(chunk));
  return new Promise((resolve) => {
    child.on('error', ({ message }) =>
      resolve(`${command} cannot be started (${message}): \`npm ci --include=dev\` brings it\n`),
    );
    child.on('close', (code) => resolve(code === 0 ? undefined : Buffer.concat(said)));
  });
}

async function lane() {
  for (let step = steps.shift(); step !== undefined; step = steps.shift()) {
    const [name, command] = step;
    const failure = await failureOf(command);
    if (failure === undefined) process.stdout.write(`check: ${name} ok\n`);
    else {
      // What has not begun is not begun: one failure is enough to read.
      steps.length = 0;
      process.stderr.write(`check: ${name}\n${failure}`);
      process.exitCode = 1;
    }
  }
}
await Promise.all(Array.from({ length: AT_ONCE }, lane));
