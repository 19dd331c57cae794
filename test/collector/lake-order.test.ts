/** In which order a step of the lake comes to be: announced in the log, then its files; and what is merged goes only for a file with all of it. */
import * as files from 'node:fs/promises';
import { afterEach, describe, expect, it } from 'vitest';
import { TOPIC_STATE } from '../../collector/log/log.ts';
import { LakeSite, frameOf } from '../support/lake-site.ts';
import { temporaryFolder, until } from '../support/process.ts';

let site: LakeSite;

afterEach(async () => {
  await site.close();
});

describe('a step of the lake', () => {
  it('is in the log, with its days, before a file of it is in the lake', async () => {
    const seen: Promise<string[]>[] = [];
    const look = async (zone: string): Promise<string[]> => {
      const records = await site.log.state(TOPIC_STATE, 0, `lake/${zone}/0`);
      const state = JSON.parse(String(records.at(-1)?.value ?? '{}')) as { writing?: string[] };
      return state.writing ?? [];
    };
    const rename: typeof files.rename = async (from, to) => {
      const [, zone = '', date = ''] =
        /\/lake\/(\w+)\/date=([^/]+)\/.*\.parquet$/.exec(String(to)) ?? [];
      if (zone !== '')
        seen.push(look(zone).then((days) => (days.includes(date) ? [] : [String(to)])));
      if (zone !== '') await seen.at(-1);
      await files.rename(from, to);
    };
    site = new LakeSite(temporaryFolder(), { files: { ...files, rename } });
    await site.open();
    await site.append([frameOf(1, 5), frameOf(6, 5, { dayMs: Date.UTC(2026, 4, 2) })]);
    await site.caughtUp();
    expect(seen.length).toBeGreaterThanOrEqual(3);
    expect((await Promise.all(seen)).flat()).toEqual([]);
  });

  it('a merge that gave fewer rows replaces nothing', async () => {
    site = new LakeSite(temporaryFolder());
    await site.open();
    const merge = site.lake.parquet.merge.bind(site.lake.parquet);
    let short = 0;
    site.lake.parquet.merge = (zone, paths) => {
      short++;
      return merge(zone, paths.slice(1));
    };
    for (let at = 0; at < 17; at++) {
      await site.append([frameOf(1 + at, 1)]);
      await until('it to be in the lake', async () =>
        (await site.lake.files('readings')).length > at ? true : undefined,
      );
    }
    await until('a merge to be tried', () => (short > 1 ? true : undefined));
    expect(await site.rows('readings')).toHaveLength(17);
    expect(await site.rows('raw')).toHaveLength(17);
  });
});

describe('a file that is replaced while a question opens it', () => {
  it.each([
    'Invalid Error: TProtocolException: Invalid data',
    "Invalid Error: don't know what type: \u000f",
    'Invalid Error: Variable-length int over 10 bytes.',
    'IO Error: Could not read enough bytes from file "a.parquet": attempted to read 9 bytes',
  ])('is read again, whatever DuckDB makes of it: %s', async (words) => {
    site = new LakeSite(temporaryFolder());
    await site.open();
    let asked = 0;
    const answer = await site.lake.query({ zones: [] }, () =>
      ++asked < 3 ? Promise.reject(new Error(words)) : Promise.resolve('read'),
    );
    expect([answer, asked]).toEqual(['read', 3]);
  });
});
