/**
 * `npm run arm:try [-- --arch arm64,armhf] [--seconds N]`: the gateway's package on an emulated ARM machine (QEMU, a Debian kernel,
 * a disk of its own for the data): that it starts and acknowledges, what memory it takes idle and at 100 messages a second, and what
 * it writes to its disk at 1, 10 and 100. armhf runs on the same kernel, with Debian's Node. Figures are of N seconds each (60); the
 * collector of it is away. Needs root, qemu-system-arm, mmdebstrap, cpio, kmod and e2fsprogs.
 */
import { execFileSync } from 'node:child_process';
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { device, endAll, start, until } from './flash-machine.mjs';
import { flagsOf } from './flags.mjs';
import { cache, freePort, root } from './here.mjs';

const { values } = flagsOf(import.meta.url, {
  options: {
    arch: { type: 'string', list: true, choices: ['arm64', 'armhf'], default: ['arm64', 'armhf'] },
    seconds: { type: 'number', default: 60, min: 1, about: 'of each figure' },
  },
});
const SPAN_MS = values.seconds * 1000;
const BOOT_MS = 300_000;
const MODULES = ['virtio_pci', 'virtio_blk', 'virtio_net', 'virtio-rng', 'ext4'];
const work = mkdtempSync(join(tmpdir(), 'headwater-arm-'));
const say = (text) => process.stderr.write(`arm: ${text}\n`);
const run = (command, args, options = {}) =>
  execFileSync(command, args, {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, PATH: `${process.env.PATH}:/usr/sbin:/sbin` },
    ...options,
  });

/** Packages of Debian, unpacked once a machine: what is in them is never run here. */
function debian(arch, suite, packages) {
  const to = join(cache, `arm-${arch}-${suite}`);
  if (existsSync(to)) return to;
  say(`fetching ${packages} for ${arch}`);
  mkdirSync(cache, { recursive: true });
  const half = `${to}.new`;
  rmSync(half, { recursive: true, force: true });
  run('mmdebstrap', [
    ...['--mode=root', '--variant=extract', `--architectures=${arch}`, `--include=${packages}`],
    ...[suite, half, 'http://deb.debian.org/debian'],
  ]);
  run('mv', [half, to]);
  return to;
}

const kernelTree = debian(
  'arm64',
  'bookworm',
  'libc6,libstdc++6,busybox-static,linux-image-cloud-arm64',
);
const [release] = readdirSync(join(kernelTree, 'lib/modules'));
const USERLAND = {
  arm64: () => kernelTree,
  armhf: () => debian('armhf', 'trixie', 'nodejs,busybox-static'),
};

/** In the order in which they go in. */
function modules() {
  run('depmod', ['-b', kernelTree, release]);
  const lines = run('modprobe', ['-d', kernelTree, '-S', release, '-a', '-D', ...MODULES]);
  const paths = lines.split('\n').flatMap((line) => /^insmod (\S+)/.exec(line)?.slice(1) ?? []);
  return [...new Set(paths)];
}

/** The first process of that machine: a line each second says how the gateway stands. */
const INIT = (names, main) => `#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev; mount -t tmpfs tmp /tmp
exec >/dev/console 2>&1
${names.map((name) => `insmod /modules/${name}`).join('\n')}
sleep 1
ip link set lo up; ip link set eth0 up; ip addr add 10.0.2.15/24 dev eth0; ip route add default via 10.0.2.2
mount -t ext4 /dev/vda /data
${main} &
gateway=$!
while kill -0 $gateway; do
  set -- $(cat /proc/$gateway/stat)
  echo "trial: kib=$(awk '/^VmRSS/ {print $2}' /proc/$gateway/status) ticks=$((\${14} + \${15})) bytes=$(awk '{print $7 * 512}' /sys/block/vda/stat)"
  sleep 1
done
echo 'trial: it has ended'
sleep 1000
`;

