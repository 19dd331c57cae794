/** The lake on a disk that is watched, and one that fails: what is committed is on stable storage, and an error is no damage. */
import * as nodeFiles from 'node:fs/promises';
import { dirname, join, relative } from 'node:path';
import { describe, expect, it } from 'vitest';
import { Lake } from '../../collector/lake/lake.ts';
import { LocalObjects, type FileCalls } from '../../collector/lake/local.ts';
import { EmbeddedLog } from '../../collector/log/embedded.ts';
import { markPast } from '../../collector/lake/past.ts';
import type { Step } from '../../collector/log/log.ts';
import { HeadwaterError } from '../../shared/errors.ts';
import { LakeSite, frameOf } from '../support/lake-site.ts';
import { temporaryFolder, until } from '../support/process.ts';

type Call = keyof FileCalls | 'sync';

/** The file system, with what is done to it told before and after. */
function watched(
  before: (call: Call, path: string) => void,
  after: (call: Call, path: string, to?: string) => void,
): FileCalls {
  const around = async <T>(
    call: Call,
    path: unknown,
    work: () => Promise<T>,
    to?: unknown,
  ): Promise<T> => {
    before(call, String(path));
    const done = await work();
    after(call, String(path), typeof to === 'string' ? to : undefined);
    return done;
  };
  const calls = { ...nodeFiles };
  for (const name of [
    'mkdir',
    'readFile',
    'readdir',
    'rename',
    'rm',
    'rmdir',
    'stat',
    'copyFile',
  ] as const) {
    const real = nodeFiles[name] as (...args: unknown[]) => Promise<unknown>;
    Object.assign(calls, {
      [name]: async (...args: unknown[]) =>
        await around(name, args[0], () => real(...args), args[1]),
    });
  }
  const open: typeof nodeFiles.open = async (path, flags, mode) =>
    await around('open', path, async () => {
      const handle = await nodeFiles.open(path, flags, mode);
      const sync = handle.sync.bind(handle);
      handle.sync = async () => await around('sync', path, sync);
      return handle;
    });
  return { ...calls, open };
}

