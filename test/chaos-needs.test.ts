/** `npm run chaos` on a machine that lacks what faults need. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { guestFolder, whyNot, type Surroundings } from './chaos/needs.ts';
import { start, temporaryFolder } from './support/process.ts';

const bare = (): Surroundings => {
  const folder = temporaryFolder();
  return { root: folder, cache: folder, path: folder, isRoot: false };
};

function put(path: string): void {
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, '');
}

describe('what chaos needs', () => {
  it('on a fresh clone it says what is missing and what brings it', () => {
    const why = whyNot(['Kafka client', 'InfluxDB'], bare());
    expect(why).toBe(
      'node-rdkafka is missing, npm run install:kafka brings it; InfluxDB is missing, bash test/services/install.sh influxdb2 brings it',
    );
    expect(whyNot(['root'], bare())).toMatch(/need root/);
    expect(whyNot(['strace'], bare())).toBe(
      "'strace' is missing, bash test/services/install.sh faults brings it",
    );
  });

  it('what is here is tried', () => {
    const at = { ...bare(), isRoot: true };
    put(join(at.root, 'collector/kafka-client/node_modules/node-rdkafka/build/Release/x.node'));
    put(join(at.cache, 'kafka-4.1.0/libs/a.jar'));
    put(join(at.cache, 'bin/influxdb2-2.7.12/influxd'));
    put(join(at.path, 'strace'));
    expect(whyNot(['root', 'Kafka client', 'Kafka', 'InfluxDB', 'strace'], at)).toBeUndefined();
    expect(whyNot([], bare())).toBeUndefined();
  });

  it('a guest is one of QEMU where User-Mode Linux is not', () => {
    const at = { ...bare(), isRoot: true };
    expect(whyNot(['guest'], at)).toMatch(/'linux.uml' is missing, .*'qemu-system-x86_64' is/);
    put(join(at.path, 'qemu-system-x86_64'));
    expect(whyNot(['guest'], at)).toMatch(/the kernel of QEMU's guests is missing, bash test/);
    put(join(guestFolder(at), 'initramfs'));
    expect(whyNot(['guest', 'guest with network'], at)).toBeUndefined();
    expect(whyNot(['linux.uml'], at)).toMatch(/'linux.uml' is missing/);
  });

  it('the command names it, and does not take what was not tried for a success', async () => {
    const env = { PATH: temporaryFolder(), HEADWATER_CACHE: temporaryFolder() };
    const child = start(
      process.execPath,
      ['--import', 'tsx', 'test/chaos/main.ts', '--fault', 'power cut'],
      env,
    );
    expect(await child.exited).toBe(2);
    expect(child.output()).toMatch(/nothing could be tried\nnot tried: power cut: .*'linux.uml'/);
    expect(child.output()).not.toContain('broke a promise');
  });
});
