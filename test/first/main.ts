/**
 * `npm run first:try [-- --role NAME[,NAME]]`: the first minutes of each kind of newcomer, from a fresh clone of this checkout's last commit in a
 * temporary folder, by the lines of the docs themselves. Says the seconds of each, and fails where one is not reached.
 * What the docs need beside Node (Python's paho, pandas, Chromium, mosquitto_pub) it brings first, by test/services/install.sh.
 *
 * Seconds are of this machine and its other work; the CPU seconds beside them are less so.
 */
import { spawnSync } from 'node:child_process';
import { rmSync } from 'node:fs';
import { loadavg } from 'node:os';
import { join } from 'node:path';
import { ROOT, crowding, temporaryFolder } from '../support/process.ts';
import { ROLES, type Told } from './roles.ts';
import { flagsOf } from '../../scripts/flags.mjs';

const { values } = flagsOf(import.meta.url, {
  options: {
    role: { type: 'string', list: true, choices: Object.keys(ROLES), default: Object.keys(ROLES) },
    'in-clone': { type: 'number', about: 'for itself: seconds that the installation took' },
  },
});
const say = (text: string): void => void process.stdout.write(`${text}\n`);

/** Seconds of this process's ended children, by its clock and by their processors'. */
function timed(command: string, cwd: string): { seconds: number; cpu: number; code: number } {
  const script = `TIMEFORMAT='%R %U %S'; { time { ${command}; } >/dev/null 2>&1; } 2>&1`;
  const { stdout, status } = spawnSync('bash', ['-c', script], { cwd, encoding: 'utf8' });
  const [seconds = 0, user = 0, system = 0] = stdout.trim().split(' ').map(Number);
  return { seconds, cpu: user + system, code: status ?? 1 };
}

function tell(name: string, told: Told, beforeSeconds: number): boolean {
  const { goalSeconds } = ROLES[name] ?? { goalSeconds: 0 };
  for (const { what, seconds } of told.steps)
    say(`    ${seconds.toFixed(1).padStart(6)} s  ${what}`);
  const seconds = beforeSeconds + told.steps.reduce((sum, step) => sum + step.seconds, 0);
  const isReached = told.failure === undefined && seconds <= goalSeconds * crowding();
  say(
    `${isReached ? 'reached' : 'NOT REACHED'}  ${name}: ${seconds.toFixed(1)} s with npm ci, goal ${goalSeconds} s${told.failure === undefined ? '' : `\n    ${told.failure}`}`,
  );
  for (const each of told.left) say(`    not tried: ${each}`);
  return isReached;
}

async function inClone(names: readonly string[], beforeSeconds: number): Promise<void> {
  let isWell = true;
  for (const name of names) {
    say(`\n${name}`);
    const told = await ROLES[name]?.walk();
    if (told !== undefined) isWell = tell(name, told, beforeSeconds) && isWell;
  }
  process.exit(isWell ? 0 : 1);
}

/** It is no part of the minutes: people who want it have it. */
function bring(names: readonly string[]): void {
  const needs = [...new Set(names.flatMap((name) => ROLES[name]?.needs ?? []))];
  if (needs.length === 0) return;
  const script = join(ROOT, 'test/services/install.sh');
  const { status } = spawnSync('bash', [script, ...needs], { stdio: 'inherit' });
  if (status !== 0) throw new Error(`${script} ${needs.join(' ')} ended with ${status}`);
}

function clone(names: readonly string[]): void {
  bring(names);
  const folder = join(temporaryFolder(), 'headwater');
  const cloned = spawnSync('git', ['clone', '--quiet', ROOT, folder], { encoding: 'utf8' });
  if (cloned.status !== 0) throw new Error(`git clone: ${cloned.stderr}`);
  const installed = timed('npm ci --no-audit --no-fund', folder);
  if (installed.code !== 0) throw new Error(`npm ci ended with ${installed.code} in ${folder}`);
  say(
    `npm ci: ${installed.seconds.toFixed(1)} s, ${installed.cpu.toFixed(1)} s of CPU; load ${(loadavg()[0] ?? 0).toFixed(1)}`,
  );
  const { status } = spawnSync(
    process.execPath,
    [
      ...['--import', 'tsx', 'test/first/main.ts', '--in-clone', String(installed.seconds)],
      ...['--role', names.join(',')],
    ],
    { cwd: folder, stdio: 'inherit' },
  );
  rmSync(folder, { recursive: true, force: true });
  process.exit(status ?? 1);
}

try {
  if (values['in-clone'] === undefined) clone(values.role);
  else await inClone(values.role, values['in-clone']);
} catch (error) {
  process.stderr.write(`first:try: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exit(1);
}
