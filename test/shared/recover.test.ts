/** What an open of LevelDB takes for damage, what it keeps of a database that it sets aside, and what a checksum tells. */
import { existsSync, readFileSync, readdirSync, renameSync, rmSync, truncateSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { expect, it } from 'vitest';
import { LevelDatabase } from '../../shared/kv/classic-level.ts';
import type { KvDatabase, KvOp } from '../../shared/kv/kv.ts';
import { openRecovering } from '../../shared/kv/recover.ts';
import { seal, unseal } from '../../shared/kv/sealed.ts';
import { start, temporaryFolder, until } from '../support/process.ts';

const ALL = { gte: Buffer.from('k'), lt: Buffer.from('l') };
const ops: KvOp[] = Array.from({ length: 200 }, (_, n) => ({
  type: 'put',
  key: Buffer.from(`k${String(n).padStart(4, '0')}`),
  value: seal(Buffer.from(`value ${n}`)),
}));

async function filled(): Promise<string> {
  const folder = join(temporaryFolder(), 'db');
  const db = new LevelDatabase(folder);
  await db.open();
  await db.write(ops, { sync: true });
  await db.close();
  return folder;
}

it.each([
  'Input/output error',
  'No space left on device',
  'Too many open files',
])('%s at an open is no damage: nothing is set aside, and all is there when it is over', async (text) => {
  const folder = await filled();
  const cause = new Error(`IO error: ${folder}/MANIFEST-000002: ${text}`);
  const open = (): Promise<void> => Promise.reject(new Error('Database failed to open', { cause }));
  // Nothing else of it is asked for.
  const failed = openRecovering(folder, 'then', () => ({ open }) as KvDatabase);
  await expect(failed).rejects.toMatchObject({ code: 'DATA_UNUSABLE' });
  expect(existsSync(join(dirname(folder), 'damaged'))).toBe(false);
  const { db, setAside } = await openRecovering(folder, 'now', (path) => new LevelDatabase(path));
  expect(setAside).toBeUndefined();
  expect(await db.read(ALL, 1 << 20)).toHaveLength(ops.length);
  await db.close();
});

it('what is whole in a database that is set aside is in the fresh one', async () => {
  const folder = await filled();
  rmSync(join(folder, 'CURRENT'));
  const { db, setAside, carried } = await openRecovering(
    folder,
    'now',
    (path) => new LevelDatabase(path),
  );
  expect(setAside).toBeDefined();
  expect(carried).toBe(ops.length);
  const entries = await db.read(ALL, 1 << 20);
  expect(entries.map(([, value]) => unseal(value)?.toString())).toEqual(
    ops.map((_, n) => `value ${n}`),
  );
  await db.close();
});

const level = (path: string): LevelDatabase => new LevelDatabase(path);

/** Two lives: a table, and newest records beside it. */
async function twoLives(): Promise<string> {
  const folder = await filled();
  const db = new LevelDatabase(folder);
  await db.open();
  await db.write([{ type: 'put', key: Buffer.from('k9'), value: seal(Buffer.from('last')) }], {
    sync: true,
  });
  await db.close();
  return folder;
}

const named = (folder: string, end: string): string =>
  join(folder, readdirSync(folder).find((name) => name.endsWith(end)) ?? '');

it.each<[string, (folder: string) => void]>([
  ['its newest records are gone', (folder) => rmSync(named(folder, '.log'))],
  ['a table is gone', (folder) => rmSync(named(folder, '.ldb'))],
  ['a table is cut off', (folder) => truncateSync(named(folder, '.ldb'), 100)],
  [
    'its manifest is cut off between two entries, as an older one',
    (folder) => {
      const path = named(folder, readFileSync(join(folder, 'CURRENT'), 'utf8').trim());
      const bytes = readFileSync(path);
      truncateSync(path, 7 + bytes.readUInt16LE(4));
    },
  ],
])('LevelDB would not miss it: %s: it is set aside, told, and the rest is there', async (_, damage) => {
  const folder = await twoLives();
  damage(folder);
  const { db, setAside } = await openRecovering(folder, 'now', level);
  expect(setAside).toBeDefined();
  await db.close();
});

it('a kill while a fresh one is made, or between the renames, leaves all that is whole', async () => {
  for (const at of ['making', 'writing', 'opening', 'renaming'] as const) {
    const folder = await twoLives();
    rmSync(join(folder, 'CURRENT'));
    let calls = 0;
    const cut = (path: string): LevelDatabase => {
      const isCut = at === (['making', 'opening'] as const)[calls++];
      if (isCut) throw new Error('cut');
      const db = new LevelDatabase(path);
      if (at === 'writing') db.write = () => Promise.reject(new Error('cut'));
      return db;
    };
    if (at === 'renaming') {
      const { db } = await openRecovering(folder, 'then', level);
      await db.close();
      renameSync(folder, `${folder}.carried`);
    } else await expect(openRecovering(folder, 'then', cut)).rejects.toThrow('cut');
    const { db } = await openRecovering(folder, 'now', level);
    expect(await db.read(ALL, 1 << 20), at).toHaveLength(ops.length + 1);
    await db.close();
  }
});

it('what another process has open is not set aside, whatever is missing in it', async () => {
  const folder = await twoLives();
  const script = `import('classic-level').then(async ({ ClassicLevel }) => { const db = new ClassicLevel(process.argv[1]); await db.open(); console.log('open'); setInterval(() => {}, 1000); })`;
  const child = start(process.execPath, ['-e', script, folder]);
  try {
    await until('it to be open', () => child.stdout().includes('open') || undefined);
    rmSync(join(folder, 'CURRENT'));
    await expect(openRecovering(folder, 'now', level)).rejects.toMatchObject({
      code: 'DATA_LOCKED',
    });
    expect(existsSync(join(dirname(folder), 'damaged'))).toBe(false);
  } finally {
    await child.kill('SIGKILL');
  }
});

it('an error of a call of the file system is no damage, and says where', async () => {
  const folder = await filled();
  const error = Object.assign(new Error('EIO: i/o error, read'), { code: 'EIO' });
  const failing = (): KvDatabase =>
    ({ open: () => Promise.reject(new Error('no', { cause: error })) }) as unknown as KvDatabase;
  await expect(openRecovering(folder, 'now', failing)).rejects.toMatchObject({
    code: 'DATA_UNUSABLE',
    message: expect.stringContaining(folder) as string,
  });
  expect(existsSync(join(dirname(folder), 'damaged'))).toBe(false);
});

it('a sealed value with any byte changed is none', () => {
  const sealed = seal(Buffer.from('what was noted'));
  for (let at = 0; at < sealed.length; at++) {
    const changed = Buffer.from(sealed);
    changed[at] = (changed[at] ?? 0) ^ 4;
    expect(unseal(changed), `byte ${at}`).toBeUndefined();
  }
  expect(unseal(sealed)?.toString()).toBe('what was noted');
});
