/**
 * Machines that a trial can cut the power of: a guest with an ext4 of its own in an image, on the host's programs, read-only.
 * SIGKILL of the guest takes its page cache with it; what it had flushed is in the image. Two engines, one contract:
 *
 * - User-Mode Linux: Debian's `linux.uml`, nearly as fast as the host; no network to it.
 * - QEMU, by translation, where User-Mode Linux cannot boot or a network is asked for: Debian's kernel, the host's files by 9p,
 *   a virtio disk. `bash test/services/install.sh faults` makes its kernel and initramfs.
 */
import { execFileSync, spawn, type ChildProcess } from 'node:child_process';
import { chmodSync, cpSync, existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { ROOT, temporaryFolder, until } from '../support/process.ts';
import { guestFolder, surroundings, whyNot } from './needs.ts';

/** As many characters of a guest's console are kept. */
const CONSOLE_MAX = 8000;
const MEMORY = { uml: '600M', qemu: '1536M' };

/**
 * Before a command of a guest: fsync does nothing. Nor does the kernel write anything back by itself, as it does every five seconds
 * with files that have been written to for half a minute: a guest that is emulated takes longer than that to come so far, and a cut would find all there.
 */
export const WITHOUT_SYNC =
  'echo 0 > /proc/sys/vm/dirty_writeback_centisecs; LD_PRELOAD=libeatmydata.so ';

export interface Machine {
  /** An ext4 image, made by `makeDisk`. */
  image: string;
  /** Commands of a shell in the checkout: the image is at `disk`, `top` is a tmpfs that may be written. */
  commands: (disk: string, top: string) => string;
  /** A file for every write and flush of the image, in order (`write-log.ts`); of QEMU alone. */
  writes?: string;
  /** A port of the host's loopback that leads to one of the guest. */
  forward?: { host: number; guest: number };
  /** Of the console, whole lines. */
  onLine?: (line: string) => void;
}

export class Guest {
  private readonly child: ChildProcess;
  private text = '';
  private tail = '';

  constructor(command: string, args: string[], onLine: (line: string) => void) {
    this.child = spawn(command, args, {
      detached: true,
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, TMPDIR: '/tmp' },
    });
    const take = (chunk: Buffer): void => {
      this.text = `${this.text}${chunk.toString()}`.slice(-CONSOLE_MAX);
      const lines = `${this.tail}${chunk.toString()}`.split(/\r?\n/);
      this.tail = lines.pop() ?? '';
      for (const line of lines) onLine(line);
    };
    this.child.stdout?.on('data', take);
    this.child.stderr?.on('data', take);
    process.prependListener('exit', this.strike);
  }

  /** The end of what the console said. */
  console(): string {
    return this.text;
  }

  private readonly strike = (): void => {
    try {
      process.kill(-(this.child.pid ?? 0), 'SIGKILL');
    } catch {
      // It has ended already.
    }
  };

  get hasEnded(): boolean {
    return this.child.exitCode !== null || this.child.signalCode !== null;
  }

  /** Resolves when the guest is no more, and with it what it had not flushed. */
  async cut(): Promise<void> {
    this.strike();
    await until('the end of the guest', () => this.hasEnded || undefined, 10_000);
    process.off('exit', this.strike);
  }
}

/** A folder that the guest may mount over: neither the checkout, Node nor what a trial hands it is in it. */
function mountPoint(): string {
  const used = [ROOT, process.execPath, `${temporaryFolder()}/`];
  const free = ['/mnt', '/media', '/srv', '/opt'].find(
    (path) => existsSync(path) && !used.some((file) => file.startsWith(`${path}/`)),
  );
  if (free === undefined) throw new Error('no folder is there that the guest could mount over');
  return free;
}

