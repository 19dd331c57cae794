/** What an open of LevelDB takes for damage, what it keeps of a database that it sets aside, and what a checksum tells. */
import { existsSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { expect, it } from 'vitest';
import { LevelDatabase } from '../../shared/kv/classic-level.ts';
import type { KvDatabase, KvOp } from '../../shared/kv/kv.ts';
import { openRecovering } from '../../shared/kv/recover.ts';
import { seal, unseal } from '../../shared/kv/sealed.ts';
import { temporaryFolder } from '../support/process.ts';

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

it('a sealed value with any byte changed is none', () => {
  const sealed = seal(Buffer.from('what was noted'));
  for (let at = 0; at < sealed.length; at++) {
    const changed = Buffer.from(sealed);
    changed[at] = (changed[at] ?? 0) ^ 4;
    expect(unseal(changed), `byte ${at}`).toBeUndefined();
  }
  expect(unseal(sealed)?.toString()).toBe('what was noted');
});
