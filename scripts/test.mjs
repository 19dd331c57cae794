// `npm test`: check, then every test against real servers, which it brings itself (see test/services/install.sh).
// `npm run test:quick` leaves the servers out; arguments after `--` go to vitest. Ends with "N passed, N failed, N skipped".
import { spawnSync } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { MARK, endLeftBehind } from './left-behind.mjs';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const args = process.argv.slice(2);
const quick = args.includes('--quick');
const mark = randomUUID();
const env = { ...process.env, [MARK]: mark };
const run = (command, more) =>
  spawnSync(command, more, { cwd: root, stdio: 'inherit', env }).status ?? 1;
const say = (text) => process.stderr.write(`test: ${text}\n`);

function stop(text) {
  say(text);
  process.stdout.write('0 passed, 1 failed, 0 skipped\n');
  process.exit(1);
}

if (run(process.execPath, ['scripts/build.mjs']) !== 0) stop('the build failed');
if (run(process.execPath, ['scripts/check.mjs']) !== 0) stop('npm run check failed');
if (!quick) {
  say(
    'the tests run against real Kafka, InfluxDB 1.8 and 2, S3, HDFS, Spark, Mosquitto and Chromium. What is not here yet is',
  );
  say(
    'fetched from package registries (apt, Maven, Go, npm), once a machine: about 15 minutes the first time, nothing afterwards.',
  );
  const names = (process.env.HEADWATER_SERVICES ?? '').split(' ').filter(Boolean);
  if (run('bash', ['test/services/install.sh', ...names]) !== 0)
    stop('a server that the tests need could not be had: see above; npm run test:quick needs none');
}
const folder = mkdtempSync(join(tmpdir(), 'headwater-report-'));
const report = join(folder, 'report.json');
let status = run('node_modules/.bin/vitest', [
  'run',
  ...(quick ? ['--project', 'quick'] : []),
  '--reporter=default',
  '--reporter=test/services/times.ts',
  '--reporter=json',
  `--outputFile.json=${report}`,
  ...args.filter((arg) => arg !== '--quick'),
]);
if ((await endLeftBehind(mark, say)) > 0) status ||= 1;
try {
  const { numPassedTests, numFailedTests, numPendingTests, numTodoTests, numFailedTestSuites } =
    JSON.parse(readFileSync(report, 'utf8'));
  // A file that does not even load, a test near its limit, a process left behind: no failed test, and a failure all the same.
  const failed =
    numFailedTests === 0 && status !== 0 ? Math.max(1, numFailedTestSuites) : numFailedTests;
  process.stdout.write(
    `${numPassedTests} passed, ${failed} failed, ${numPendingTests + numTodoTests} skipped\n`,
  );
} catch {
  stop('vitest wrote no report');
} finally {
  rmSync(folder, { recursive: true, force: true });
}
process.exit(status);
