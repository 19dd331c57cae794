/** What a trial needs beside Node, whether it is here, and what brings it. */
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { homedir } from 'node:os';
import { delimiter, join } from 'node:path';
import { ROOT } from '../support/process.ts';

const FAULT_TOOLS = 'bash test/services/install.sh faults brings it';
const COMMANDS = ['linux.uml', 'mkfs.ext4', 'strace', 'prlimit', 'iptables', 'faketime'] as const;

export type Need = (typeof COMMANDS)[number] | 'root' | 'Kafka client' | 'Kafka' | 'InfluxDB';

/** Where it looks; the process's own when left out. */
export interface Surroundings {
  root: string;
  cache: string;
  path: string;
  isRoot: boolean;
}

export const surroundings = (): Surroundings => ({
  root: ROOT,
  cache:
    process.env['HEADWATER_CACHE'] ??
    join(process.env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache'), 'headwater'),
  path: process.env['PATH'] ?? '',
  isRoot: process.getuid?.() === 0,
});

/**
 * Debian's User-Mode Linux saves the registers of its guests in room that those of AMX do not fit into: on a processor that has
 * them each guest dies at its first instruction.
 */
export const UML_CANNOT =
  "User-Mode Linux cannot run on this processor (AMX: 'ptrace set fp regs failed'), another machine can try it";

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

function lacking(need: Need, { root, cache, path, isRoot }: Surroundings): string | undefined {
  const unless = (isHere: boolean, text: string): string | undefined => (isHere ? undefined : text);
  switch (need) {
    case 'root':
      return unless(
        isRoot,
        'mounting file systems and failing system calls need root, or a container',
      );
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
    default: {
      const found = path
        .split(delimiter)
        .map((folder) => join(folder, need))
        .find((file) => file !== need && existsSync(file));
      if (found === undefined) return `'${need}' is missing, ${FAULT_TOOLS}`;
      return unless(need !== 'linux.uml' || canBoot(found), UML_CANNOT);
    }
  }
}

/** One sentence for all that is missing; undefined: it can be tried. */
export function whyNot(needs: readonly Need[], at: Surroundings): string | undefined {
  const texts = needs.flatMap((need) => lacking(need, at) ?? []);
  return texts.length === 0 ? undefined : texts.join('; ');
}
