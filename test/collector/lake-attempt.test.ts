/**
 * Files that a step put before the collector was killed, and no manifest speaks of: what has happened to them since is found
 * by what the log says of them, and their rows come again.
 */
import { cpSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { HeadwaterError } from '../../shared/errors.ts';
import { allRows } from '../support/lake-damage.ts';
import { LakeSite, frameOf } from '../support/lake-site.ts';
import { temporaryFolder, until } from '../support/process.ts';

const filesIn = (site: LakeSite, zone: string): string[] =>
  readdirSync(site.lakeFolder, { recursive: true, encoding: 'utf8' })
    .filter((name) => name.startsWith(`${zone}/`) && name.endsWith('.parquet'))
    .map((name) => join(site.lakeFolder, name));

it.each(['raw', 'readings'] as const)(
  'a file of %s that is damaged between a step and its manifest is found out, and its rows come again (seed 393121)',
  { timeout: 60_000 },
  async (zone) => {
    const folder = temporaryFolder();
    const killed = new LakeSite(folder);
    await killed.open();
    const { store } = killed.lake;
    const put = store.put.bind(store);
    store.put = (key, file) =>
      key.startsWith(`_manifest/${zone}/`)
        ? Promise.reject(new HeadwaterError('LAKE_UNAVAILABLE', 'killed here'))
        : put(key, file);
    await killed.append([frameOf(1, 300)]);
    await until('files of the step', () => filesIn(killed, zone).length > 0 || undefined);
    await killed.close();
    const moments = [undefined, 0.2, 0.35, 0.5, 0.65, 0.8];
    const rows: unknown[] = [];
    for (const place of moments) {
      const copy = temporaryFolder();
      cpSync(folder, copy, { recursive: true });
      const site = new LakeSite(copy);
      const [path = ''] = filesIn(site, zone);
      const bytes = readFileSync(path);
      if (place !== undefined) {
        const at = Math.floor(bytes.length * place);
        bytes[at] = (bytes[at] ?? 0) ^ 4;
        writeFileSync(path, bytes);
      }
      await site.open();
      await site.caughtUp();
      rows.push(await allRows(site));
      // Nothing is lost by it that anybody would have to be told of.
      expect(site.said.join(), String(place)).not.toMatch(/damaged|no Parquet/);
      await site.close();
    }
    const [whole, ...others] = rows;
    expect(whole).toMatchObject({
      [zone]: expect.objectContaining({ length: zone === 'raw' ? 1 : 300 }),
    });
    for (const [at, each] of others.entries()) expect(each, String(moments[at + 1])).toEqual(whole);
  },
);
