/** Files on their way that a kill has left in a lake: those of long ago go, those of now are somebody's at work. */
import { mkdirSync, readdirSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { HdfsObjects } from '../../collector/lake/hdfs.ts';
import { LocalObjects } from '../../collector/lake/local.ts';
import { httpFront } from '../support/http-front.ts';
import { temporaryFolder } from '../support/process.ts';

const DAY_S = 86_400;

it('on a disk they are removed by who lists, and are never listed', async () => {
  const folder = temporaryFolder();
  const store = new LocalObjects(folder);
  await store.open();
  mkdirSync(join(folder, 'raw'));
  const now = Date.now() / 1000;
  for (const [name, ageS] of [
    ['a.parquet', 3 * DAY_S],
    ['a.parquet.part', 2 * DAY_S],
    ['b.parquet.part', DAY_S / 2],
  ] as const) {
    const path = join(folder, 'raw', name);
    writeFileSync(path, 'PAR1');
    utimesSync(path, now - ageS, now - ageS);
  }
  expect((await store.list('raw/')).map(({ key }) => key)).toEqual(['raw/a.parquet']);
  expect(readdirSync(join(folder, 'raw')).sort()).toEqual(['a.parquet', 'b.parquet.part']);
});

it('so on HDFS, by its own times', async () => {
  const now = Date.now();
  const file = (pathSuffix: string, ageS: number, fileId: number): object => ({
    ...{ pathSuffix, type: 'FILE', length: 4, fileId },
    modificationTime: now - ageS * 1000,
  });
  const files = [
    file('a.parquet', 3 * DAY_S, 1),
    file('a.parquet.part', 2 * DAY_S, 2),
    file('b.parquet.part', DAY_S / 2, 3),
  ];
  const front = await httpFront({ host: '127.0.0.1', port: 1 });
  const deleted: string[] = [];
  front.instead = (request, response) => {
    const url = new URL(request.url ?? '', 'http://x');
    const isDelete = url.searchParams.get('op') === 'DELETE';
    if (isDelete) deleted.push(url.pathname);
    const answer = isDelete ? { boolean: true } : { FileStatuses: { FileStatus: files } };
    response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(answer));
    return true;
  };
  const base = `http://127.0.0.1:${front.port}`;
  const store = new HdfsObjects({ base, folder: '/lake', user: 'u' });
  expect((await store.list('raw/')).map(({ key }) => key)).toEqual(['raw/a.parquet']);
  expect(deleted).toEqual(['/webhdfs/v1/lake/raw/a.parquet.part']);
  await front.close();
});
