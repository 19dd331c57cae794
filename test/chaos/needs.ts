/** What a trial needs beside Node, whether it is here, and what brings it. */
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
      const isHere = path
        .split(delimiter)
        .some((folder) => folder !== '' && existsSync(join(folder, need)));
      return unless(isHere, `'${need}' is missing, ${FAULT_TOOLS}`);
    }
  }
}

/** One sentence for all that is missing; undefined: it can be tried. */
export function whyNot(needs: readonly Need[], at: Surroundings): string | undefined {
  const texts = needs.flatMap((need) => lacking(need, at) ?? []);
  return texts.length === 0 ? undefined : texts.join('; ');
}
