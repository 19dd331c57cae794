/** A step's records become files: one for each date and gateway, under the name that the offsets of the step give it. */
import { readingsOf } from '../../shared/model/readings-record.ts';
import { HEADER_AGAIN, HEADER_FROM_LAKE, type StoredRecord } from '../log/log.ts';
import type { Part } from './gather.ts';
import type { Lake } from './lake.ts';
import { fileName, folderOf, type Zone } from './layout.ts';
import { isPlain } from './parquet-plain.ts';
import type { WrittenFile } from './parquet.ts';
import { Rows, rewrite } from './replace.ts';
import { rawRow, readingRows, type RawRow } from './rows.ts';

/** It may take back what was said before it. */
const replaces = ({ headers, value }: StoredRecord): boolean =>
  headers[HEADER_AGAIN] !== undefined || value.includes('"was":') || value.includes('"removed":');

export class Writer {
  writtenRows = 0;
  rewrittenFiles = 0;
  private readonly lake: Lake;
  private readonly zone: Zone;

  constructor(lake: Lake, zone: Zone) {
    this.lake = lake;
    this.zone = zone;
  }

  /** Resolves when all of them are in the lake. */
  async write(part: Part, partition: number, records: StoredRecord[]): Promise<void> {
    if (this.zone === 'raw') await this.writeRaw(part, partition, records);
    else await this.writeReadings(part, partition, records);
  }

  /** Under the name that the offsets of the step give it. */
  private async put(
    part: Part,
    partition: number,
    date: string,
    gateway: string,
    path: string,
  ): Promise<void> {
    const { log, next, to = next } = part.state;
    const folder = folderOf(this.zone, date, gateway);
    await this.lake.put(`${folder}${fileName(log, partition, next, to)}`, path);
    part.touched.add(folder);
  }

  private async writeRaw(part: Part, partition: number, records: StoredRecord[]): Promise<void> {
    const folders = new Map<string, RawRow[]>();
    for (const record of records) {
      // The lake has them already: they were put back into the log from there.
      if (record.headers[HEADER_FROM_LAKE] !== undefined) continue;
      const row = rawRow(record, part.state.log);
      const folder = folderOf('raw', row.date, row.gateway);
      const list = folders.get(folder);
      if (list === undefined) folders.set(folder, [row]);
      else list.push(row);
    }
    const { parquet } = this.lake;
    for (const list of folders.values()) {
      const { date, gateway } = list[0] as RawRow; // Made with one.
      await this.put(part, partition, date, gateway, await parquet.writeRaw(list));
      this.writtenRows += list.length;
    }
  }

  private async writeReadings(
    part: Part,
    partition: number,
    records: StoredRecord[],
  ): Promise<void> {
    // Where nothing is replaced DuckDB takes records apart by itself; the others are looked at here.
    const isSimple =
      this.zone === 'readings' && part.state.foreign !== true && !records.some(replaces);
    const plain: StoredRecord[] = [];
    const others: StoredRecord[] = [];
    for (const record of records) (isSimple && isPlain(record.value) ? plain : others).push(record);
    const files =
      (await this.files(part, partition, others, plain)) ??
      (await this.files(part, partition, records, [])) ??
      [];
    await this.lake.using(
      files.map(({ path }) => path),
      async () => {
        for (const { date, gateway, path, rows } of files) {
          await this.put(part, partition, date, gateway, path);
          this.writtenRows += rows;
        }
      },
    );
  }

  private async files(
    part: Part,
    partition: number,
    records: StoredRecord[],
    plain: StoredRecord[],
  ): Promise<WrittenFile[] | undefined> {
    const { log } = part.state;
    const isResults = this.zone === 'results';
    const rows = new Rows();
    for (const { value, offset, headers } of records) {
      // What is no such record, the store stage reports.
      const batch = readingsOf(value);
      if (batch === undefined) continue;
      const isAgain = headers[HEADER_AGAIN] !== undefined;
      const isKnown = isAgain || part.state.foreign === true;
      // Results keep all their revisions; what a rebuild says again, the lake has.
      if (isResults && isAgain) continue;
      if (!isResults) rows.replace(batch, isKnown);
      rows.add(readingRows(batch, { log, partition, offset }, isResults));
    }
    for (const [folder, addresses] of rows.dead)
      this.rewrittenFiles += await rewrite(this.lake, part, folder, addresses);
    return await this.lake.parquet.writeReadings(
      isResults ? 'results' : 'readings',
      rows.list(),
      plain.length === 0 ? undefined : { log, partition, records: plain },
    );
  }
}
