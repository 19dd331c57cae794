/** Readings that were moved, removed or decoded again: their rows are taken out of the step at hand, and out of files. */
import type { ReadingBatch } from '../../shared/model/reading.ts';
import type { Part } from './gather.ts';
import type { Lake } from './lake.ts';
import { dateOf, folderOf, type LakeFile } from './layout.ts';
import { timeNs, type Address } from './parquet-rows.ts';
import type { ReadingRow } from './rows.ts';

/** Rows of one step, where a later record may replace what an earlier one said. */
export class Rows {
  /** Folder → addresses whose rows in files are replaced. */
  readonly dead = new Map<string, Address[]>();
  private rows: (ReadingRow | undefined)[] = [];
  private places: Map<string, number[]> | undefined;

  private static placeOf(gateway: string, { epoch, sequence, index, timeNs: at }: Address): string {
    return `${gateway}/${epoch}/${sequence}/${index}/${at}`;
  }

  /** Forgets what the batch's readings, or those that it removes, had written. */
  replace({ gateway, epoch, readings, removed = [] }: ReadingBatch, isAgain: boolean): void {
    const kill = (sequence: number, index: number, timeMs: number, ns: number): void => {
      const address = { epoch, sequence, index, timeNs: timeNs(timeMs, ns) };
      const folder = folderOf('readings', dateOf(timeMs), gateway);
      const list = this.dead.get(folder);
      if (list === undefined) this.dead.set(folder, [address]);
      else list.push(address);
      const places = this.known();
      const place = Rows.placeOf(gateway, address);
      for (const at of places.get(place) ?? []) this.rows[at] = undefined;
      places.delete(place);
    };
    for (const { sequence, index, timeMs, ns } of removed) kill(sequence, index, timeMs, ns);
    for (const { sequence, index, timeMs, ns, was } of readings) {
      if (was !== undefined) kill(sequence, index, was.timeMs, was.ns);
      if (isAgain) kill(sequence, index, timeMs, ns);
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
    const { sequence, index, timeMs, ns } = reading;
    const address = { epoch, sequence, index, timeNs: timeNs(timeMs, ns) };
    const place = Rows.placeOf(gateway, address);
    const list = this.places?.get(place);
    if (list === undefined) this.places?.set(place, [at]);
    else list.push(at);
  }

  add(rows: readonly ReadingRow[]): void {
    for (const row of rows) {
      if (this.places !== undefined) this.note(row, this.rows.length);
      this.rows.push(row);
    }
  }

  list(): ReadingRow[] {
    return this.rows.filter((row) => row !== undefined);
  }
}

/** Takes rows out of the files that have them; gives how many files were rewritten. */
export async function rewrite(
  lake: Lake,
  part: Part,
  folder: string,
  addresses: Address[],
): Promise<number> {
  const { log, next } = part.state;
  // A file of the step at hand is from an attempt before this one: it is replaced as a whole.
  const files = (await lake.folder(folder)).filter(
    (file) => file.log !== log || file.from !== next,
  );
  if (files.length === 0) return 0;
  const local = new Map<string, LakeFile>();
  for (const file of files) local.set(await lake.fetch(file), file);
  const changed = await lake.parquet.without([...local.keys()], addresses);
  await lake.using(
    changed.map(({ rewritten }) => rewritten),
    async () => {
      for (const { path, rewritten, rows } of changed) {
        const file = local.get(path);
        if (file === undefined) continue;
        if (rows === 0) await lake.remove(file.key);
        else await lake.put(file.key, rewritten);
      }
    },
  );
  return changed.length;
}
