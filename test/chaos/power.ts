/**
 * Power cuts: the gateway runs in User-Mode Linux on an ext4 of its own, a client beside it in the guest writes every
 * acknowledgement to the console when its bytes have arrived, and `kill -9` of the guest takes the page cache with it.
 * What the console has said must be on the image.
 */
import { execFileSync, spawn } from 'node:child_process';
import { chmodSync, cpSync, existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { ROOT, temporaryFolder, until } from '../support/process.ts';
import { Site, wait, type Chance, type Result } from './site.ts';

/** A folder that the guest may mount over: neither the checkout nor Node is in it, wherever they are. */
function mountPoint(): string {
  const free = ['/mnt', '/media', '/srv', '/opt'].find(
    (path) =>
      existsSync(path) && ![ROOT, process.execPath].some((used) => used.startsWith(`${path}/`)),
  );
  if (free === undefined) throw new Error('no folder is there that the guest could mount over');
  return free;
}

function guestScript(folder: string, preload: string, measurement: string): string {
  const script = join(folder, 'init.sh');
  const top = mountPoint();
  writeFileSync(
    script,
    `#!/bin/sh
mount -t proc proc /proc
mount -t tmpfs tmpfs ${top}
mount -t sysfs sys /sys 2>/dev/null
ip link set lo up 2>/dev/null || ifconfig lo up
mkdir -p ${top}/disk
[ -e /dev/ubda ] || mknod /dev/ubda b 98 0
mount /dev/ubda ${top}/disk || { echo NOMOUNT; exit 1; }
cd ${ROOT}
export HOME=${top} PATH=${process.env['PATH'] ?? '/usr/bin:/bin'}
${preload}${process.execPath} cli/bin.mjs gateway --data ${top}/disk/data --id gw-chaos --mqtt 127.0.0.1:1883 --http '' > ${top}/gateway.out 2>&1 &
${process.execPath} test/chaos/guest-client.mjs ${measurement}
echo CLIENTEND
cat ${top}/gateway.out
sleep 100
`,
  );
  chmodSync(script, 0o755);
  return script;
}

async function trial(chance: Chance, preload: string): Promise<Result> {
  const base = temporaryFolder();
  const image = join(base, 'image');
  execFileSync('truncate', ['-s', '256M', image]);
  execFileSync('mkfs.ext4', ['-q', '-F', image]);
  const site = new Site([], join(base, 'copy'));
  const guest = spawn(
    'linux.uml',
    [
      'mem=600M',
      'root=/dev/root',
      'rootfstype=hostfs',
      'rootflags=/',
      'rw',
      `init=${guestScript(base, preload, site.measurement)}`,
      `ubda=${image}`,
      'con=null',
      'con0=null,fd:1',
      'quiet',
    ],
    { detached: true, stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, TMPDIR: '/tmp' } },
  );
  let text = '';
  let tail = '';
  const take = (chunk: Buffer): void => {
    text = `${text}${chunk.toString()}`.slice(-4000);
    tail += chunk.toString();
    const lines = tail.split('\n');
    tail = lines.pop() ?? '';
    for (const line of lines) {
      const match = /^([AS]) (\d+) (\d+)\r?$/.exec(line);
      if (match === null) continue;
      // 'S first last': handed to the socket; 'A first last': acknowledged.
      const set = match[1] === 'A' ? site.acknowledged : site.sent;
      for (let n = Number(match[2]); n <= Number(match[3]); n++) set.add(n);
    }
  };
  guest.stdout.on('data', take);
  guest.stderr.on('data', take);
  const kill = (): void => {
    try {
      process.kill(-(guest.pid ?? 0), 'SIGKILL');
    } catch {
      // It has ended already.
    }
  };
  try {
    await until(
      `the guest to acknowledge: ${text}`,
      () => site.acknowledged.size > 0 || undefined,
      60_000,
    ).catch(() => {
      throw new Error(`the guest did not come so far: ${text.slice(-1500)}`);
    });
    await wait(200 + chance() * 2000);
    kill();
    await until(
      'its end',
      () => guest.exitCode !== null || guest.signalCode !== null || undefined,
      10_000,
    );
    const disk = join(base, 'disk');
    mkdirSync(disk);
    execFileSync('mount', ['-o', 'loop', image, disk]);
    try {
      // Without fsync not even the folder may be there.
      if (existsSync(join(disk, 'data')))
        cpSync(join(disk, 'data'), join(base, 'copy'), { recursive: true });
    } finally {
      execFileSync('umount', [disk]);
    }
    // What the client had sent and the console had not said may be there all the same.
    for (let n = 0; n < 5_000_000 && n <= Math.max(0, site.acknowledged.size * 2 + 100_000); n++)
      site.sent.add(n);
    await site.startCollector();
    await site.startGateway();
    return await site.reconcile(site.acknowledged.size > 0);
  } finally {
    kill();
    await site.stop();
  }
}

export const cut = (chance: Chance): Promise<Result> => trial(chance, '');

/** Control: fsync does nothing. */
export const cutWithoutSync = (chance: Chance): Promise<Result> =>
  trial(chance, 'LD_PRELOAD=libeatmydata.so ');
