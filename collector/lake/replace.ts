/**
 * Readings that were moved, removed or decoded again: their rows are taken out of the step at hand, and out of files.
 * A reading is known by its identity (gateway, epoch, sequence, index), wherever in the log or in time it lies.
 */
import { isTurn, nextTurn } from '../../shared/env/turns.ts';
import { RangeSet } from '../../shared/model/ranges.ts';
import type { ReadingBatch } from '../../shared/model/reading.ts';
import { nanosOf } from '../duckdb/nanos.ts';
import type { Lake } from './lake.ts';
import { gatewayOf, dateOf, folderOf, type LakeFile, type Zone } from './layout.ts';
import type { Spans } from './manifest.ts';
import type { PastRow, Replacing } from './parquet-past.ts';
import type { Dead } from './parquet-rows.ts';
import type { Rewritten } from './engine.ts';
import type { ReadingRow } from './rows.ts';

/** What of a gateway is dead, and the dates that it was said to be of. */
interface Killed {
  /** With when it was found out, epoch milliseconds. */
  dead: (Dead & { endedMs: number })[];
  dates: Set<string>;
}

/** Rows of one step, where a later record may replace what an earlier one said. */
export class Rows {
  /** By gateway: rows in files that are replaced. */
  readonly killed = new Map<string, Killed>();
  /** Rows of this step that a later record of it replaced. */
  readonly past: PastRow[] = [];
  /** Rows that were found out after they had arrived, and when. */
  readonly said: PastRow[] = [];
  private rows: (ReadingRow | undefined)[] = [];
  private places: Map<string, number[]> | undefined;

  /** `isReplacing`: something may be, so places are noted as rows come, and not of all at once. */
  constructor(isReplacing = false) {
    if (isReplacing) this.places = new Map();
  }

  private static placeOf(gateway: string, epoch: string, sequence: number, index: number): string {
    return `${gateway}/${epoch}/${sequence}/${index}`;
  }

  private kill(gateway: string, dead: Dead & { endedMs: number }, timeMs: number): void {
    let killed = this.killed.get(gateway);
    if (killed === undefined) this.killed.set(gateway, (killed = { dead: [], dates: new Set() }));
    killed.dead.push(dead);
    killed.dates.add(dateOf(timeMs));
    const { epoch, sequence, index, timeNs: only, endedMs } = dead;
    const place = Rows.placeOf(gateway, epoch, sequence, index);
    for (const at of this.known().get(place) ?? []) {
      const row = this.rows[at];
      if (row === undefined) continue;
      const { timeMs: ms, ns } = row.reading;
      if (only !== undefined && only !== nanosOf(ms, ns)) continue;
      this.rows[at] = undefined;
      this.past.push({ row, endedMs });
    }
  }

  /**
   * Forgets what the batch's readings, or those that it removes, had written. `isKnown`: they may have been said before.
   * `endedMs`: when that was found out.
   */
  replace(
    { gateway, epoch, readings, removed = [] }: ReadingBatch,
    isKnown: boolean,
    endedMs: number,
  ): void {
    for (const { sequence, index, timeMs, ns } of removed)
      this.kill(gateway, { epoch, sequence, index, timeNs: nanosOf(timeMs, ns), endedMs }, timeMs);
    for (const { sequence, index, timeMs, ns, was } of readings) {
      const dead = { epoch, sequence, index, endedMs };
      if (was !== undefined) {
        const at = nanosOf(was.timeMs, was.ns);
        this.kill(gateway, { ...dead, timeNs: isKnown ? undefined : at }, was.timeMs);
      }
      if (isKnown) this.kill(gateway, { ...dead, timeNs: undefined }, timeMs);
      else if (was !== undefined)
        this.kill(gateway, { ...dead, timeNs: nanosOf(timeMs, ns) }, timeMs);
    }
  }

  /** Made only where something is replaced. */
  private known(): Map<string, number[]> {
    if (this.places !== undefined) return this.places;
    this.places = new Map();
    for (const [at, row] of this.rows.entries()) if (row !== undefined) this.note(row, at);
    return this.places;
  }

