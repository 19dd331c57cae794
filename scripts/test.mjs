// `npm test`: check, then every test against real servers, which it brings itself (see test/services/install.sh). The quick
// tests, which need none, run beside those that mostly wait, and beside the fetching where a machine has nothing yet.
// `npm run test:quick` leaves the servers out; arguments after `--` go to vitest. Ends with "N passed, N failed, N skipped".
import { spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { helpOf } from './flags.mjs';
import { MARK, endLeftBehind } from './left-behind.mjs';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
if (process.argv.includes('--help')) {
  process.stdout.write(helpOf(import.meta.url, { quick: { type: 'boolean' } }));
  process.exit(0);
}
const quick = process.argv.includes('--quick');
const args = process.argv.slice(2).filter((arg) => arg !== '--quick');
const mark = randomUUID();
const folder = mkdtempSync(join(tmpdir(), 'headwater-report-'));
const running = new Set();
const say = (text) => process.stderr.write(`test: ${text}\n`);

/** Its exit code; with `isQuiet` what it says is shown when it has ended, so that two do not speak at once. */
function run(command, more, { isQuiet = false, env = {} } = {}) {
  const stdio = isQuiet ? ['ignore', 'pipe', 'pipe'] : 'inherit';
  const child = spawn(command, more, {
    cwd: root,
    stdio,
    env: { ...process.env, ...env, [MARK]: mark },
  });
  running.add(child);
  const said = [];
  for (const stream of [child.stdout, child.stderr])
    stream?.on('data', (chunk) => said.push(chunk));
  return new Promise((resolve) => {
    child.on('error', () => resolve(1));
    child.on('close', (code) => {
      running.delete(child);
      if (isQuiet) process.stdout.write(Buffer.concat(said));
      resolve(code ?? 1);
    });
  });
}

async function stop(text) {
  say(text);
  for (const child of running) child.kill();
  await endLeftBehind(mark, say);
  rmSync(folder, { recursive: true, force: true });
  process.stdout.write('0 passed, 1 failed, 0 skipped\n');
  process.exit(1);
}

/** Some projects of vitest.config.ts, all without any; what came of it. */
async function vitest(projects, options = {}) {
  const report = join(folder, `${projects.join('-')}.json`);
  const status = await run(
    'node_modules/.bin/vitest',
    [
      'run',
      ...projects.flatMap((project) => ['--project', project]),
      '--passWithNoTests',
      '--reporter=default',
      '--reporter=test/services/times.ts',
      '--reporter=json',
      `--outputFile.json=${report}`,
      ...args,
    ],
    options,
  );
  const said = JSON.parse(readFileSync(report, 'utf8'));
  const { numPassedTests, numFailedTests, numPendingTests, numTodoTests, numFailedTestSuites } =
    said;
  // A file that does not even load, a test near its limit: no failed test, and a failure all the same.
  const failed =
    numFailedTests === 0 && status !== 0 ? Math.max(1, numFailedTestSuites) : numFailedTests;
  return { passed: numPassedTests, failed, skipped: numPendingTests + numTodoTests };
}

/** Whether all servers are here; undefined when none is needed. */
function servers() {
  say(
    'the tests run against real Kafka, InfluxDB 1.8 and 2, S3, HDFS, Spark, Mosquitto and Chromium. What is not here yet is',
  );
  say(
    'fetched from package registries (apt, Maven, Go, npm), once a machine: about 15 minutes the first time, nothing afterwards.',
  );
  const names = (process.env.HEADWATER_SERVICES ?? '').split(' ').filter(Boolean);
  return run('bash', ['test/services/install.sh', ...names]);
}

const fetched = quick ? undefined : servers();
if ((await run(process.execPath, ['scripts/build.mjs'])) !== 0) await stop('the build failed');
if ((await run(process.execPath, ['scripts/check.mjs'])) !== 0) await stop('npm run check failed');

/** Of those that need servers, once they are here. */
async function withServers(projects) {
  if ((await fetched) !== 0)
    await stop(
      'a server that the tests need could not be had: see above; npm run test:quick needs none',
    );
  return await vitest(projects);
}

let parts;
try {
  if (quick) parts = [await vitest(['quick'])];
  // Who names projects has them in one run.
  else if (args.some((arg) => arg.startsWith('--project'))) parts = [await withServers([])];
  else
    parts = await Promise.all([
      // Their ports lie beyond those of the others' lanes.
      vitest(['quick'], { isQuiet: true, env: { HEADWATER_TEST_LANES: '8' } }),
      withServers(['full', 'alone']),
    ]);
} catch {
  await stop('vitest wrote no report');
}
const sum = (what) => parts.reduce((all, part) => all + part[what], 0);
const [passed, skipped] = [sum('passed'), sum('skipped')];
let failed = sum('failed');
// A process left behind, or a name that no test has: a failure, too.
if ((await endLeftBehind(mark, say)) > 0 || passed + failed + skipped === 0) failed ||= 1;
rmSync(folder, { recursive: true, force: true });
process.stdout.write(`${passed} passed, ${failed} failed, ${skipped} skipped\n`);
process.exit(failed === 0 ? 0 : 1);
