/** The files that the suite of the BatchEngine contract asks for, as a lake has them. */
import { mkdir } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { BATCH_DATA, type BatchFiles } from '../contracts/suite/batch-engine.ts';
import { openDuckDb, quote } from '../collector/duckdb/database.ts';
import { COLUMNS, fileName, folderOf } from '../collector/lake/layout.ts';

const DATE = '2026-05-01';
const MEMORY_BYTES = 64 << 20;

const row = (sequence: string, measurement: string): string =>
  `SELECT 'gw' AS gateway, 'e' AS epoch, ${sequence} AS sequence, 0::INTEGER AS "index",
    TIMESTAMPTZ '${DATE} 12:00:00+00' + to_seconds(${sequence}) AS time, ${sequence} AS time_ns,
    ${measurement} AS measurement, ${measurement} AS series, MAP {'id': 'a'} AS tags,
    MAP {'value': (${sequence})::DOUBLE} AS fields`;

const RESULTS = [
  [1, 'kept', 1, false],
  [1, 'kept', 2, false],
  [2, 'gone', 1, false],
  [2, 'gone', 2, true],
] as const;

/** Below `folder`, under the keys of a lake. */
export async function writeBatchData(folder: string): Promise<BatchFiles> {
  const fileOf = (zone: 'readings' | 'results'): string =>
    join(folder, `${folderOf(zone, DATE, 'gw')}${fileName('0a0b0c0d', 0, 0, 1000)}`);
  const [readings, results] = [fileOf('readings'), fileOf('results')];
  for (const file of [readings, results]) await mkdir(dirname(file), { recursive: true });
  const revisions = RESULTS.map(
    ([sequence, name, revision, removed]) =>
      `SELECT *, ${revision}::BIGINT AS revision, ${removed} AS removed, ${revision}::BIGINT AS log_offset FROM (${row(`${sequence}::BIGINT`, quote(name))})`,
  );
  const duckdb = await openDuckDb(':memory:', { memoryBytes: MEMORY_BYTES, files: true });
  const connection = await duckdb.connect();
  try {
    await connection.run(
      `COPY (${row('i', "'m'")} FROM range(1, ${BATCH_DATA.readings + 1}) AS each(i)) TO ${quote(readings)} (FORMAT parquet)`,
    );
    await connection.run(
      `COPY (${revisions.join(' UNION ALL ')}) TO ${quote(results)} (FORMAT parquet)`,
    );
  } finally {
    connection.closeSync();
    duckdb.closeSync();
  }
  return { files: { raw: [], readings: [readings], results: [results] }, columns: COLUMNS };
}