  private note({ gateway, record: { epoch }, reading }: ReadingRow, at: number): void {
    const place = Rows.placeOf(gateway, epoch, reading.sequence, reading.index);
    const list = this.places?.get(place);
    if (list === undefined) this.places?.set(place, [at]);
    else list.push(at);
  }

  /** `saidMs`: they were found out then, and not as they arrived. */
  add(rows: readonly ReadingRow[], saidMs?: number): void {
    for (const row of rows) {
      if (saidMs !== undefined) this.said.push({ row, endedMs: saidMs });
      if (this.places !== undefined) this.note(row, this.rows.length);
      this.rows.push(row);
    }
  }

  list(): ReadingRow[] {
    return this.rows.filter((row) => row !== undefined);
  }

  /** What it replaced, to be kept; undefined: nothing was. `paths`: files that had it. */
  async replacing(paths: readonly string[]): Promise<Replacing | undefined> {
    if (paths.length + this.past.length + this.said.length === 0) return undefined;
    const dead: Replacing['dead'][number][] = [];
    const places = new Set<string>();
    for (const [gateway, { dead: list }] of this.killed)
      for (const each of list) {
        if (isTurn(dead.length)) await nextTurn();
        dead.push({ ...each, gateway });
        places.add(Rows.placeOf(gateway, each.epoch, each.sequence, each.index));
      }
    const fresh: ReadingRow[] = [];
    for (const [at, row] of this.rows.entries()) {
      if (isTurn(at)) await nextTurn();
      if (row === undefined) continue;
      const { gateway, record, reading } = row;
      const place = Rows.placeOf(gateway, record.epoch, reading.sequence, reading.index);
      if (places.has(place)) fresh.push(row);
    }
    return { paths, dead, fresh, more: this.past, late: this.said };
  }
}

/**
 * Files of a gateway that may have rows of these sequences: by what the manifests say, and those of the folders of these
 * dates that no manifest speaks of yet. `isOwn`: of the step at hand, from an attempt before this one.
 */
export async function filesWith(
  lake: Lake,
  zone: Zone,
  gateway: string,
  { spans, dates }: { spans: Spans; dates: Iterable<string> },
  isOwn: (file: LakeFile) => boolean,
): Promise<LakeFile[]> {
  const catalog = lake.catalog(zone);
  const named = new Set((await catalog.candidates(gateway, spans)).map(({ key }) => key));
  const folders = new Set([...dates].map((date) => folderOf(zone, date, gateway)));
  for (const key of named) folders.add(key.slice(0, key.lastIndexOf('/') + 1));
  const found: LakeFile[] = [];
  for (const folder of folders)
    for (const file of await lake.folder(folder)) {
      if (isOwn(file)) continue;
      const { entries } = await catalog.day(file.date);
      if (named.has(file.key) || !entries.has(file.key)) found.push(file);
    }
  return found;
}

export interface Replaced extends Rewritten {
  file: LakeFile;
}

/** Of these rows by epoch. */
async function spansOf(dead: readonly Dead[]): Promise<Spans> {
  const sets = new Map<string, RangeSet>();
  for (const [at, { epoch, sequence }] of dead.entries()) {
    if (isTurn(at)) await nextTurn();
    let set = sets.get(epoch);
    if (set === undefined) sets.set(epoch, (set = new RangeSet()));
    set.add(sequence, sequence);
  }
  return Object.fromEntries([...sets].map(([epoch, { ranges }]) => [epoch, [...ranges]]));
}

/** The files that have such rows, without them; nothing is put yet. */
export async function rewrite(
  lake: Lake,
  { killed }: Rows,
  isOwn: (file: LakeFile) => boolean,
): Promise<Replaced[]> {
  const replaced: Replaced[] = [];
  for (const [gateway, { dead, dates }] of killed) {
    const spans = await spansOf(dead);
    const files = await filesWith(lake, 'readings', gateway, { spans, dates }, isOwn);
    const local = await lake.whole(files);
    if (local.size === 0) continue;
    for (const each of await lake.parquet.without([...local.keys()], dead)) {
      const file = local.get(each.path);
      if (file !== undefined && gatewayOf(file.key) === gateway) replaced.push({ ...each, file });
    }
  }
  return replaced;
}
