/**
 * `npm run mutants -- [--only TEXT] [--from N] [--to N] [--list] [--no-first]`: breaks the product in named ways, one at a time, in a temporary
 * copy, and runs the tests that must see it. Prints which test caught which mutant; ends with 1 when one survives, and with
 * 2 when it cannot be done as asked.
 */
import { spawn } from 'node:child_process';
import { cpSync, readFileSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join, relative, sep } from 'node:path';
import { ROOT, crowding, temporaryFolder } from '../support/process.ts';
import { mutated } from './apply.ts';
import { MUTANTS, SIMULATION, THINNING, type Mutant } from './mutants.ts';
import { flagsOf, refuse } from '../../scripts/flags.mjs';

/** Seeds that every mutant for the simulation is found in, by its world. */
const SEEDS: Record<string, readonly string[]> = {
  [SIMULATION]: ['--seeds', '120'],
  [THINNING]: ['--seeds', '30', '--world', 'thin'],
};
/** A test that a mutant makes wait for ever has caught it; on a machine with other work it may take longer. */
const MINUTES_MAX = 5;

function asked(): { chosen: Mutant[]; isFirst: boolean } {
  const { values } = flagsOf(import.meta.url, {
    options: {
      only: { type: 'string', default: '', about: 'those whose name has this text' },
      from: { type: 'integer', min: 1, default: 1 },
      to: { type: 'integer', min: 1, default: MUTANTS.length },
      'no-first': {
        type: 'boolean',
        about:
          'their tests are not run without a mutant first: a portion before this one has done so',
      },
      list: { type: 'boolean', about: 'prints their numbers and names, and runs nothing' },
    },
  });
  const { from, to } = values;
  const found = [...MUTANTS.entries()].filter(
    ([at, { name }]) => at + 1 >= from && at + 1 <= to && name.includes(values.only),
  );
  if (found.length === 0)
    refuse(
      import.meta.url,
      `none is chosen: --from and --to are 1 to ${MUTANTS.length}, --only is a part of a name`,
    );
  if (values.list) {
    for (const [at, { name }] of found) process.stdout.write(`${at + 1} ${name}\n`);
    process.exit(0);
  }
  return { chosen: found.map(([, mutant]) => mutant), isFirst: !values['no-first'] };
}

const { chosen, isFirst } = asked();

/** The checkout without its installed packages, which are linked. */
function copyOf(root: string): string {
  const copy = join(temporaryFolder(), 'copy');
  const links: string[] = [];
  cpSync(root, copy, {
    recursive: true,
    filter: (path) => {
      const name = relative(root, path);
      const last = name.split(sep).at(-1) ?? '';
      if (last === 'node_modules') links.push(name);
      return !['node_modules', '.git', 'dist', 'test-results'].includes(last);
    },
  });
  for (const name of [...links, 'dist'])
    if (name === 'dist' ? readdirSync(root).includes(name) : true)
      symlinkSync(join(root, name), join(copy, name));
  return copy;
}

interface Ended {
  /** Undefined: it was stopped. */
  code: number | undefined;
  output: string;
}

async function run(folder: string, args: string[]): Promise<Ended> {
  const child = spawn(process.execPath, args, {
    cwd: folder,
    detached: true,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let output = '';
  child.stdout.on('data', (chunk: Buffer) => (output += chunk.toString()));
  child.stderr.on('data', (chunk: Buffer) => (output += chunk.toString()));
  let stopped = false;
  const stop = (): void => {
    try {
      process.kill(-(child.pid ?? 0), 'SIGKILL');
    } catch {
      // It has ended already.
    }
  };
  // Before the temporary folder goes.
  process.prependListener('exit', stop);
  const timer = setTimeout(
    () => {
      stopped = true;
      stop();
    },
    MINUTES_MAX * 60_000 * crowding(),
  );
  const code = await new Promise<number>((resolve) => child.on('exit', (n) => resolve(n ?? 1)));
  clearTimeout(timer);
  stop(); // What it left behind.
  process.off('exit', stop);
  return { code: stopped ? undefined : code, output };
}

interface Report {
  testResults: { message: string; assertionResults: { status: string; title: string }[] }[];
}

/** Of one test: what in it failed, or undefined when it passes. */
async function failureOf(folder: string, test: string): Promise<string | undefined> {
  const seeds = SEEDS[test];
  if (seeds !== undefined) {
    const { code, output } = await run(folder, [
      ...['--import', 'tsx', 'test/sim/main.ts', ...seeds, '--until-broken'],
    ]);
    if (code === 0) return undefined;
    return code === undefined
      ? 'it does not end'
      : (output.split('\n')[0] ?? 'it ends').slice(0, 90);
  }
  const report = join(folder, 'report.json');
  rmSync(report, { force: true });
  const { code, output } = await run(folder, [
    ...['node_modules/vitest/vitest.mjs', 'run', '--project', 'quick', '--bail', '1'],
    ...['--reporter', 'json', '--outputFile', report, test],
  ]);
  if (code === 0) return undefined;
  if (code === undefined) return 'it does not end';
  try {
    const { testResults } = JSON.parse(readFileSync(report, 'utf8')) as Report;
    const failed = testResults
      .flatMap(({ assertionResults }) => assertionResults)
      .find(({ status }) => status === 'failed');
    return (
      failed?.title ??
      testResults
        .map(({ message }) => message)
        .join(' ')
        .slice(0, 90)
    );
  } catch {
    return output.slice(-200); // It did not come as far as a report.
  }
}

const folder = copyOf(ROOT);
const began = performance.now();
const seconds = (): string => `${Math.round((performance.now() - began) / 1000)} s`;

for (const test of isFirst ? new Set(chosen.flatMap(({ tests }) => tests)) : []) {
  const failure = await failureOf(folder, test);
  if (failure === undefined) continue;
  process.stderr.write(`mutants: ${test} fails without any mutant: ${failure}\n`);
  process.exit(1);
}
if (isFirst) process.stdout.write(`without a mutant every test passes (${seconds()})\n`);

async function caughtBy(mutant: Mutant): Promise<string | undefined> {
  const path = join(folder, mutant.file);
  const before = readFileSync(path, 'utf8');
  writeFileSync(path, mutated(folder, mutant));
  try {
    for (const test of mutant.tests) {
      const failure = await failureOf(folder, test);
      if (failure !== undefined) return `${test}: ${failure}`;
    }
    return undefined;
  } finally {
    writeFileSync(path, before);
  }
}

const survivors: string[] = [];
for (const mutant of chosen) {
  const caught = await caughtBy(mutant);
  if (caught === undefined) survivors.push(mutant.name);
  process.stdout.write(`${mutant.name}\n    → ${caught ?? 'SURVIVES'}\n`);
}
process.stdout.write(
  `\n${chosen.length - survivors.length} of ${chosen.length} mutants caught (${seconds()})${survivors.map((name) => `\n  survives: ${name}`).join('')}\n`,
);
process.exit(survivors.length === 0 ? 0 : 1);
