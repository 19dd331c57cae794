/**
 * `npm run deb:try [-- --package FILE]`: the package in a Debian of its own (mmdebstrap, chroot): installed, upgraded with
 * a message in its buffer, broken on purpose, removed, installed again, purged. Needs root, mmdebstrap and dpkg.
 */
import { execFileSync, spawn } from 'node:child_process';
import {
  cpSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { parseArgs } from 'node:util';
import { connectAsync } from 'mqtt';
import { freePort, root } from './here.mjs';

const { values } = parseArgs({ options: { package: { type: 'string' } } });
const work = mkdtempSync(join(tmpdir(), 'headwater-deb-try-'));
const tree = join(work, 'root');
const say = (text) => process.stderr.write(`deb: ${text}\n`);
const run = (command, args, options = {}) =>
  execFileSync(command, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'], ...options });
const inside = (...args) => run('chroot', [tree, ...args]);
const must = (is, what) => {
  if (!is) throw new Error(`not so: ${what}`);
  say(what);
};
const DATA = '/var/lib/headwater-gateway';
const here = (path) => join(tree, path);
/** Its links point into the root, not into this machine's. */
const isThere = (path) => lstatSync(here(path), { throwIfNoEntry: false }) !== undefined;

/** As the unit starts it, and as its user. Resolves with what `use` gives. */
async function serving(use) {
  const port = await freePort();
  const unit = readFileSync(here('/lib/systemd/system/headwater-gateway.service'), 'utf8');
  const command = /^ExecStart=(.*)$/m.exec(unit)[1].split(' ');
  const child = spawn(
    'chroot',
    [
      '--userspec=headwater-gateway:headwater-gateway',
      tree,
      ...command,
      '--mqtt',
      `127.0.0.1:${port}`,
      '--gateway-http',
      '127.0.0.1:0',
    ],
    { stdio: ['ignore', 'pipe', 'pipe'] },
  );
  const ended = new Promise((resolve) => child.once('close', resolve));
  let text = '';
  try {
    const address = await new Promise((resolve, reject) => {
      child.stderr.on('data', (part) => (text += part));
      child.stdout.on('data', (part) => {
        text += part;
        const http = /http=(\S+)/.exec(text)?.[1];
        if (http !== undefined) resolve(http);
      });
      child.once('close', () => reject(new Error(`it did not start: ${text}`)));
    });
    return await use(port, address);
  } finally {
    child.kill('SIGTERM');
    await ended;
  }
}

const waiting = (http) =>
  fetch(`http://${http}/api/v1/buffer`)
    .then((answer) => answer.json())
    .then((buffer) => JSON.stringify(buffer));

/** The same package under a later version; `spoil` changes its files first. */
function later(deb, version, spoil = () => undefined) {
  const stage = join(work, `stage-${version}`);
  run('dpkg-deb', ['-R', deb, stage]);
  const control = join(stage, 'DEBIAN/control');
  writeFileSync(
    control,
    readFileSync(control, 'utf8').replace(/^Version: .*$/m, `Version: ${version}`),
  );
  spoil(stage);
  const file = join(work, `headwater-gateway_${version}.deb`);
  run('dpkg-deb', ['--root-owner-group', '-Znone', '-b', stage, file]);
  rmSync(stage, { recursive: true });
  return file;
}

function install(deb) {
  cpSync(deb, here(`/tmp/${basename(deb)}`));
  return inside('dpkg', '-i', `/tmp/${basename(deb)}`);
}

async function main() {
  const deb =
    values.package ??
    run(process.execPath, ['scripts/deb.mjs', '--arch', 'amd64', '--out', work], {
      cwd: root,
    }).trim();
  say('making a Debian');
  mkdirSync(tree);
  run('mmdebstrap', [
    '--mode=root',
    '--variant=minbase',
    '--include=passwd,systemd',
    'bookworm',
    tree,
    'http://deb.debian.org/debian',
  ]);
  install(deb);
  must(
    inside('dpkg', '-s', 'headwater-gateway').includes('install ok installed'),
    'it is installed',
  );
  must(
    isThere('/etc/systemd/system/multi-user.target.wants/headwater-gateway.service'),
    'its service is enabled',
  );
  must(
    inside('stat', '-c', '%U %a', DATA).trim() === 'headwater-gateway 700',
    'its data folder is its own',
  );
  const token = 'settings of the owner';
  const before = await serving(async (port, http) => {
    const client = await connectAsync(`mqtt://127.0.0.1:${port}`, { reconnectPeriod: 0 });
    await client.publishAsync('a/b', '{"x":1}', { qos: 1 });
    await client.endAsync();
    return await waiting(http);
  });
  must(/"waitingMessages":1\b/.test(before), 'a message is acknowledged and waits in its buffer');
  writeFileSync(
    here('/etc/headwater/gateway.yaml'),
    `# ${token}\n${readFileSync(here('/etc/headwater/gateway.yaml'), 'utf8')}`,
  );
  install(later(deb, '0.1.1'));
  must(
    inside('dpkg-query', '-W', '-f', '${Version}', 'headwater-gateway') === '0.1.1',
    'it is upgraded',
  );
  must(
    readFileSync(here('/etc/headwater/gateway.yaml'), 'utf8').includes(token),
    'the settings are those of before',
  );
  must(
    /"waitingMessages":1\b/.test(await serving((_port, http) => waiting(http))),
    'so is the buffer',
  );
  install(
    later(deb, '0.1.2', (stage) =>
      writeFileSync(
        join(stage, 'usr/lib/headwater-gateway/dist/gateway.js'),
        'throw new Error("spoilt");\n',
      ),
    ),
  );
  const broken = await serving(() => 'started').catch((error) => error.message);
  must(/spoilt/.test(broken), 'a spoilt version does not start');
  install(deb);
  must(
    /"waitingMessages":1\b/.test(await serving((_port, http) => waiting(http))),
    'the one before is put back, and has the buffer',
  );
  inside('dpkg', '-r', 'headwater-gateway');
  must(
    !isThere('/usr/lib/headwater-gateway') && isThere(`${DATA}/data/buffer`),
    'removed: the program is gone, the buffer is there',
  );
  must(
    !isThere('/etc/systemd/system/multi-user.target.wants/headwater-gateway.service'),
    'its service is disabled',
  );
  install(deb);
  must(
    /"waitingMessages":1\b/.test(await serving((_port, http) => waiting(http))),
    'installed again: the buffer is what it was',
  );
  inside('dpkg', '-P', 'headwater-gateway');
  must(!isThere(DATA) && !isThere('/etc/headwater'), 'purged: nothing is left');
}

let failed = false;
try {
  await main();
} catch (error) {
  failed = true;
  say(`FAILED: ${error.stderr ?? ''}${error.message}`);
} finally {
  rmSync(work, { recursive: true, force: true });
}
process.exit(failed ? 1 : 0);