function machineOf(arch) {
  const tree = join(work, arch);
  const from = USERLAND[arch]();
  mkdirSync(tree);
  const keep = ['bin', 'lib', 'usr/bin/node', 'usr/lib', 'usr/share/nodejs'].filter((path) =>
    existsSync(join(from, path)),
  );
  const without = [
    'lib/modules',
    'usr/lib/modules',
    'usr/lib/python*',
    'usr/lib/gcc',
    '*/perl*',
    '*/systemd',
  ];
  const packed = execFileSync(
    'tar',
    ['-C', from, ...without.map((path) => `--exclude=${path}`), '-cf', '-', ...keep],
    { maxBuffer: 2 ** 30 },
  );
  execFileSync('tar', ['-C', tree, '-xf', '-'], { input: packed });
  const busybox = ['bin/busybox', 'usr/bin/busybox']
    .map((path) => join(from, path))
    .find((path) => existsSync(path));
  if (!existsSync(join(tree, 'bin/busybox'))) cpSync(busybox, join(tree, 'bin/busybox'));
  for (const name of ['proc', 'sys', 'dev', 'tmp', 'data', 'modules', 'etc'])
    mkdirSync(join(tree, name), { recursive: true });
  const paths = modules();
  for (const path of paths) cpSync(path, join(tree, 'modules', path.split('/').at(-1)));
  const deb = run(process.execPath, ['scripts/deb.mjs', '--plain', '--arch', arch, '--out', work], {
    cwd: root,
  }).trim();
  run('dpkg-deb', ['--extract', deb, tree]);
  // Debian 13 has its loader under /usr, where a package that was only unpacked has made /lib no link to.
  for (const name of readdirSync(join(tree, 'usr/lib')).filter((each) => each.startsWith('ld-')))
    if (!existsSync(join(tree, 'lib', name)))
      symlinkSync(`../usr/lib/${name}`, join(tree, 'lib', name));
  writeFileSync(
    join(tree, 'etc/gateway.yaml'),
    'data: /data/gateway\nid: arm\nmqtt.listen: 0.0.0.0:1883\nmqtt.passwordFile: /etc/passwords\nallowPlaintext: true\ncollectors: [mqtt://10.0.2.2:9]\n',
  );
  const password = run(process.execPath, ['cli/bin.mjs', 'password', 'sensor'], {
    cwd: root,
    input: 'a-long-secret',
    stdio: ['pipe', 'pipe', 'pipe'],
  });
  writeFileSync(join(tree, 'etc/passwords'), password, { mode: 0o600 });
  const unit = run('sed', [
    '-n',
    's/^ExecStart=//p',
    join(tree, 'lib/systemd/system/headwater-gateway.service'),
  ]).trim();
  const main = unit.replace('/etc/headwater/gateway.yaml', '/etc/gateway.yaml');
  writeFileSync(
    join(tree, 'init'),
    INIT(
      paths.map((path) => path.split('/').at(-1)),
      main,
    ),
    { mode: 0o755 },
  );
  const initrd = join(work, `${arch}.cpio`);
  run('sh', ['-c', `cd ${tree} && find . | cpio --quiet -o -H newc >${initrd}`]);
  const app = join(tree, 'usr/lib/headwater-gateway');
  const kib = Number(run('du', ['-sk', '--apparent-size', app]).split('\t')[0]);
  const node = existsSync(join(app, 'bin'))
    ? Number(run('du', ['-sk', '--apparent-size', join(app, 'bin')]).split('\t')[0])
    : 0;
  say(`${arch}: installed ${(((kib - node) * 1024) / 1e6).toFixed(1)} MB without Node`);
  rmSync(tree, { recursive: true });
  return initrd;
}

