/**
 * `npm run flash:try [-- --package FILE] [--keep]`: from a stock image to a reading on the collector, with nobody at the
 * keyboard. A Debian image is made of packages (mmdebstrap, once a machine), given to `headwater flash` with a join token,
 * and booted in QEMU; the gateway in it enrols itself with a collector on this machine, and a reading that is published to
 * it is asked of the collector. Then the plug is pulled while readings come in that nobody fetches, and the machine boots
 * again: every one that was acknowledged has to arrive. Needs root, qemu-system-x86, mmdebstrap, fdisk and e2fsprogs.
 */
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { connect } from 'mqtt';
import { cache, freePort, root } from './here.mjs';

const { values } = parseArgs({
  options: { package: { type: 'string' }, keep: { type: 'boolean', default: false } },
});
const work = mkdtempSync(join(tmpdir(), 'headwater-flash-try-'));
const say = (text) => process.stderr.write(`flash: ${text}\n`);
const seconds = (sinceMs) => `${((performance.now() - sinceMs) / 1000).toFixed(0)} s`;
const PATH = `${process.env.PATH}:/usr/sbin:/sbin`;
const run = (command, args, options = {}) =>
  execFileSync(command, args, {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, PATH },
    ...options,
  });
const ROOT_AT = 1024 * 1024;
/** Emulated, on a machine that does other things as well. */
const BOOT_MS = 1_200_000;
const PACKAGES =
  'systemd-sysv,udev,dbus,iproute2,linux-image-cloud-amd64,cloud-init,netplan.io,ca-certificates,passwd,login';

/** Image, kernel and initramfs: QEMU starts the kernel itself, since its firmware takes minutes without KVM. */
function stock() {
  const made = {
    image: join(cache, 'flash-stock.img'),
    kernel: join(cache, 'flash-stock.vmlinuz'),
    initrd: join(cache, 'flash-stock.initrd'),
  };
  if (existsSync(made.image)) return made;
  say('making a Debian image of packages (about two minutes, once a machine)');
  mkdirSync(cache, { recursive: true });
  const tree = join(work, 'tree');
  const leaveOut = ['doc', 'man', 'locale'].map(
    (name) => `--dpkgopt=path-exclude=/usr/share/${name}/*`,
  );
  const hooks = [
    'rm -rf "$1"/var/cache/apt/* "$1"/var/lib/apt/lists/*',
    'echo "datasource_list: [ NoCloud, None ]" > "$1"/etc/cloud/cloud.cfg.d/90-datasources.cfg',
  ].map((hook) => `--customize-hook=${hook}`);
  run('mmdebstrap', [
    '--mode=root',
    '--variant=minbase',
    `--include=${PACKAGES}`,
    '--aptopt=APT::Install-Recommends "false"',
    ...leaveOut,
    ...hooks,
    'bookworm',
    tree,
    'http://deb.debian.org/debian',
  ]);
  const boot = readdirSync(join(tree, 'boot'));
  const [kernel, initrd] = ['vmlinuz-', 'initrd.img-'].map((begin) =>
    join(
      tree,
      'boot',
      boot.find((name) => name.startsWith(begin)),
    ),
  );
  run('cp', [kernel, made.kernel]);
  run('cp', [initrd, made.initrd]);
  const image = `${made.image}.new`;
  rmSync(image, { force: true });
  run('truncate', ['-s', '1100M', image]);
  run('sfdisk', ['-q', image], {
    input: 'label: gpt\nstart=2048, type=0FC63DAF-8483-4772-8E79-3D69D8477DE4\n',
    stdio: ['pipe', 'ignore', 'pipe'],
  });
  run('mke2fs', [
    '-q',
    '-t',
    'ext4',
    '-L',
    'root',
    '-d',
    tree,
    '-E',
    `offset=${ROOT_AT}`,
    image,
    '1072000k',
  ]);
  run('mv', [image, made.image]);
  rmSync(tree, { recursive: true });
  return made;
}

const headwater = (...args) => run(process.execPath, ['cli/bin.mjs', ...args], { cwd: root });

