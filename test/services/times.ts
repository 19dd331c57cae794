/**
 * Where a run's time goes: its ten slowest files and tests, the ten files that cost the processor most, and every test that
 * took more than half of what it may. In CI (`CI` is set) such a test fails the run, so that a suite stays away from its
 * limits; on a machine that is busy otherwise HEADWATER_TEST_LIMITS=warn only names it. What long files take is kept for the
 * next run, which begins with the longest (longest-first.ts).
 */
import type { Reporter, TestCase, TestModule } from 'vitest/node';
import { availableParallelism } from 'node:os';
import { spentMs } from '../support/cost.ts';
import { LONG } from '../support/names.ts';
import { keepSeconds } from './longest-first.ts';

const SHOWN = 10;

interface Timed {
  name: string;
  ms: number;
  /** Of a file: its processor time, that of its children included. */
  cpuMs?: number | undefined;
  /** Of a test: its time limit, milliseconds. */
  limitMs: number;
}

const seconds = (ms: number): string => (ms / 1000).toFixed(1).padStart(7);

function timesOf(test: TestCase): Timed {
  const ms = test.diagnostic()?.duration ?? 0;
  const name = `${test.module.relativeModuleId} > ${test.fullName}`.replaceAll(/\s+/g, ' ');
  return { name, ms, limitMs: test.options.timeout ?? Number.POSITIVE_INFINITY };
}

function fileTime(module: TestModule): Timed {
  const { duration, collectDuration, setupDuration } = module.diagnostic();
  const ms = duration + collectDuration + setupDuration;
  const { cpuMs } = module.meta();
  return { name: module.relativeModuleId, ms, cpuMs, limitMs: Number.POSITIVE_INFINITY };
}

function slowest(what: string, all: Timed[]): string {
  const sorted = all.toSorted((a, b) => b.ms - a.ms).slice(0, SHOWN);
  return `\nslowest ${what}, seconds\n${sorted.map(({ name, ms }) => `${seconds(ms)}  ${name}\n`).join('')}`;
}

/** Beside each file's processor time, how long it took; and that of the whole run, with servers and transforms. */
function dearest(files: Timed[]): string {
  const sorted = files.toSorted((a, b) => (b.cpuMs ?? 0) - (a.cpuMs ?? 0)).slice(0, SHOWN);
  const lines = sorted.map(
    ({ name, ms, cpuMs = 0 }) => `${seconds(cpuMs)}  in${seconds(ms)}  ${name}\n`,
  );
  const spent = spentMs();
  const [all, of] = [seconds(spent), performance.now() * availableParallelism()];
  return `\nseconds of processor\n${lines.join('')}${all}  the run, ${Math.round((spent / of) * 100)} % of the cores\n`;
}

/** What is said of tests that came near their limits; undefined when none did. */
export function nearLimits(tests: readonly Timed[]): string | undefined {
  const near = tests.filter(({ ms, limitMs }) => ms > limitMs / 2);
  if (near.length === 0) return undefined;
  const lines = near.map(
    ({ name, ms, limitMs }) => `${seconds(ms)}  of ${Math.round(limitMs / 1000)}  ${name}\n`,
  );
  return `\nmore than half of their time limit, seconds: make them quicker (what do they wait for?)\n${lines.join('')}`;
}

export default class Times implements Reporter {
  onTestRunEnd(modules: readonly TestModule[]): void {
    const tests = modules.flatMap((module) => [...module.children.allTests()]).map(timesOf);
    const files = modules.map(fileTime);
    // One file by hand needs no table; and of a few, some may have been run in part.
    if (files.length > 1)
      process.stdout.write(slowest('files', files) + dearest(files) + slowest('tests', tests));
    if (files.length > SHOWN) keepSeconds(files.map(({ name, ms }) => [name, ms / 1000]));
    const left = modules
      .flatMap((module) => [...module.children.allTests('skipped')])
      .filter(({ name }) => name.endsWith(LONG));
    if (left.length > 0)
      process.stdout.write(
        `\nnot tried here, since they take minutes (npm run test:long)\n${left.map(({ name }) => `  ${name}\n`).join('')}`,
      );
    const near = nearLimits(tests);
    if (near === undefined) return;
    const isFailure =
      process.env['CI'] !== undefined && process.env['HEADWATER_TEST_LIMITS'] !== 'warn';
    process.stdout.write(isFailure ? `${near}the run fails for it\n` : near);
    if (isFailure) process.exitCode = 1;
  }
}