function script(device: string, { commands }: Machine): string {
  const file = join(temporaryFolder(), 'init.sh');
  const top = mountPoint();
  writeFileSync(
    file,
    `#!/bin/sh
mount -t proc proc /proc
mount -t tmpfs tmpfs ${top}
mount -t sysfs sys /sys 2>/dev/null
for ahead in /sys/class/bdi/9p*/read_ahead_kb; do [ -e $ahead ] && echo 4096 > $ahead; done
ip link set lo up 2>/dev/null || ifconfig lo up
mkdir -p ${top}/disk
[ -e /dev/ubda ] || mknod /dev/ubda b 98 0
mount ${device} ${top}/disk || { echo NOMOUNT; exit 1; }
cd ${ROOT}
export HOME=${top} TMPDIR=${top} PATH=${process.env['PATH'] ?? '/usr/bin:/bin'}
${commands(`${top}/disk`, top)}
sleep 1000
`,
  );
  chmodSync(file, 0o755);
  return file;
}

function bootUml(machine: Machine): Guest {
  const disk = ['root=/dev/root', 'rootfstype=hostfs', 'rootflags=/', 'rw'];
  const args = [`mem=${MEMORY.uml}`, ...disk, `init=${script('/dev/ubda', machine)}`];
  return new Guest(
    'linux.uml',
    [...args, `ubda=${machine.image}`, 'con=null', 'con0=null,fd:1', 'quiet'],
    machine.onLine ?? (() => undefined),
  );
}

/** What the guest flushes is the host's, which goes on: its own cache loses nothing. */
function diskOf({ image, writes }: Machine): string[] {
  const cache = 'cache.no-flush=on';
  if (writes === undefined)
    return ['-blockdev', `driver=file,node-name=disk,filename=${image},${cache}`];
  writeFileSync(writes, '');
  return [
    ...['-blockdev', `driver=file,node-name=image,filename=${image},${cache}`],
    ...['-blockdev', `driver=file,node-name=writes,filename=${writes},${cache}`],
    ...['-blockdev', 'driver=blklogwrites,node-name=disk,file=image,log=writes'],
  ];
}

function bootQemu(machine: Machine): Guest {
  const folder = guestFolder(surroundings());
  const { forward } = machine;
  const network =
    forward === undefined
      ? []
      : [
          '-netdev',
          `user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:${forward.host}-10.0.2.15:${forward.guest}`,
          ...['-device', 'virtio-net-pci,netdev=net'],
        ];
  const kernel = `console=ttyS0 quiet panic=-1 guest=${script('/dev/vda', machine)}`;
  return new Guest(
    'qemu-system-x86_64',
    [
      ...['-M', 'q35', '-accel', 'tcg,thread=multi', '-cpu', 'max', '-smp', '2'],
      ...['-m', MEMORY.qemu, '-nodefaults', '-no-user-config', '-display', 'none'],
      ...['-serial', 'stdio', '-no-reboot'],
      ...['-kernel', join(folder, 'vmlinuz'), '-initrd', join(folder, 'initramfs')],
      ...['-append', kernel],
      '-fsdev',
      'local,id=host,path=/,security_model=none,readonly=on,multidevs=remap',
      ...['-device', 'virtio-9p-pci,fsdev=host,mount_tag=host', '-device', 'virtio-rng-pci'],
      ...diskOf(machine),
      ...['-device', 'virtio-blk-pci,drive=disk,discard=off,write-zeroes=off', ...network],
    ],
    machine.onLine ?? (() => undefined),
  );
}

/** By User-Mode Linux where it can be had and does. */
export function boot(machine: Machine): Guest {
  const isNative = machine.forward === undefined && machine.writes === undefined;
  const isUml = isNative && whyNot(['linux.uml'], surroundings()) === undefined;
  return isUml ? bootUml(machine) : bootQemu(machine);
}

export function makeDisk(image: string, size: string): void {
  execFileSync('truncate', ['-s', size, image]);
  // What a kernel would do of it later is done at once.
  const whole = 'lazy_itable_init=0,lazy_journal_init=0';
  execFileSync('mkfs.ext4', ['-q', '-F', '-E', whole, image]);
}

/** What is in a folder of the image, as a machine finds it that starts again; false: there is no such folder. */
export function copyFrom(image: string, name: string, to: string): boolean {
  const disk = join(temporaryFolder(), 'disk');
  mkdirSync(disk);
  execFileSync('mount', ['-o', 'loop', image, disk]);
  try {
    // Without fsync not even the folder may be there.
    if (!existsSync(join(disk, name))) return false;
    cpSync(join(disk, name), to, { recursive: true });
    return true;
  } finally {
    execFileSync('umount', [disk]);
  }
}
