/**
 * Where a run's time goes: its ten slowest files and tests, and every test that took more than half of what it may. In CI
 * (`CI` is set) such a test fails the run, so that a suite stays away from its limits; on a machine that is busy otherwise
 * HEADWATER_TEST_LIMITS=warn only names it.
 */
import type { Reporter, TestCase, TestModule } from 'vitest/node';
import { LONG } from '../support/names.ts';

const SHOWN = 10;

interface Timed {
  name: string;
  ms: number;
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
  return { name: module.relativeModuleId, ms, limitMs: Number.POSITIVE_INFINITY };
}

function slowest(what: string, all: Timed[]): string {
  const sorted = all.toSorted((a, b) => b.ms - a.ms).slice(0, SHOWN);
  return `\nslowest ${what}, seconds\n${sorted.map(({ name, ms }) => `${seconds(ms)}  ${name}\n`).join('')}`;
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
    // One file by hand needs no table.
    if (modules.length > 1)
      process.stdout.write(slowest('files', modules.map(fileTime)) + slowest('tests', tests));
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
