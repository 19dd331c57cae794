/** `headwater prove` with real gateways, sound and broken; small. */
import { cpSync, existsSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { run, start, temporaryFolder, until, type Child } from '../support/process.ts';

const FOLDER = 'headwater-prove-cut';
const highest = (child: Child): number =>
  Math.max(
    -1,
    ...[...child.stdout().matchAll(/^acknowledged up to (\d+)$/gm)].map(([, n]) => Number(n)),
  );

/** Of prove-parts.ts, in a folder of its own. */
async function part(name: string, environment: Record<string, string> = {}): Promise<unknown> {
  const script = ['--import', 'tsx', 'test/support/prove-parts.ts', name, temporaryFolder()];
  const child = start(process.execPath, script, environment);
  expect(await child.exited, child.output()).toBe(0);
  return JSON.parse(child.stdout());
}

interface Answer {
  killed: { acknowledged: number; lost: number; doubled: number };
  full: { acknowledged: number; lost: number; doubled: number; heldBack: boolean };
  fsync: { p50Ms: number; doubt?: string };
  wear: { processBytesPerDay?: number; amplification?: number; isAssumed: boolean };
}

describe('headwater prove', () => {
  it('a sound gateway loses nothing under kills and when it is full, and its folder is gone afterwards', async () => {
    const disk = temporaryFolder();
    const args = ['--disk', disk, '--kills', '1', '--seconds', '1', '--seed', '7', '--json'];
    const { code, stdout, output } = await run(['prove', ...args, '--tbw', '10']);
    expect(code, output).toBe(0);
    const { killed, full, fsync, wear } = JSON.parse(stdout) as Answer;
    expect(killed).toMatchObject({ lost: 0, doubled: 0 });
    expect(killed.acknowledged).toBeGreaterThan(0);
    expect(full).toMatchObject({ lost: 0, doubled: 0, heldBack: true });
    expect(fsync.p50Ms).toBeGreaterThan(0);
    expect(wear.isAssumed).toBe(false);
    expect(readdirSync(disk)).toEqual([]);
  });

  it('a gateway that acknowledges before it stores is found out', async () => {
    const { lost, acknowledged } = (await part('early')) as Answer['killed'];
    expect(lost).toBeGreaterThan(0);
    expect(lost).toBeLessThanOrEqual(acknowledged);
  });

  it(
    'a disk that went back behind its fsync is found out after a cut',
    {
      timeout: 90_000,
    },
    async () => {
      const disk = temporaryFolder();
      const [data, older] = [join(disk, FOLDER), join(temporaryFolder(), 'older')];
      const child = start(process.execPath, ['cli/bin.mjs', 'prove', '--cut', '--disk', disk]);
      await until('some acknowledgements', () => highest(child) > 100 || undefined);
      cpSync(data, older, { recursive: true });
      const before = highest(child);
      await until('many more', () => highest(child) > before + 300 || undefined);
      // SIGTERM takes the gateway with it by SIGKILL.
      await child.kill('SIGTERM');
      const record = join(temporaryFolder(), 'acknowledged.txt');
      writeFileSync(record, `${child.stdout()}acknowledged up to 9999999`);
      const sound = await run(['prove', '--after', record, '--disk', disk]);
      expect(sound.code, sound.output).toBe(0);
      expect(sound.stdout).toMatch(/After the power cut: [\d,]+ messages .* all are there, once/);
      // What a disk has that kept the last second in its cache.
      rmSync(data, { recursive: true });
      cpSync(older, data, { recursive: true });
      const lying = await run(['prove', '--after', record, '--disk', disk]);
      expect(lying.code, lying.output).toBe(3);
      expect(lying.stdout).toMatch(/LOST .*This disk does not keep what fsync promised/);
      expect(existsSync(data)).toBe(true);
      const again = await run(['prove', '--cut', '--disk', disk]);
      expect(again).toMatchObject({ code: 2 });
      expect(again.output).toMatch(/is there from an earlier cut: look at it with/);
    },
  );

  it('an fsync that does nothing is told', async () => {
    const library = ['/usr/lib/x86_64-linux-gnu', '/usr/lib/aarch64-linux-gnu']
      .map((folder) => join(folder, 'libeatmydata.so'))
      .find((path) => existsSync(path));
    expect(library, 'bash test/services/install.sh faults brings it').toBeDefined();
    const { doubt } = (await part('fsync', { LD_PRELOAD: library ?? '' })) as Answer['fsync'];
    expect(doubt).toMatch(/may not write through|this is memory/);
  });

  it('what it does not understand is one sentence', async () => {
    const bad = await run(['prove', '--kills', 'many']);
    expect(bad).toMatchObject({ code: 2 });
    expect(bad.output).toMatch(/--kills 'many' is no whole number from 1 to 1000/);
    const record = join(temporaryFolder(), 'empty.txt');
    writeFileSync(record, 'hello\n');
    const none = await run(['prove', '--after', record]);
    expect(none.output).toMatch(/has no line 'acknowledged up to N'/);
    expect(none.code).toBe(1);
  });
});
