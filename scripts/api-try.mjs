/**
 * `npm run api:try [-- --examples N] [--seed N]`: the API by its own description. schemathesis sends N examples (30) to every
 * operation, right ones and wrong ones: no answer may be a 5xx, other than described, or have what is not described. Then a Python client is made from the
 * description, and the example of docs/api.md asks with it; and InfluxDB's own clients, of 1.x and of 2, in Python and Node, write and ask.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { homedir, tmpdir } from 'node:os';
import { join } from 'node:path';
import { root } from './here.mjs';
import { arrived, builtHere, endAll, publish, start } from './trial.mjs';
import { flagsOf } from './flags.mjs';

const { values } = flagsOf(import.meta.url, {
  options: {
    examples: { type: 'integer', default: 30, min: 1 },
    seed: { type: 'integer', default: 1 },
  },
});
const CACHE = process.env.HEADWATER_CACHE ?? join(homedir(), '.cache', 'headwater');
const CLIENTS = join(CACHE, 'influx-clients-1');
const TOOLS = join(CACHE, 'api-tools-4.32.5', 'bin');
/** An answer that never ends is tried by the tests of the live stream. */
const ENDLESS = '/api/v1/stream';
const CHECKS = [
  ...['not_a_server_error', 'status_code_conformance', 'content_type_conformance'],
  ...['response_schema_conformance', 'response_headers_conformance', 'unsupported_method'],
];
const READINGS = 100;
const work = mkdtempSync(join(tmpdir(), 'headwater-api-'));
const say = (text) => process.stderr.write(`api: ${text}\n`);

/** A block of a page, by its language. */
const block = (page, language) =>
  readFileSync(join(root, 'docs', page), 'utf8')
    .split(`\`\`\`${language}\n`)[1]
    ?.split('```')[0] ?? '';

function examined(http, description) {
  const { status } = spawnSync(
    join(TOOLS, 'schemathesis'),
    [
      ...['run', description, '--url', `http://${http}`, '--checks', CHECKS.join(',')],
      ...['--exclude-path', ENDLESS, '--phases', 'examples,coverage,fuzzing'],
      ...['-n', String(values.examples), '--seed', String(values.seed), '--continue-on-failure'],
      ...['--request-timeout', '20', '--warnings', 'off'],
    ],
    { cwd: work, stdio: 'inherit' },
  );
  return status === 0;
}

/** The description as it is meant: an answer has nothing that is not described. */
function strict(node) {
  if (typeof node !== 'object' || node === null) return node;
  if (Array.isArray(node)) return node.map(strict);
  const own = Object.fromEntries(Object.entries(node).map(([name, each]) => [name, strict(each)]));
  const isClosed = typeof node.properties === 'object' && node.additionalProperties === undefined;
  return isClosed && node.type !== undefined ? { ...own, additionalProperties: false } : own;
}

function strictly(description) {
  for (const operation of Object.values(description.paths).flatMap(Object.values))
    operation.responses = strict(operation.responses);
  return description;
}

/** What the page's example prints. */
function asked(http, description) {
  const folder = join(work, 'headwater_api');
  execFileSync(
    join(TOOLS, 'openapi-python-client'),
    ['generate', '--path', description, '--meta', 'none', '--output-path', folder],
    { stdio: ['ignore', 'ignore', 'inherit'] },
  );
  const script = join(work, 'ask.py');
  writeFileSync(script, block('api.md', 'python').replaceAll('127.0.0.1:8080', http));
  return execFileSync(join(TOOLS, 'python'), [script], { cwd: work }).toString();
}

/** Each says what it has found, and ends with an error where that is something else. */
function influx(http) {
  const programs = [
    [join(CLIENTS, 'bin/python'), 'test/clients/influx.py', http],
    [process.execPath, 'test/clients/influx.mjs', http, CLIENTS],
  ];
  for (const [command, ...args] of programs) {
    const { status, stdout, stderr } = spawnSync(command, args, { cwd: root, encoding: 'utf8' });
    if (status !== 0) throw new Error(`${args[0]}: ${stdout}${stderr}`);
    for (const line of stdout.trim().split('\n')) say(`${args[0]}: ${line}`);
  }
}

async function main() {
  const needed = ['test/services/install.sh', 'api-tools', 'influx-clients'];
  execFileSync('bash', needed, { cwd: root, stdio: 'inherit' });
  const up = await start(builtHere(), [
    ...['up', '--data', join(work, 'data'), '--sample-time', 'true', '--id', 'gw'],
    ...['--mqtt', '--http', '--gateway-http', '--uplink'].flatMap((flag) => [flag, '127.0.0.1:0']),
  ]);
  const numbers = await publish(up.mqtt, READINGS);
  await arrived(up.http, numbers, 'readings', say);
  const description = join(work, 'openapi.json');
  writeFileSync(description, await (await fetch(`http://${up.http}/openapi.json`)).text());
  const printed = asked(up.http, description);
  if (printed.trim() !== String(READINGS))
    throw new Error(`the Python client says ${printed.trim()} of ${READINGS} readings`);
  say(`a Python client made from the description counts ${READINGS} readings`);
  influx(up.http);
  const closed = join(work, 'strict.json');
  writeFileSync(closed, JSON.stringify(strictly(JSON.parse(readFileSync(description, 'utf8')))));
  if (!examined(up.http, closed)) throw new Error('an answer is not as described, see above');
}

try {
  await main();
} catch (error) {
  say(error.message);
  process.exitCode = 1;
} finally {
  endAll();
  rmSync(work, { recursive: true, force: true });
}