/** So many a second, awaited, until the time is over. How many came. */
async function publish(port, perSecond) {
  const client = await device(port);
  const endMs = performance.now() + SPAN_MS;
  let count = 0;
  while (performance.now() < endMs) {
    const second = new Promise((resolve) => setTimeout(resolve, 1000));
    const numbers = Array.from({ length: perSecond }, () => count++);
    await Promise.all(
      numbers.map((n) =>
        client.publishAsync('trial/climate', JSON.stringify({ n, t: 21.5 }), { qos: 1 }),
      ),
    );
    await second;
  }
  client.end(true);
  return count;
}

async function trial(arch) {
  const initrd = machineOf(arch);
  const disk = join(work, `${arch}.img`);
  run('truncate', ['-s', '512M', disk]);
  run('mke2fs', ['-q', '-t', 'ext4', disk]);
  const port = await freePort();
  const beginMs = performance.now();
  const machine = start(
    'qemu-system-aarch64',
    [
      ...[
        '-M',
        'virt',
        '-cpu',
        'cortex-a57',
        '-smp',
        '2',
        '-m',
        '1024',
        '-nographic',
        '-no-reboot',
      ],
      ...['-kernel', join(kernelTree, 'boot', `vmlinuz-${release}`), '-initrd', initrd],
      ...['-append', 'console=ttyAMA0 quiet', '-drive', `file=${disk},format=raw,if=none,id=d`],
      ...[
        '-device',
        'virtio-blk-pci,drive=d',
        '-netdev',
        `user,id=n,hostfwd=tcp:127.0.0.1:${port}-:1883`,
      ],
      ...['-device', 'virtio-net-pci,netdev=n', '-device', 'virtio-rng-pci'],
    ],
    join(tmpdir(), `headwater-arm-${arch}.log`),
  );
  /** The last line of how it stands. */
  const stands = () => {
    const text = machine.text();
    const all = [...text.matchAll(/^trial: kib=(\d+) ticks=(\d+) bytes=(\d+)/gm)];
    if (all.length === 0 || text.includes('it has ended'))
      throw new Error(`it does not run: ${text.slice(-2000)}`);
    const [, kib, ticks, bytes] = all.at(-1).map(Number);
    return { kib, ticks, bytes };
  };
  try {
    const client = await until('an acknowledgement', () => device(port), BOOT_MS).catch((error) => {
      throw new Error(`${error.message}\n${machine.text().slice(-3000)}`);
    });
    await client.publishAsync('trial/climate', '{"n":0}', { qos: 1 });
    client.end(true);
    say(
      `${arch}: first PUBACK ${((performance.now() - beginMs) / 1000).toFixed(0)} s after power-on`,
    );
    for (const rate of [0, 1, 10, 100]) {
      const before = stands();
      const sinceMs = performance.now();
      const count = rate === 0 ? 0 : await publish(port, rate);
      if (rate === 0) await new Promise((resolve) => setTimeout(resolve, SPAN_MS));
      // What was acknowledged is on the disk; what follows of it soon is.
      await new Promise((resolve) => setTimeout(resolve, 2000));
      const after = stands();
      const seconds = (performance.now() - sinceMs) / 1000;
      const aDay = ((after.bytes - before.bytes) / seconds) * 86_400;
      say(
        `${arch}: ${rate} messages a second (${(count / seconds).toFixed(1)} came): ${(after.kib / 1024).toFixed(0)} MiB, ${(aDay / 1e6).toFixed(0)} MB a day to the disk, ${((after.ticks - before.ticks) / seconds).toFixed(1)} % of an emulated core`,
      );
    }
  } finally {
    await machine.end('SIGKILL');
  }
}

let failed = false;
try {
  for (const arch of values.arch) {
    if (!Object.hasOwn(USERLAND, arch))
      throw new Error(`'${arch}' is none of ${Object.keys(USERLAND).join(', ')}`);
    await trial(arch);
  }
} catch (error) {
  failed = true;
  say(`FAILED: ${error.stderr ?? ''}${error.message}`);
} finally {
  endAll();
  rmSync(work, { recursive: true, force: true });
}
process.exit(failed ? 1 : 0);