describe('the lake on a disk', () => {
  it('a file, its name and the names of its folders are synced before a put is done, also after an attempt that failed', async () => {
    const folder = join(temporaryFolder(), 'new/lake');
    const events: string[] = [];
    let failing = true;
    const name = (path: string): string => relative(dirname(dirname(folder)), path);
    const files = watched(
      (call, path) => {
        if (failing && call === 'rename' && path.endsWith('.part')) {
          failing = false;
          throw Object.assign(new Error('EIO: i/o error'), { code: 'EIO' });
        }
      },
      (call, path, to) => {
        if (call === 'sync') events.push(`sync ${name(path)}`);
        if (call === 'rename') events.push(`rename ${name(to ?? '')}`);
        if (call === 'rm') events.push(`rm ${name(path)}`);
      },
    );
    const store = new LocalObjects(folder, files);
    await store.open();
    const source = join(temporaryFolder(), 'x');
    await nodeFiles.writeFile(source, 'one');
    await expect(store.put('raw/date=1/gw=a/x', source)).rejects.toMatchObject({
      code: 'LAKE_UNAVAILABLE',
    });
    await nodeFiles.writeFile(source, 'two');
    events.length = 0;
    await new LocalObjects(folder, files).put('raw/date=1/gw=a/x', source);
    const at = (event: string): number => events.indexOf(event);
    for (const each of ['', 'new', 'new/lake', 'new/lake/raw', 'new/lake/raw/date=1'])
      expect(at(`sync ${each}`), each).toBeGreaterThanOrEqual(each === '' ? -1 : 0);
    const renamed = at('rename new/lake/raw/date=1/gw=a/x');
    expect(at('sync new/lake/raw/date=1/gw=a/x.part')).toBeGreaterThanOrEqual(0);
    expect(at('sync new/lake/raw/date=1/gw=a/x.part')).toBeLessThan(renamed);
    expect(events.lastIndexOf('sync new/lake/raw/date=1/gw=a')).toBeGreaterThan(renamed);
    events.length = 0;
    await store.remove('raw/date=1/gw=a/x');
    expect(events).toEqual(['rm new/lake/raw/date=1/gw=a/x', 'sync new/lake/raw/date=1/gw=a']);
  });

  it('a name that an fsync of its folder has failed for is given anew: that of a folder, and that of a file beside', async () => {
    const folder = join(temporaryFolder(), 'lake');
    let failing = '';
    const events: string[] = [];
    const files = watched(
      (call, path) => {
        if (call !== 'sync' || path !== failing) return;
        failing = '';
        throw Object.assign(new Error('EIO: i/o error'), { code: 'EIO' });
      },
      (call, path, to) => {
        if (call === 'rmdir' || call === 'mkdir') events.push(`${call} ${relative(folder, path)}`);
        if (call === 'rename') events.push(`name ${relative(folder, to ?? '')}`);
      },
    );
    const store = new LocalObjects(folder, files);
    await store.open();
    const put = async (key: string): Promise<void> => {
      const source = join(temporaryFolder(), 'x');
      await nodeFiles.writeFile(source, key);
      await store.put(key, source);
    };
    failing = folder;
    await expect(put('raw/a/x')).rejects.toMatchObject({ code: 'LAKE_UNAVAILABLE' });
    expect(events).toEqual(['mkdir raw', 'mkdir raw/a']);
    await put('raw/a/x');
    // From the deepest up; that of the lake has others in it by now, or none.
    expect(events.slice(2, 4)).toEqual(['rmdir raw/a', 'rmdir raw']);
    expect(events.filter((event) => event === 'mkdir raw/a')).toHaveLength(2);
    // Of two names that are given at the same time either may be the one that was lost.
    failing = join(folder, 'raw/a');
    const both = await Promise.allSettled([put('raw/a/y'), put('raw/a/z')]);
    expect(both.filter(({ status }) => status === 'rejected').length).toBeGreaterThan(0);
    await Promise.all([put('raw/a/y'), put('raw/a/z')]);
    expect(events.filter((event) => event === 'name raw/a/y')).toHaveLength(2);
  });

  it('a mark whose put failed at its end is put again, though it can be seen: it may be nowhere but in memory', async () => {
    const base = temporaryFolder();
    const lake = new Lake(new LocalObjects(join(base, 'lake')), {
      ...{ folder: base, memoryBytes: 64 << 20, cacheBytes: 1 << 20 },
    });
    await lake.open();
    const put = lake.store.put.bind(lake.store);
    const puts: string[] = [];
    lake.store.put = async (key, file) => {
      puts.push(key);
      await put(key, file);
      if (puts.length === 1) throw new HeadwaterError('LAKE_UNAVAILABLE', 'its folder: EIO');
    };
    await expect(markPast(lake, 'w-0', 1)).rejects.toThrow('EIO');
    await markPast(lake, 'w-0', 1);
    const root = '_manifest/roots/readings/w-0.json';
    expect(puts).toEqual(['_past/since/0', '_past/since/0', root]);
    await markPast(lake, 'w-0', 2);
    expect(puts).toHaveLength(3);
    await lake.close();
  });

  it('where what the lake lay in has vanished nothing is made anew, and it goes on when that is back', async () => {
    const disk = join(temporaryFolder(), 'disk');
    const store = new LocalObjects(join(disk, 'lake'));
    await store.open();
    const put = async (key: string): Promise<void> => {
      const source = join(temporaryFolder(), 'x');
      await nodeFiles.writeFile(source, 'x');
      await store.put(key, source);
    };
    await put('raw/date=1/gw=a/x');
    await nodeFiles.rename(disk, `${disk}-away`);
    for (const key of ['raw/date=1/gw=a/y', 'raw/date=2/gw=a/y'])
      await expect(put(key)).rejects.toMatchObject({ code: 'LAKE_UNAVAILABLE' });
    await expect(nodeFiles.stat(disk)).rejects.toThrow('ENOENT');
    await nodeFiles.rename(`${disk}-away`, disk);
    await put('raw/date=2/gw=a/y');
    await nodeFiles.rm(join(disk, 'lake'), { recursive: true });
    // Its first attempt finds out that what it knew to be there is gone.
    await put('raw/date=2/gw=a/z').catch(() => undefined);
    await put('raw/date=2/gw=a/z');
    expect((await store.list('')).map(({ key }) => key)).toEqual(['raw/date=2/gw=a/z']);
  });

  it('offsets are committed only after every file and manifest of their step has been put', async () => {
    const events: string[] = [];
    class Watched extends EmbeddedLog {
      override async commit(group: string, topic: string, step: Step): Promise<void> {
        const value = step.produce.at(0)?.value.toString('utf8') ?? '';
        if (group === 'headwater-lake-raw' && value.includes('"seal"')) events.push('commit');
        await super.commit(group, topic, step);
      }
    }
    const site = new LakeSite(temporaryFolder(), { Log: Watched });
    await site.open();
    const { store } = site.lake;
    const put = store.put.bind(store);
    store.put = async (key, file) => {
      if (/^raw|^_manifest\/(roots\/)?raw/.test(key)) events.push(`begin ${key}`);
      await put(key, file);
      if (/^raw|^_manifest\/(roots\/)?raw/.test(key)) events.push(`end ${key}`);
    };
    for (let at = 0; at < 3; at++) {
      await site.append([frameOf(1 + at * 10, 10)]);
      await site.caughtUp();
    }
    const open = new Set<string>();
    const kinds = new Set<string>();
    let commits = 0;
    for (const event of events) {
      const [what = '', key = ''] = event.split(' ');
      if (what === 'begin') open.add(key);
      if (what === 'end') kinds.add(key.split('/').slice(0, 2).join('/'));
      if (what === 'end') open.delete(key);
      if (what !== 'commit') continue;
      expect([...open]).toEqual([]);
      commits++;
    }
    expect(commits).toBeGreaterThanOrEqual(3);
    expect(kinds).toEqual(new Set(['raw/date=2026-05-01', '_manifest/raw', '_manifest/roots']));
    await site.close();
  });

  it('an error at any call of the disk is waited for and told, sets nothing aside, and every row is there once', async () => {
    let broken: { call: Call; code: string; left: number } | undefined;
    let met = 0;
    const files = watched(
      (call, path) => {
        if (broken?.call !== call || broken.left === 0 || path.endsWith('.probe.part')) return;
        broken.left--;
        met++;
        const { code } = broken;
        throw Object.assign(new Error(`${code}: injected`), { code });
      },
      () => undefined,
    );
    const site = new LakeSite(temporaryFolder(), { files });
    await site.open();
    await site.append([frameOf(1, 10)]);
    await site.caughtUp();
    let first = 11;
    const faults: [Call, string][] = [
      ['open', 'EMFILE'],
      ['sync', 'EIO'],
      ['rename', 'EROFS'],
      ['mkdir', 'ENOSPC'],
      ['readdir', 'EACCES'],
      ['readdir', 'EIO'],
      ['stat', 'EIO'],
      ['rename', 'EIO'],
      ['sync', 'ENOSPC'],
    ];
    for (const [at, [call, code]] of faults.entries()) {
      // A day of its own: a folder has to be made.
      const dayMs = Date.UTC(2026, 4, 2 + at, 12);
      broken = { call, code, left: 2 };
      await site.append([frameOf(first, 10, { dayMs })]);
      first += 10;
      await until(`${call} to fail twice`, () => broken?.left === 0 || undefined);
      await site.caughtUp();
    }
    broken = undefined;
    expect(met).toBe(faults.length * 2);
    expect(await site.rows('raw')).toHaveLength(faults.length + 1);
    expect(await site.rows('readings')).toHaveLength((faults.length + 1) * 10);
    expect(site.lake.check.found).toBe(0);
    expect(site.said.some((text) => text.includes('injected'))).toBe(true);
    await site.close();
  });
});

