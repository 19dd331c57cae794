/** Rows of the lake's Parquet files, one by one, as DuckDB reads them: `engine.ts` says for whom. */
import { HeadwaterError, messageOf } from '../../shared/errors.ts';
import type { FieldValue } from '../../shared/model/reading.ts';
import { rowsOf, type DuckDBConnection } from '../duckdb/database.ts';
import { leave } from '../duckdb/interrupt.ts';
import { timeOf } from '../duckdb/nanos.ts';
import type { FileRows, LakeFrame, LakeReading, LakeResult } from './engine.ts';
import { newest, select } from './lake-sql.ts';
import { entriesOf, objectOf } from './scan.ts';

export class ParquetRows implements FileRows {
  private readonly connect: () => Promise<DuckDBConnection>;

  constructor(connect: () => Promise<DuckDBConnection>) {
    this.connect = connect;
  }

  private async *rows(sql: string): AsyncGenerator<unknown[]> {
    const connection = await this.connect();
    try {
      await connection.run("SET TimeZone = 'UTC'");
      yield* rowsOf(connection, sql);
    } catch (error) {
      // DuckDB's own, of a disk that fails or a file that was damaged since it was looked at.
      const text = `the lake: reading rows: ${messageOf(error).split('\n')[0] ?? ''}`;
      throw new HeadwaterError('LAKE_UNAVAILABLE', text, { cause: error });
    } finally {
      await leave(connection);
    }
  }

  async newestRevision(paths: readonly string[]): Promise<number> {
    const sql = `SELECT max(revision) FROM (${select('results', paths)})`;
    for await (const [revision] of this.rows(sql)) return Number(revision ?? 0);
    return 0;
  }

  async *readings(
    paths: readonly string[],
    fromMs: number,
    toMs: number,
  ): AsyncGenerator<LakeReading> {
    const tagsOf = new Map<string, Record<string, string>>();
    const span = `time_ns >= ${BigInt(fromMs) * 1_000_000n} AND time_ns < ${BigInt(toMs) * 1_000_000n}`;
    const sql = `SELECT series, measurement, tags, fields, time_ns, gateway, epoch, sequence, "index", log, log_partition, log_offset FROM (${select('readings', paths)}) WHERE ${span}`;
    for await (const row of this.rows(sql)) {
      const [series, measurement, tags, fields, time, ...rest] = row;
      const [log, partition, offset] = rest.splice(4);
      const name = String(series);
      let own = tagsOf.get(name);
      if (own === undefined) tagsOf.set(name, (own = objectOf<string>(tags)));
      yield {
        series: name,
        measurement: String(measurement),
        tags: own,
        fields: objectOf<FieldValue>(fields),
        ...timeOf(time as bigint),
        id: rest.map(String).join('/'),
        origin: { log: String(log), partition: Number(partition), offset: Number(offset) },
      };
    }
  }

  async *frames(paths: readonly string[]): AsyncGenerator<LakeFrame> {
    const sql = `SELECT gateway, epoch, kind, first_sequence, "count", frame, headers FROM (${select('raw', paths)}) WHERE kind >= 0 ORDER BY arrived, log, log_partition, log_offset`;
    for await (const [gateway, epoch, kind, first, count, frame, headers] of this.rows(sql))
      yield {
        gateway: String(gateway),
        epoch: String(epoch),
        kind: Number(kind),
        firstSequence: Number(first),
        count: Number(count),
        frame: Buffer.from((frame as { bytes: Uint8Array }).bytes),
        headers: objectOf<string>(headers),
      };
  }

  async *results(paths: readonly string[]): AsyncGenerator<LakeResult> {
    const sql = `SELECT gateway, epoch, sequence, "index", time_ns, measurement, tags, fields, texts, bools, revision FROM (${newest(select('results', paths))}) ORDER BY gateway, epoch, sequence`;
    for await (const row of this.rows(sql)) {
      const [gateway, epoch, sequence, index, time, measurement, tags, ...values] = row;
      yield {
        gateway: String(gateway),
        epoch: String(epoch),
        revision: Number(values[3]),
        reading: {
          measurement: String(measurement),
          tags: objectOf<string>(tags),
          fields: Object.fromEntries(
            values.slice(0, 3).flatMap((part) => entriesOf<FieldValue>(part)),
          ),
          sequence: Number(sequence),
          index: Number(index),
          ...timeOf(time as bigint),
        },
      };
    }
  }
}
