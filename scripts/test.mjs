// `npm test`: check, then every test against real servers, which it brings itself (see test/services/install.sh).
// `npm run test:quick` leaves the servers out. Ends with "N passed, N failed, N skipped".
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const quick = process.argv.includes('--quick');
const run = (command, args) =>
  spawnSync(command, args, { cwd: root, stdio: 'inherit' }).status ?? 1;

function stop(text) {
  process.stderr.write(`test: ${text}\n`);
  process.stdout.write('0 passed, 1 failed, 0 skipped\n');
  process.exit(1);
}

if (run(process.execPath, ['scripts/build.mjs']) !== 0) stop('the build failed');
if (run(process.execPath, ['scripts/check.mjs']) !== 0) stop('npm run check failed');
if (!quick) {
  process.stderr.write(
    'test: the tests run against real Kafka, InfluxDB 1.8 and 2, S3, HDFS, Spark, Mosquitto, Telegraf and Chromium. What is not here yet is fetched from\n' +
      'test: package registries (apt, Maven, Go, npm), once a machine: about 15 minutes the first time, nothing afterwards.\n',
  );
  if (
    run('bash', [
      'test/services/install.sh',
      ...(process.env.HEADWATER_SERVICES ?? '').split(' ').filter(Boolean),
    ]) !== 0
  ) {
    stop('a server that the tests need could not be had: see above; npm run test:quick needs none');
  }
}
const folder = mkdtempSync(join(tmpdir(), 'headwater-report-'));
const report = join(folder, 'report.json');
const status = run('node_modules/.bin/vitest', [
  'run',
  ...(quick ? ['--project', 'quick'] : []),
  '--reporter=default',
  '--reporter=json',
  `--outputFile.json=${report}`,
]);
try {
  const { numPassedTests, numFailedTests, numPendingTests, numTodoTests, numFailedTestSuites } =
    JSON.parse(readFileSync(report, 'utf8'));
  // A file that does not even load has no failed test, and is a failure all the same.
  const failed =
    numFailedTests === 0 && status !== 0 ? Math.max(1, numFailedTestSuites) : numFailedTests;
  process.stdout.write(
    `${numPassedTests} passed, ${failed} failed, ${numPendingTests + numTodoTests} skipped\n`,
  );
} catch {
  stop('vitest wrote no report');
}
rmSync(folder, { recursive: true, force: true });
process.exit(status);
