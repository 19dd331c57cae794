/** Points of the embedded store's file by whose they are. */
import { rowsOf, type DuckDBConnection } from '../duckdb/database.ts';
import { identityName } from './changes.ts';
import type { Catalog } from './duckdb-catalog.ts';
import type { Change } from './store.ts';

/** A point as the file has it. */
export interface Row {
  id: bigint;
  series: number;
  time: bigint;
  value: number | string;
}

/** Rows of these identities by `identityName`, in one pass, however many there are; some 2048 in one turn of the event loop. */
export async function findRows(
  writer: DuckDBConnection,
  catalog: Catalog,
  changes: readonly Change[],
): Promise<Map<string, Row[]>> {
  await writer.run('CREATE OR REPLACE TEMP TABLE again (o INTEGER, s BIGINT, i INTEGER)');
  const appender = await writer.createAppender('again');
  const origins = new Map<number, { gateway: string; epoch: string }>();
  for (const { identity } of changes) {
    const { gateway, epoch, sequence, index } = identity;
    const { id } = catalog.origin(gateway, epoch);
    origins.set(id, { gateway, epoch });
    appender.appendInteger(id);
    appender.appendBigInt(BigInt(sequence));
    appender.appendInteger(index);
    appender.endRow();
  }
  appender.closeSync();
  const found = new Map<string, Row[]>();
  const sql =
    'SELECT p.rowid, series, time, num, txt, origin, seq, idx FROM points AS p JOIN again ON origin = o AND seq = s AND idx = i';
  for await (const [id, series, time, num, txt, origin, seq, index] of rowsOf(writer, sql)) {
    const { gateway = '', epoch = '' } = origins.get(Number(origin)) ?? {};
    const name = identityName({ gateway, epoch, sequence: Number(seq), index: Number(index) });
    const row: Row = {
      id: id as bigint,
      series: Number(series),
      time: time as bigint,
      value: typeof txt === 'string' ? txt : Number(num),
    };
    const rows = found.get(name);
    if (rows === undefined) found.set(name, [row]);
    else rows.push(row);
  }
  return found;
}
