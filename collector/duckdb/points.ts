/**
 * Points as every stage can say them, and the digest by which stages are compared: a point is one field of a reading.
 *
 * A digest is the sum of its points' hashes modulo 2^64: independent of their order, of what was there in between, and of
 * how often it was rewritten. DuckDB's own 64-bit hash, mixed once more, is quick (24 million points a second of a core) and
 * good against accident; it is never kept, so another version of DuckDB may have another one. It is no seal against somebody
 * who wants to deceive.
 */
import { chunksOf, quote, type DuckDBConnection } from './database.ts';

/** Sequences that are summed together before single readings are looked at. */
export const BLOCK = 1024;

/** Columns of a relation of points; booleans are 0 and 1: the field's name tells them from numbers. */
const COLUMNS = 'gateway, epoch, sequence, idx, time_ns, series, field, num, txt';
const DIGEST = `CAST(sum(hash(hash(${COLUMNS}))) % 18446744073709551616 AS UBIGINT)`;

export type Level = 'block' | 'reading';

export interface PointSum {
  gateway: string;
  epoch: string;
  /** First sequence of the block, or the reading's own. */
  sequence: number;
  index: number;
  points: number;
  digest: bigint;
  /** A field is there more than once: the reading is doubled. */
  isTwice: boolean;
}

/** Of a relation of points with `COLUMNS`. */
export function sumsSql(relation: string, level: Level): string {
  const place =
    level === 'block'
      ? `(sequence // ${BLOCK}) * ${BLOCK} AS sequence, 0 AS idx, false AS twice`
      : 'sequence, idx, count(*) > count(DISTINCT field) AS twice';
  const by = level === 'block' ? `sequence // ${BLOCK}` : 'sequence, idx';
  return `SELECT gateway, epoch, ${place}, count(*) AS points, ${DIGEST} AS digest FROM (${relation}) GROUP BY gateway, epoch, ${by}`;
}

/** Rows of `sumsSql`, which may be many: they come as others have their turns between. */
export async function sumsOf(connection: DuckDBConnection, sql: string): Promise<PointSum[]> {
  const sums: PointSum[] = [];
  for await (const rows of chunksOf(connection, sql))
    for (const [gateway, epoch, sequence, index, twice, points, digest] of rows)
      sums.push({
        gateway: String(gateway),
        epoch: String(epoch),
        sequence: Number(sequence),
        index: Number(index),
        points: Number(points),
        digest: digest as bigint, // A UBIGINT column.
        isTwice: twice === true,
      });
  return sums;
}

/** Sequences that are asked for: whole blocks, or one by one. */
export interface Asked {
  gateway: string;
  epoch: string;
  sequence: number;
}

/** The table `asked`, of this connection. */
export async function stageAsked(
  connection: DuckDBConnection,
  asked: readonly Asked[],
): Promise<void> {
  await connection.run(
    'CREATE OR REPLACE TEMP TABLE asked (gateway VARCHAR, epoch VARCHAR, sequence BIGINT)',
  );
  const appender = await connection.createAppender('asked');
  const seen = new Set<string>();
  for (const { gateway, epoch, sequence } of asked) {
    const name = `${gateway}/${epoch}/${sequence}`;
    if (seen.has(name)) continue;
    seen.add(name);
    appender.appendVarchar(gateway);
    appender.appendVarchar(epoch);
    appender.appendBigInt(BigInt(sequence));
    appender.endRow();
  }
  appender.closeSync();
}

/** Of a relation, what was asked for; `by`: what the asked sequences stand for. */
export function onlyAsked(relation: string, by: Level): string {
  const sequence = by === 'block' ? `(p.sequence // ${BLOCK}) * ${BLOCK}` : 'p.sequence';
  return `SELECT p.* FROM (${relation}) AS p SEMI JOIN asked ON p.gateway = asked.gateway AND p.epoch = asked.epoch AND ${sequence} = asked.sequence`;
}

/** Points of a relation of readings as the lake has them. */
export function pointsOfReadings(readings: string): string {
  const of = (map: string, num: string, txt: string): string =>
    `SELECT gateway, epoch, sequence, "index" AS idx, time_ns, series, unnest(map_keys(${map})) AS field, ${num} AS num, ${txt} AS txt FROM (${readings})`;
  const none = (type: string): string => `CAST(NULL AS ${type})`;
  return [
    of('fields', 'unnest(map_values(fields))', none('VARCHAR')),
    of('texts', none('DOUBLE'), 'unnest(map_values(texts))'),
    of('bools', 'CAST(unnest(map_values(bools)) AS DOUBLE)', none('VARCHAR')),
  ].join(' UNION ALL ');
}

/** Epoch nanoseconds from and up to without, as SQL. */
export const between = (column: string, fromMs: number, toMs: number): string =>
  `${column} >= ${BigInt(fromMs) * 1_000_000n} AND ${column} < ${BigInt(toMs) * 1_000_000n}`;

export const isOf = (column: string, text: string): string => `${column} = ${quote(text)}`;
