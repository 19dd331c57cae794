/** Rows of the lake as `heal.ts` counts them: how many came back, which sequences have any, and what is lost again and again. */
import type { Notify } from '../shared/telemetry/log.ts';
import type { Lake } from './lake/lake.ts';
import { gatewayOf, type Zone } from './lake/layout.ts';
import { SpanSet, beyond, counts, type FileEntry, type Spans } from './lake/manifest.ts';

export const folderOfKey = (key: string): string => key.slice(0, key.lastIndexOf('/') + 1);

async function rowsIn(lake: Lake, zone: Zone, folder: string): Promise<number> {
  const catalog = lake.catalog(zone);
  let rows = 0;
  for (const { key, date } of await lake.folder(folder)) {
    const entry = (await catalog.day(date)).entries.get(key);
    if (entry !== undefined && counts(entry)) rows += entry.rows;
  }
  return rows;
}

/** How many rows the folders of lost files have more than they had. */
export class Returned {
  /** Of each folder: before, or since some of them were taken for those of a file. */
  private readonly before = new Map<string, number>();
  private readonly lake: Lake;
  private readonly zone: Zone;

  constructor(lake: Lake, zone: Zone) {
    this.lake = lake;
    this.zone = zone;
  }

  /** From here on it is counted, of files of one zone. */
  static async since(
    lake: Lake,
    lost: readonly { zone: Zone; entry: FileEntry }[],
  ): Promise<Returned> {
    const own = new Returned(lake, lost[0]?.zone ?? 'results');
    for (const folder of new Set(lost.map(({ entry }) => folderOfKey(entry.key))))
      own.before.set(folder, await rowsIn(lake, own.zone, folder));
    return own;
  }

  /** So many of this file's are there again; they are counted as no other's. */
  async of({ key, rows }: FileEntry): Promise<number> {
    const folder = folderOfKey(key);
    const before = this.before.get(folder) ?? 0;
    const now = await rowsIn(this.lake, this.zone, folder);
    const own = Math.max(0, Math.min(rows, now - before));
    this.before.set(folder, before + own);
    return own;
  }
}

/** The sequences that have readings in the lake, each for itself. Throws LAKE_UNAVAILABLE. */
export async function readingsIn(lake: Lake): Promise<SpanSet> {
  const all = new SpanSet();
  for (const file of await lake.files('readings'))
    for (const path of (await lake.whole([file])).keys())
      all.add(gatewayOf(file.key), await lake.parquet.sequences(path));
  return all;
}

export const isNothing = (spans: Spans): boolean => Object.keys(spans).length === 0;

/** What a lost file of readings may have had, and `raw` has not. Its spans may name what never arrived. */
export function unmade({ key, spans }: FileEntry, raw: Spans, received?: SpanSet): Spans {
  const rest = beyond(spans, raw);
  if (received === undefined) return rest;
  return beyond(rest, beyond(rest, received.of(gatewayOf(key))));
}

/** So often what was made again may be lost again at once: several files of a folder can be damaged. */
const AT_ONCE = 2;
const AGAIN_MS = 2000;
const AGAIN_MS_MAX = 600_000;

interface Made {
  /** Rounds. */
  times: number;
  lastMs: number;
  round: number;
  isSaid: boolean;
}

/**
 * Folders in which something was made again: a store that keeps nothing of what it says it has would have its rows written for ever.
 * Each time waits twice as long as the one before, up to ten minutes; what stays for an hour is forgotten.
 */
export class MadeAgain {
  private readonly folders = new Map<string, Made>();
  private round = 0;

  /** A round begins. */
  begin(): void {
    this.round++;
  }

  note(key: string, nowMs: number): void {
    const { round } = this;
    const name = folderOfKey(key);
    for (const [folder, { lastMs }] of this.folders)
      if (nowMs - lastMs > 6 * AGAIN_MS_MAX) this.folders.delete(folder);
    const { times = 0, isSaid = false, round: last } = this.folders.get(name) ?? {};
    this.folders.set(name, {
      times: last === round ? times : times + 1,
      lastMs: nowMs,
      round,
      isSaid,
    });
  }

  /** When a lost file of this name may be made again, monotonic milliseconds; 0: at once. */
  dueMs(key: string): number {
    const { times, lastMs } = this.folders.get(folderOfKey(key)) ?? { times: 0, lastMs: 0 };
    if (times <= AT_ONCE) return 0;
    return lastMs + Math.min(AGAIN_MS * 2 ** (times - AT_ONCE - 1), AGAIN_MS_MAX);
  }

  /** When the first of those that wait is due, told once of each folder; undefined: none waits. */
  nextMs(keys: readonly string[], address: string, notify: Notify): number | undefined {
    let nextMs: number | undefined;
    for (const key of keys) {
      const dueMs = this.dueMs(key);
      if (dueMs === 0) continue;
      nextMs = Math.min(nextMs ?? Infinity, dueMs);
      const folder = folderOfKey(key);
      const made = this.folders.get(folder);
      if (made === undefined || made.isSaid) continue;
      made.isSaid = true;
      const text = `the lake: what was made again in ${folder} is lost again (${made.times} times so far): ${address} does not keep what it says it has, or something deletes it; it is made again at longer and longer intervals`;
      notify({ level: 'error', event: 'lake_heal', text });
    }
    return nextMs;
  }
}