async function until(what, probe, ms) {
  const endMs = performance.now() + ms;
  for (;;) {
    const found = await probe().catch(() => undefined);
    if (found) return found;
    if (performance.now() > endMs) throw new Error(`not within ${ms / 1000} s: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 500));
  }
}

const running = new Set();
function start(command, args, log) {
  const child = spawn(command, args, { cwd: root, stdio: ['ignore', 'pipe', 'pipe'] });
  running.add(child);
  let text = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (part) => (text += part));
  const gone = new Promise((resolve) => child.once('close', resolve));
  return {
    text: () => text,
    end: async (signal) => {
      child.kill(signal);
      await gone;
      running.delete(child);
      if (log !== undefined) writeFileSync(join(work, log), text);
    },
  };
}

async function collector(ports) {
  const at = (name) => `127.0.0.1:${ports[name]}`;
  const started = start(
    process.execPath,
    [
      'cli/bin.mjs',
      'collector',
      '--data',
      join(work, 'collector'),
      '--lake',
      'none',
      '--uplink',
      '127.0.0.1:0',
      '--http',
      at('http'),
      '--uplinks',
      at('uplinks'),
      '--enroll',
      at('enroll'),
      '--enroll-names',
      '10.0.2.2',
    ],
    'collector.log',
  );
  await until('the collector', async () => started.text().includes('ready '), 60_000);
  return started;
}

/** The first boot is in 1970, as that of a board without a battery. */
const boot = ({ kernel, initrd }, card, port, log, more = []) =>
  start(
    'qemu-system-x86_64',
    [
      '-machine',
      'q35',
      '-cpu',
      'max',
      '-smp',
      '2',
      '-m',
      '512',
      '-nographic',
      '-no-reboot',
      '-kernel',
      kernel,
      '-initrd',
      initrd,
      '-append',
      'root=/dev/vda1 rw console=ttyS0 systemd.default_device_timeout_sec=300',
      '-drive',
      `file=${card},format=raw,if=virtio`,
      '-netdev',
      `user,id=n,hostfwd=tcp:127.0.0.1:${port}-:1883`,
      '-device',
      'virtio-net-pci,netdev=n',
      ...more,
    ],
    log,
  );

/** QEMU takes connections for a machine that is not there yet, and closes them: the client is then silent for ever. */
async function device(port) {
  const client = connect(`mqtt://127.0.0.1:${port}`, {
    username: 'sensor',
    password: 'a-long-secret',
    reconnectPeriod: 0,
    clientId: 'trial',
  });
  client.on('error', () => undefined);
  try {
    await new Promise((resolve, reject) => {
      client.once('connect', resolve);
      client.once('close', () => reject(new Error('closed')));
      setTimeout(() => reject(new Error('silent')), 10_000);
    });
    return client;
  } catch (error) {
    client.end(true);
    throw error;
  }
}

/** What has to be so on a card that has booted. */
function inspect(card, token) {
  const secret = JSON.parse(Buffer.from(token.trim().slice(4), 'base64url').toString()).s;
  const { status } = spawnSync('grep', ['-q', '-a', '-F', '-e', secret, '-e', token.trim(), card]);
  if (status !== 1) throw new Error('the join token can still be read from the card');
  const cat = (path) => run('debugfs', ['-R', `cat ${path}`, `${card}?offset=${ROOT_AT}`]);
  const open = cat('/etc/shadow')
    .split('\n')
    .filter((line) => /^[^:]+:[^!*:]/.test(line));
  if (open.length > 0) throw new Error(`somebody can log in with a password: ${open.length}`);
  if (!cat('/var/lib/headwater-gateway/data/identity/own.pem').includes('PRIVATE KEY'))
    throw new Error('the key was not made on the machine');
}

