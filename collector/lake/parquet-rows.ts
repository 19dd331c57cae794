/**
 * Rows of readings and results on their way into DuckDB: staged narrow, since each value costs a call, and joined to
 * what they share as a file is written.
 */
import { isTurn, nextTurn } from '../../shared/env/turns.ts';
import type { DuckDBConnection } from '../duckdb/database.ts';
import { nanosOf } from '../duckdb/nanos.ts';
import type { RawRow, ReadingRow, RecordFacts } from './rows.ts';

/** Rows that are replaced: those of an identity, and only those of a time where one is named. */
export interface Dead {
  epoch: string;
  sequence: number;
  index: number;
  timeNs: bigint | undefined;
}

const micros = (ms: number): bigint => BigInt(Math.round(ms * 1000));

type Appender = Awaited<ReturnType<DuckDBConnection['createAppender']>>;

function appendOrigin(appender: Appender, row: { log: string; partition: number; offset: number }) {
  appender.appendVarchar(row.log);
  appender.appendInteger(row.partition);
  appender.appendBigInt(BigInt(row.offset));
}

export function appendRaw(appender: Appender, row: RawRow): void {
  appender.appendVarchar(row.gateway);
  appender.appendVarchar(row.epoch);
  appender.appendInteger(row.kind);
  appender.appendBigInt(BigInt(row.firstSequence));
  appender.appendBigInt(BigInt(row.count));
  appender.appendBigInt(micros(row.arrivedMs));
  appender.appendBlob(row.frame);
  appender.appendVarchar(JSON.stringify(row.headers));
  appendOrigin(appender, row);
  appender.endRow();
}

/** Fields by type, as JSON; undefined for a type that has none. A number that is none cannot be in a reading. */
function byType(fields: Record<string, unknown>): (string | undefined)[] {
  const parts: (Record<string, unknown> | undefined)[] = [undefined, undefined, undefined];
  for (const name in fields) {
    const value = fields[name];
    const at = typeof value === 'number' ? 0 : typeof value === 'string' ? 1 : 2;
    (parts[at] ??= {})[name] = value;
  }
  return parts.map((part) => (part === undefined ? undefined : JSON.stringify(part)));
}

/**
 * Rows are staged narrow, since each value costs a call: what records and series share stands once, in tables of its own,
 * and is joined to them as the file is written.
 */
export const STAGED = [
  'CREATE OR REPLACE TEMP TABLE records (record INTEGER, gateway VARCHAR, epoch VARCHAR, arrived BIGINT, log VARCHAR, log_partition INTEGER, log_offset BIGINT, revision BIGINT)',
  'CREATE OR REPLACE TEMP TABLE named (name INTEGER, measurement VARCHAR, series VARCHAR, tags VARCHAR)',
  'CREATE OR REPLACE TEMP TABLE rows (record INTEGER, name INTEGER, sequence BIGINT, "index" INTEGER, time_ns BIGINT, late BOOLEAN, removed BOOLEAN, fields VARCHAR, texts VARCHAR, bools VARCHAR)',
];

const mapOf = (name: string, value: string): string =>
  `from_json(coalesce(${name}, '{}'), '"MAP(VARCHAR,${value})"') AS ${name}`;
export const instantOf = (sql: string, name: string): string =>
  `CAST(make_timestamp(${sql}) AS TIMESTAMPTZ) AS ${name}`;

export const READING_COLUMNS = [
  'gateway',
  'epoch',
  'sequence',
  '"index"',
  instantOf('time_ns // 1000', 'time'),
  'time_ns',
  instantOf('arrived', 'arrived'),
  'late',
  'measurement',
  'series',
  'tags',
  mapOf('fields', 'DOUBLE'),
  mapOf('texts', 'VARCHAR'),
  mapOf('bools', 'BOOLEAN'),
  'log',
  'log_partition',
  'log_offset',
];

export const JOINED = `rows JOIN records USING (record) JOIN (SELECT name, measurement, series, ${mapOf('tags', 'VARCHAR')} FROM named) USING (name)`;

export const DATE = 'CAST(CAST(make_timestamp(time_ns // 1000) AS DATE) AS VARCHAR) AS date';

export async function stageRows(
  connection: DuckDBConnection,
  rows: readonly ReadingRow[],
): Promise<void> {
  const [records, named, appender] = [
    await connection.createAppender('records'),
    await connection.createAppender('named'),
    await connection.createAppender('rows'),
  ];
  const recordNumbers = new Map<RecordFacts, number>();
  const names = new Map<string, number>();
  for (const [at, { record, reading, series, removed }] of rows.entries()) {
    let number = recordNumbers.get(record);
    if (number === undefined) {
      recordNumbers.set(record, (number = recordNumbers.size));
      records.appendInteger(number);
      records.appendVarchar(record.gateway);
      records.appendVarchar(record.epoch);
      records.appendBigInt(micros(record.arrivedMs));
      appendOrigin(records, record);
      records.appendBigInt(BigInt(record.revision));
      records.endRow();
    }
    let name = names.get(series);
    if (name === undefined) {
      names.set(series, (name = names.size));
      named.appendInteger(name);
      named.appendVarchar(reading.measurement);
      named.appendVarchar(series);
      named.appendVarchar(JSON.stringify(reading.tags));
      named.endRow();
    }
    appender.appendInteger(number);
    appender.appendInteger(name);
    appender.appendBigInt(BigInt(reading.sequence));
    appender.appendInteger(reading.index);
    appender.appendBigInt(nanosOf(reading.timeMs, reading.ns));
    appender.appendBoolean(reading.late === true);
    appender.appendBoolean(removed);
    for (const part of byType(reading.fields))
      if (part === undefined) appender.appendNull();
      else appender.appendVarchar(part);
    appender.endRow();
    if (isTurn(at)) await nextTurn();
  }
  for (const each of [records, named, appender]) each.closeSync();
}

const identityIn = (dead: string): string =>
  `file.epoch = ${dead}.epoch AND file.sequence = ${dead}.sequence AND file."index" = ${dead}."index"`;

/** Of a relation, the rows that are `dead`: each once. */
export const deadOf = (relation: string): string =>
  `${relation} AS file JOIN (SELECT DISTINCT * FROM dead) AS dead ON ${identityIn('dead')} AND (dead.time_ns IS NULL OR file.time_ns = dead.time_ns)`;

/**
 * And those that are not. In two joins: with an OR in one of this kind DuckDB compares each row with each that is dead, which takes
 * hours where both are many.
 */
export const aliveOf = (relation: string): string =>
  `${relation} AS file ANTI JOIN (FROM dead WHERE time_ns IS NULL) AS whole ON ${identityIn('whole')} ANTI JOIN (FROM dead WHERE time_ns IS NOT NULL) AS timed ON ${identityIn('timed')} AND file.time_ns = timed.time_ns`;

/** The table `dead`, for joins. */
export async function stageDead(
  connection: DuckDBConnection,
  dead: readonly Dead[],
): Promise<void> {
  await connection.run(
    'CREATE OR REPLACE TEMP TABLE dead (epoch VARCHAR, sequence BIGINT, "index" INTEGER, time_ns BIGINT)',
  );
  const appender = await connection.createAppender('dead');
  for (const [place, { epoch, sequence, index, timeNs: at }] of dead.entries()) {
    appender.appendVarchar(epoch);
    appender.appendBigInt(BigInt(sequence));
    appender.appendInteger(index);
    if (at === undefined) appender.appendNull();
    else appender.appendBigInt(at);
    appender.endRow();
    if (isTurn(place)) await nextTurn();
  }
  appender.closeSync();
}
