/** What a trial needs beside Node, whether it is here, and what brings it. */
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { CACHE } from '../support/cache.ts';
import { ROOT } from '../support/process.ts';

const FAULT_TOOLS = 'bash test/services/install.sh faults brings it';
const COMMANDS = ['linux.uml', 'mkfs.ext4', 'strace', 'prlimit', 'iptables', 'faketime'] as const;

/** Of the loss table: a file in the cache, and the service of install.sh that brings it. */
const PEERS = {
  'Mosquitto 2.1': ['mosquitto2-2.1.2/bin/mosquitto', 'mosquitto2'],
  Telegraf: ['bin/telegraf-1.39.3/telegraf', 'telegraf'],
  NATS: ['bin/nats-2.12.1/nats-server', 'nats'],
} as const;

export type Need =
  | (typeof COMMANDS)[number]
  | 'root'
  | 'guest'
  | 'guest with network'
  | 'emulation'
  | 'Kafka client'
  | 'Kafka'
  | 'InfluxDB'
  | 'InfluxDB 1.8'
  | keyof typeof PEERS;

/** Where it looks; the process's own when left out. */
export interface Surroundings {
  root: string;
  cache: string;
  path: string;
  isRoot: boolean;
}

export const surroundings = (): Surroundings => ({
  root: ROOT,
  cache: CACHE,
  path: process.env['PATH'] ?? '',
  isRoot: process.getuid?.() === 0,
});

/** Where QEMU's guests have their kernel and initramfs from. */
export const guestFolder = ({ cache }: Surroundings): string => join(cache, 'guest-6.1');

/**
 * Debian's User-Mode Linux saves the registers of its guests in room that those of AMX do not fit into: on a processor that has
 * them each guest dies at its first instruction.
 */
export const UML_CANNOT =
  "User-Mode Linux cannot run on this processor (AMX: 'ptrace set fp regs failed')";

/** Nothing brings it: it was left out on purpose. */
export const NO_EMULATION = 'it needs a guest of QEMU, which --no-emulation leaves out';

/** The same: it takes half a minute or more, and a run by hand or of a release has it. */
export const NO_LONG = 'it takes long, which --no-long leaves out';

let umlRuns: boolean | undefined;

/** A guest is booted, once, whose only program ends at once. */
function canBoot(command: string): boolean {
  if (umlRuns === undefined) {
    const disk = ['root=/dev/root', 'rootfstype=hostfs', 'rootflags=/', 'ro', 'init=/bin/true'];
    const args = ['mem=64M', ...disk, 'con=null', 'con0=null,fd:1'];
    const { stdout, stderr } = spawnSync(command, args, {
      timeout: 15_000,
      killSignal: 'SIGKILL',
      env: { ...process.env, TMPDIR: '/tmp' },
    });
    umlRuns = !`${String(stdout)}${String(stderr)}`.includes('set fp regs failed');
  }
  return umlRuns;
}

const found = (command: string, path: string): string | undefined =>
  path
    .split(delimiter)
    .map((folder) => join(folder, command))
    .find((file) => file !== command && existsSync(file));

function lackingQemu(at: Surroundings): string | undefined {
  if (found('qemu-system-x86_64', at.path) === undefined)
    return `'qemu-system-x86_64' is missing, ${FAULT_TOOLS}`;
  return existsSync(join(guestFolder(at), 'initramfs'))
    ? undefined
    : `the kernel of QEMU's guests is missing, ${FAULT_TOOLS}`;
}

function lacking(need: Need, at: Surroundings): string | undefined {
  const { root, cache, path, isRoot } = at;
  const unless = (isHere: boolean, text: string): string | undefined => (isHere ? undefined : text);
  switch (need) {
    case 'root':
      return unless(
        isRoot,
        'mounting file systems and failing system calls need root, or a container',
      );
    case 'emulation':
      return NO_EMULATION;
    case 'guest with network':
      return lackingQemu(at);
    case 'guest': {
      const uml = lacking('linux.uml', at);
      const qemu = uml === undefined ? undefined : lackingQemu(at);
      return qemu === undefined ? undefined : `${uml}, and ${qemu}`;
    }
    case 'Kafka client':
      return unless(
        existsSync(join(root, 'collector/kafka-client/node_modules/node-rdkafka/build/Release')),
        'node-rdkafka is missing, npm run install:kafka brings it',
      );
    case 'Kafka':
      return unless(
        existsSync(join(cache, 'kafka-4.1.0', 'libs')),
        'Kafka is missing, bash test/services/install.sh kafka brings it',
      );
    case 'InfluxDB':
      return unless(
        existsSync(join(cache, 'bin', 'influxdb2-2.7.12', 'influxd')),
        'InfluxDB is missing, bash test/services/install.sh influxdb2 brings it',
      );
    case 'InfluxDB 1.8':
      return unless(
        existsSync(join(cache, 'bin', 'influxdb1-1.8.10', 'influxd')),
        'InfluxDB 1.8 is missing, bash test/services/install.sh influxdb1 brings it',
      );
    case 'Mosquitto 2.1':
    case 'Telegraf':
    case 'NATS': {
      const [file, service] = PEERS[need];
      const brings = `bash test/services/install.sh ${service} brings it`;
      return unless(existsSync(join(cache, file)), `${need} is missing, ${brings}`);
    }
    default: {
      const file = found(need, path);
      if (file === undefined) return `'${need}' is missing, ${FAULT_TOOLS}`;
      return unless(need !== 'linux.uml' || canBoot(file), UML_CANNOT);
    }
  }
}

/** One sentence for all that is missing; undefined: it can be tried. */
export function whyNot(needs: readonly Need[], at: Surroundings): string | undefined {
  const texts = needs.flatMap((need) => lacking(need, at) ?? []);
  return texts.length === 0 ? undefined : texts.join('; ');
}
