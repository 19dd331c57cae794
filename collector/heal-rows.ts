/** Rows of the lake as `heal.ts` counts them: how many came back, and which sequences have any. */
import { gatewayOf } from './lake/catalog.ts';
import type { Lake } from './lake/lake.ts';
import type { Zone } from './lake/layout.ts';
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
