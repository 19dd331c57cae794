/**
 * `npm run release:try [-- --release DIR]`: the npm packages of a release, each in an empty folder of its own, as a person
 * installs them: `npx headwater up` takes a reading and shows it, the gateway alone takes one, the contracts can be imported.
 * Fetches the dependencies from npm's registry.
 */
import { execFileSync, spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { root } from './here.mjs';
import { flagsOf } from './flags.mjs';

const { values } = flagsOf(import.meta.url, { options: { release: { type: 'string' } } });
const work = mkdtempSync(join(tmpdir(), 'headwater-release-try-'));
const say = (text) => process.stderr.write(`release: ${text}\n`);
const run = (command, args, cwd) =>
  execFileSync(command, args, { cwd, encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] });
const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
const children = new Set();

/** The tarball installed where nothing was. */
function installed(release, name) {
  const folder = mkdtempSync(join(work, 'empty-'));
  run(
    'npm',
    ['install', '--no-audit', '--no-fund', '--silent', join(release, `${name}-${version}.tgz`)],
    folder,
  );
  return folder;
}

/** Addresses of the ready line. */
async function started(args, cwd) {
  const child = spawn('npx', ['--no-install', ...args], {
    cwd,
    detached: true,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  children.add(child);
  let text = '';
  return await new Promise((resolve, reject) => {
    const look = (chunk) => {
      text += chunk;
      const line = /^ready (.*)$/m.exec(text)?.[1];
      if (line !== undefined)
        resolve(Object.fromEntries(line.split(' ').map((each) => each.split('='))));
    };
    child.stdout.on('data', look);
    child.stderr.on('data', look);
    child.once('close', (code) =>
      reject(new Error(`${args.join(' ')} ended with ${code}: ${text}`)),
    );
  });
}

async function end() {
  for (const child of children) {
    if (child.exitCode !== null || child.pid === undefined) continue;
    const gone = new Promise((resolve) => child.once('close', resolve));
    child.removeAllListeners('close');
    child.once('close', () => undefined);
    process.kill(-child.pid, 'SIGTERM');
    await Promise.race([gone, new Promise((resolve) => setTimeout(resolve, 10_000))]);
  }
}

async function main() {
  const release = values.release ?? join(work, 'release');
  if (values.release === undefined)
    run(process.execPath, ['scripts/release.mjs', '--only', 'npm', '--out', release], root);
  const listen = ['--mqtt', '127.0.0.1:0', '--http', '127.0.0.1:0'];
  const folder = installed(release, 'headwater');
  say(
    `headwater: ${run('du', ['-sh', 'node_modules'], folder).split('\t')[0]} with its dependencies`,
  );
  const up = await started(
    [
      'headwater',
      'up',
      '--no-sample',
      '--gateway-http',
      '127.0.0.1:0',
      '--uplink',
      '127.0.0.1:0',
      ...listen,
    ],
    folder,
  );
  const headwater = (...args) => run('npx', ['--no-install', 'headwater', ...args], folder);
  headwater('publish', 'home/kitchen/climate', '{"temperature":21.5}', '--mqtt', up.mqtt);
  let answer = '';
  for (let look = 0; look < 100 && !answer.includes('21.5'); look++) {
    await new Promise((resolve) => setTimeout(resolve, 200));
    answer = headwater('query', '--measurement', 'climate', '--http', up.http);
  }
  if (!answer.includes('21.5')) throw new Error(`the reading did not arrive: ${answer}`);
  const page = await fetch(`http://${up.http}/`);
  if (!page.ok || !(await page.text()).includes('<html')) throw new Error('the page is not there');
  say('npx headwater up: a reading is taken, asked for again, and the page is there');

  const board = installed(release, 'headwater-gateway');
  const beside = readdirSync(join(board, 'node_modules')).filter((name) =>
    /duckdb|aws-sdk|rdkafka/.test(name),
  );
  if (beside.length > 0) throw new Error(`the gateway brings ${beside.join(', ')}`);
  say(
    `headwater-gateway: ${run('du', ['-sh', 'node_modules'], board).split('\t')[0]} with its dependencies`,
  );
  const alone = await started(
    ['headwater-gateway', '--data', 'g', '--id', 'alone', ...listen],
    board,
  );
  headwater('publish', 'a/b', '{"x":1}', '--mqtt', alone.mqtt);
  const buffer = await (await fetch(`http://${alone.http}/api/v1/buffer`)).json();
  if (buffer.committedMessages !== 1) throw new Error(`the gateway has ${JSON.stringify(buffer)}`);
  say('npx headwater-gateway: a reading is acknowledged and kept');

  const adapter = installed(release, 'headwater-contracts');
  const names = run(
    process.execPath,
    [
      '--input-type=module',
      '-e',
      "console.log(Object.keys(await import('@headwater/contracts')).length)",
    ],
    adapter,
  );
  if (Number(names) === 0) throw new Error('the contracts export nothing');
  say(`@headwater/contracts: ${names.trim()} names`);
}

let failed = false;
try {
  await main();
} catch (error) {
  failed = true;
  say(`FAILED: ${error.stderr ?? ''}${error.message}`);
} finally {
  await end();
  rmSync(work, { recursive: true, force: true });
}
process.exit(failed ? 1 : 0);
