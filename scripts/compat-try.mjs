/**
 * `npm run compat:try [-- --before COMMIT]`: this version beside an earlier one, which is taken from git and built: each one's
 * gateway with the other's collector; folders that the earlier one has filled, upgraded; folders of this one, given back to the
 * earlier one; and a folder of a later layout, which is refused in one sentence and left as it is. Every message that was
 * acknowledged has to be there once.
 */
import { execFileSync, spawn } from 'node:child_process';
import {
  cpSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { connectAsync } from 'mqtt';
import { root } from './here.mjs';

/** What was before enrolment and settings from afar; the tag of the release before, once there is one. */
const BEFORE = '4c1078c';
const { values } = parseArgs({ options: { before: { type: 'string', default: BEFORE } } });
const work = mkdtempSync(join(tmpdir(), 'headwater-compat-'));
const say = (text) => process.stderr.write(`compat: ${text}\n`);
const running = new Set();
const LISTEN = ['--http', '127.0.0.1:0'];

function built(commit) {
  const folder = join(work, 'before');
  mkdirSync(folder);
  const archive = execFileSync('git', ['archive', commit], {
    cwd: root,
    maxBuffer: 512 * 1024 * 1024,
  });
  execFileSync('tar', ['-x', '-C', folder], { input: archive });
  symlinkSync(join(root, 'node_modules'), join(folder, 'node_modules'));
  execFileSync(process.execPath, ['scripts/build.mjs'], {
    cwd: folder,
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  return folder;
}

/** A server of one of the two versions, once it is ready. */
async function start(version, ...args) {
  const child = spawn(process.execPath, ['cli/bin.mjs', ...args], {
    cwd: version,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  running.add(child);
  let text = '';
  const gone = new Promise((resolve) => child.once('close', (code) => resolve(code)));
  const end = async (signal = 'SIGTERM') => {
    child.kill(signal);
    await gone;
    running.delete(child);
  };
  const address = await new Promise((resolve, reject) => {
    const look = (chunk) => {
      text += chunk;
      const line = /^ready (.*)$/m.exec(text)?.[1];
      if (line !== undefined)
        resolve(Object.fromEntries(line.split(' ').map((each) => each.split('='))));
    };
    child.stdout.on('data', look);
    child.stderr.on('data', look);
    void gone.then((code) => reject(Object.assign(new Error(text), { code })));
  });
  return { ...address, end, text: () => text };
}
const collector = (version, data) =>
  start(
    version,
    'collector',
    '--data',
    data,
    '--lake',
    'none',
    '--uplink',
    '127.0.0.1:0',
    ...LISTEN,
  );
const gateway = (version, data, uplink) =>
  start(
    version,
    ...['gateway', '--data', data, '--id', 'compat', '--mqtt', '127.0.0.1:0', ...LISTEN],
    ...(uplink === undefined ? [] : ['--collector', `mqtt://${uplink}`]),
  );

let next = 0;
async function publish(mqtt, count) {
  const client = await connectAsync(`mqtt://${mqtt}`, { reconnectPeriod: 0 });
  const numbers = Array.from({ length: count }, () => next++);
  await Promise.all(
    numbers.map((n) => client.publishAsync('compat/climate', JSON.stringify({ n }), { qos: 1 })),
  );
  await client.endAsync();
  return numbers;
}

async function arrived(http, wanted, what) {
  const endMs = performance.now() + 60_000;
  for (;;) {
    const answer = await fetch(`http://${http}/api/v1/query?measurement=climate&field=n`);
    const { series } = await answer.json();
    const there = series.flatMap(({ points }) => points.map(([, value]) => value));
    const set = new Set(there);
    if (there.length > set.size)
      throw new Error(`${what}: ${there.length - set.size} are there twice`);
    const missing = wanted.filter((n) => !set.has(n));
    if (missing.length === 0)
      return say(`${what}: ${wanted.length} of ${wanted.length}, none twice`);
    if (performance.now() > endMs)
      throw new Error(`${what}: ${missing.length} of ${wanted.length} are missing`);
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
}

/** The gateway of one version and the collector of the other, while both run. */
async function beside(near, far, what) {
  const central = await collector(far, join(work, `c-${next}`));
  const edge = await gateway(near, join(work, `g-${next}`), central.uplink);
  await arrived(central.http, await publish(edge.mqtt, 200), what);
  await edge.end();
  await central.end();
}

/** Filled by one version and killed, then opened by the other, with its own collector. */
async function handedOn(from, to, what) {
  const [near, far] = [join(work, `g-${next}`), join(work, `c-${next}`)];
  const first = await collector(from, far);
  let edge = await gateway(from, near, first.uplink);
  const sent = await publish(edge.mqtt, 200);
  await arrived(first.http, sent, `${what}: before`);
  await first.end('SIGKILL');
  sent.push(...(await publish(edge.mqtt, 500)));
  await edge.end('SIGKILL');
  const central = await collector(to, far);
  edge = await gateway(to, near, central.uplink);
  sent.push(...(await publish(edge.mqtt, 100)));
  await arrived(central.http, sent, `${what}: after`);
  await edge.end();
  await central.end();
}

/** What a later version will have written. */
async function refused() {
  for (const [name, open] of [
    ['gateway', gateway],
    ['collector', collector],
  ]) {
    const data = join(work, `later-${name}`);
    await (await open(root, data)).end();
    const note = join(data, 'headwater.json');
    const later = JSON.stringify({
      ...JSON.parse(readFileSync(note, 'utf8')),
      layout: 2,
      crc: undefined,
    });
    for (const file of ['headwater.json', 'headwater.json.copy'])
      writeFileSync(join(data, file), later);
    const copy = join(work, `copy-${name}`);
    cpSync(data, copy, { recursive: true });
    const said = await open(root, data).then(
      () => 'it started',
      (error) => `${error.code}: ${error.message.trim()}`,
    );
    if (
      !/^1: headwater: .*has layout 2, this version knows 1: use the version that wrote it/.test(
        said,
      )
    )
      throw new Error(`a ${name}'s folder of a later layout: ${said}`);
    const list = (folder) => readdirSync(folder, { recursive: true }).sort().join('\n');
    if (readFileSync(note, 'utf8') !== later || list(data) !== list(copy))
      throw new Error(`a refused folder of a ${name} was touched`);
    say(`a ${name}'s folder of a later layout is refused in one sentence, and not touched`);
  }
}

async function main() {
  execFileSync(process.execPath, ['scripts/build.mjs'], {
    cwd: root,
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  const before = built(values.before);
  say(`${values.before} is built`);
  await beside(before, root, 'gateway of before, collector of now');
  await beside(root, before, 'gateway of now, collector of before');
  await handedOn(before, root, 'upgraded');
  await handedOn(root, before, 'given back');
  await refused();
}

let failed = false;
try {
  await main();
} catch (error) {
  failed = true;
  say(`FAILED: ${error.message}`);
} finally {
  for (const child of running) child.kill('SIGKILL');
  rmSync(work, { recursive: true, force: true });
}
process.exit(failed ? 1 : 0);