async function main() {
  const files = stock();
  execFileSync(process.execPath, ['scripts/build.mjs'], { cwd: root });
  const deb =
    values.package ??
    run(process.execPath, ['scripts/deb.mjs', '--arch', 'amd64', '--out', work], {
      cwd: root,
    }).trim();
  const ports = {};
  for (const name of ['http', 'uplinks', 'enroll', 'mqtt']) ports[name] = await freePort();
  const http = `127.0.0.1:${ports.http}`;
  let central = await collector(ports);
  headwater('enroll', 'trial-1', '--site', 'bench', '--http', http, '--out', join(work, 'tokens'));
  const token = join(work, 'tokens', 'trial-1.token');
  writeFileSync(
    join(work, 'gateway.yaml'),
    'data: /var/lib/headwater-gateway/data\nenroll.tokenFile: /var/lib/headwater-gateway/join.token\nmqtt.listen: 0.0.0.0:1883\nmqtt.passwordFile: /etc/headwater/passwords\nallowPlaintext: true\n',
  );
  writeFileSync(
    join(work, 'passwords'),
    run(process.execPath, ['cli/bin.mjs', 'password', 'sensor'], {
      cwd: root,
      input: 'a-long-secret',
      stdio: ['pipe', 'pipe', 'pipe'],
    }),
    { mode: 0o600 },
  );
  const card = join(work, 'card.img');
  let beginMs = performance.now();
  headwater(
    'flash',
    files.image,
    '--package',
    deb,
    '--token',
    token,
    '--settings',
    join(work, 'gateway.yaml'),
    '--passwords',
    join(work, 'passwords'),
    '--to',
    card,
    '--size',
    '1500',
  );
  say(
    `flashed in ${seconds(beginMs)}; the package has ${(statSync(deb).size / 1e6).toFixed(1)} MB`,
  );

  beginMs = performance.now();
  let machine = boot(files, card, ports.mqtt, 'console-1.log', [
    '-rtc',
    'base=1970-01-01T00:00:10',
  ]);
  const first = await until(
    'an acknowledgement of the booted gateway',
    async () => {
      const client = await device(ports.mqtt);
      await client.publishAsync('trial/climate', '{"n":0}', { qos: 1 });
      return client;
    },
    BOOT_MS,
  );
  say(`first PUBACK ${seconds(beginMs)} after power-on`);
  const values_ = async () => {
    const answer = await fetch(`http://${http}/api/v1/query?measurement=climate&field=n`);
    const { series } = await answer.json();
    return series.flatMap(({ points }) => points.map(([, value]) => value));
  };
  await until('the reading at the collector', async () => (await values_()).includes(0), 300_000);
  say(`enrolled, and the reading is at the collector ${seconds(beginMs)} after power-on`);
  process.stdout.write(headwater('gateways', '--http', http));

  // Nobody fetches what comes now; the plug is pulled in the middle of it.
  await central.end('SIGTERM');
  const acknowledged = new Set();
  let next = 1;
  const pulledMs = performance.now() + 5000 + Math.random() * 10_000;
  while (performance.now() < pulledMs) {
    const numbers = Array.from({ length: 20 }, () => next++);
    await Promise.all(
      numbers.map(async (n) => {
        await first.publishAsync('trial/climate', JSON.stringify({ n }), { qos: 1 });
        acknowledged.add(n);
      }),
    );
  }
  const flying = first
    .publishAsync('trial/climate', JSON.stringify({ n: next }), { qos: 1 })
    .catch(() => undefined);
  await machine.end('SIGKILL');
  first.end(true);
  await Promise.race([flying, new Promise((resolve) => setTimeout(resolve, 1000))]);
  say(`plug pulled with ${acknowledged.size} acknowledged and not sent`);
  inspect(card, readFileSync(token, 'utf8'));
  say(
    'the join token cannot be read from the card any more, nobody has a password, the key is its own',
  );

  central = await collector(ports);
  beginMs = performance.now();
  machine = boot(files, card, ports.mqtt, 'console-2.log');
  const missing = async () => {
    const there = new Set(await values_());
    return [...acknowledged].filter((n) => !there.has(n));
  };
  await until(
    'everything that was acknowledged',
    async () => (await missing()).length === 0,
    BOOT_MS,
  );
  const all = await values_();
  const twice = all.length - new Set(all).size;
  if (twice > 0) throw new Error(`${twice} readings are there twice`);
  say(`all ${acknowledged.size} arrived, none twice, ${seconds(beginMs)} after power-on`);
  process.stdout.write(headwater('ledger', '--http', http));
  await machine.end('SIGKILL');
  await central.end('SIGTERM');
}

let failed = false;
try {
  await main();
} catch (error) {
  failed = true;
  say(`FAILED: ${error.stderr ?? ''}${error.message}`);
} finally {
  for (const child of running) child.kill('SIGKILL');
  if (values.keep || failed) say(`what was made is in ${work}`);
  else rmSync(work, { recursive: true, force: true });
}
process.exit(failed ? 1 : 0);
