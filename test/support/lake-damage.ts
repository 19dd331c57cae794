/** Damages files of a lake of every kind, and says what became of it: what was told, and whether all rows are there again. */
import {
  openSync,
  readSync,
  readdirSync,
  rmSync,
  statSync,
  truncateSync,
  writeSync,
  closeSync,
} from 'node:fs';
import { join, relative } from 'node:path';
import { ZONES } from '../../collector/lake/layout.ts';
import { TOPIC_RESULTS, type LogRecord } from '../../collector/log/log.ts';
import { encodeReadings } from '../../shared/model/readings-record.ts';
import { LakeSite, frameOf } from './lake-site.ts';
import { temporaryFolder } from './process.ts';

const DAY = 86_400_000;
const DAYS = 3;
const FRAMES = 4;
const MESSAGES = 25;

/** Frames and results of two gateways and three days, 24 times so many readings as `messages`. */
export async function fill(site: LakeSite, messages = MESSAGES): Promise<void> {
  for (let day = 0; day < DAYS; day++)
    for (let at = 0; at < FRAMES; at++) {
      const first = 1 + (day * FRAMES + at) * messages;
      const dayMs = Date.UTC(2026, 4, 1 + day, 6) - first * 1000;
      await site.append(
        ['gw', 'b/b'].map((gateway) => frameOf(first, messages, { gateway, dayMs })),
      );
    }
  await site.log.append(
    TOPIC_RESULTS,
    Array.from({ length: DAYS }, (_, day) => result(day)),
  );
  await site.caughtUp();
}

/** An open lake that has them. */
export async function filled(isElsewhere = false): Promise<LakeSite> {
  const site = new LakeSite(temporaryFolder(), { isElsewhere });
  await site.open();
  await fill(site);
  return site;
}

export function result(day: number, epoch = 'rule/x'): LogRecord {
  const timeMs = Date.UTC(2026, 4, 1, 6) + day * DAY;
  const readings = Array.from({ length: 10 }, (_, at) => ({
    measurement: 'm',
    tags: { at: String(at) },
    fields: { mean: day + at / 10 },
    sequence: timeMs + at,
    index: 0,
    timeMs: timeMs + at * 1000,
    ns: 0,
  }));
  const batch = { gateway: '~stream', epoch, arrivedMs: 1, readings, revision: 1 };
  return { key: 'x', headers: {}, value: encodeReadings(batch) };
}

/** Every file of the lake that says something, by its key. */
export function filesOf(folder: string): string[] {
  return (
    readdirSync(folder, { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map((entry) => relative(folder, join(entry.parentPath, entry.name)))
      // What was so before is not made again: collector/lake-past.test.ts has its damages.
      .filter((key) => !key.startsWith('_aside/') && !key.startsWith('_past/'))
      .sort()
  );
}

const HOW = ['flip', 'flip', 'flip', 'truncate', 'delete'] as const;

/** Damages one file; gives how. */
export function damage(path: string, next: () => number): string {
  const how = HOW[Math.floor(next() * HOW.length)] ?? 'flip';
  const { size } = statSync(path);
  if (how === 'delete') rmSync(path);
  else if (how === 'truncate') truncateSync(path, Math.floor(next() * size));
  else {
    const at = Math.floor(next() * size);
    const bit = 1 << Math.floor(next() * 8);
    const file = openSync(path, 'r+');
    const byte = Buffer.alloc(1);
    readSync(file, byte, 0, 1, at);
    byte[0] = (byte[0] ?? 0) ^ bit;
    writeSync(file, byte, 0, 1, at);
    closeSync(file);
    return `flip at ${at}`;
  }
  return how;
}

const dayOf = (key: string): string => key.split('/').slice(0, 2).join('/');

export interface Trial {
  damages: number;
  /** Damaged and never spoken of. */
  untold: string[];
  /** What is not as it was when all was made again. */
  differing: string[];
}

export type Rows = Record<string, string[]>;

export async function allRows(site: LakeSite): Promise<Rows> {
  const rows: Rows = {};
  for (const zone of ZONES) rows[zone] = await site.rows(zone);
  return rows;
}

/** Damages these files of a running site, has the lake checked and healed, and compares. */
export async function trial(
  site: LakeSite,
  before: Rows,
  keys: readonly string[],
  next: () => number,
  /** How, where they were damaged before. */
  already?: readonly string[],
): Promise<Trial> {
  const from = already === undefined ? site.said.length : 0;
  const done = keys.map(
    (key, at) => `${key} (${already?.[at] ?? damage(join(site.lakeFolder, key), next)})`,
  );
  await site.scrub.pass();
  await site.healed();
  await site.caughtUp();
  const told = site.said.slice(from).join('\n');
  // Of a file whose day has lost its list as well nobody knows the name: the day is told.
  const isTold = (key: string): boolean =>
    told.includes(key) ||
    // It says of lost files that they are, holds no row, and is found out again.
    key.endsWith('-check.json') ||
    // Where the root is lost as well nobody knows what there was: the zone is told.
    told.includes(
      `lake, ${key.replace(/^_manifest\/(roots\/)?/, '').split('/')[0]}: ${site.lakeFolder} is not as`,
    ) ||
    keys.some((other) => told.includes(other) && other.startsWith(`_manifest/${dayOf(key)}/`));
  const untold = done.filter((_, at) => !isTold(keys[at] ?? ''));
  const now = await allRows(site);
  const differing = ZONES.filter((zone) => now[zone]?.join('\n') !== before[zone]?.join('\n')).map(
    (zone) => `${zone}: ${now[zone]?.length ?? 0} rows of ${before[zone]?.length ?? 0}`,
  );
  return {
    damages: done.length,
    untold,
    differing: differing.length > 0 ? [...differing, ...done] : [],
  };
}