it('small files that cannot be merged are tried again by themselves, and told of when that begins and when the reason changes, not at each attempt', async () => {
  const site = new LakeSite(temporaryFolder());
  await site.open();
  let attempts = 0;
  let why = 'no room for it';
  const real = site.lake.parquet.merge.bind(site.lake.parquet);
  site.lake.parquet.merge = async (zone, paths) => {
    if (zone === 'raw') attempts++;
    if (zone === 'raw' && why !== '')
      throw new HeadwaterError('LAKE_UNAVAILABLE', `${why}, try ${attempts}`);
    return await real(zone, paths);
  };
  const told = (): string[] =>
    site.said.filter((text) => text.startsWith('merging small files waits'));
  let next = 1;
  const write = async (): Promise<void> => {
    await site.append([frameOf(next++, 1)]);
    const group = 'headwater-lake-raw';
    await until(
      'a file of its own',
      () => site.log.groups().find((each) => each.group === group)?.lagRecords === 0 || undefined,
    );
  };
  // What comes in goes first: merged is when a look finds nothing to write.
  while (attempts === 0) {
    for (let at = 0; at < 8; at++) await write();
    await new Promise((resolve) => setTimeout(resolve, 1100));
  }
  // Nothing more is written.
  const tries = async (count: number): Promise<void> => {
    const wanted = attempts + count;
    await until('another try', () => attempts >= wanted || undefined);
  };
  await tries(1);
  expect(told()).toEqual([expect.stringContaining('no room for it, try 1')]);
  why = 'another reason';
  await tries(2);
  expect(told()).toHaveLength(2);
  why = '';
  await tries(1);
  await until('all to be merged', async () => {
    const files = await site.lake.files('raw');
    return files.length < next - 1 || undefined;
  });
  expect(await site.rows('raw')).toHaveLength(next - 1);
  await site.close();
});
