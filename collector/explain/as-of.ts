/**
 * What was known at a moment: points of readings whose frame had arrived by then, as they were decoded and placed then, and
 * results in the revision of then. From the lake's rows, what it keeps of rows that were replaced (`lake/past.ts`), and what
 * the log has and the lake has not yet.
 *
 * A reading is of the version whose end is the first after that moment; one without an end is so now. Points come by series
 * in order of time. DuckDB sorts within the lake's memory, and on disk beyond it.
 */
import { HeadwaterError } from '../../shared/errors.ts';
import { readingsOf } from '../../shared/model/readings-record.ts';
import type { FieldValue } from '../../shared/model/reading.ts';
import { interruption } from '../duckdb/interrupt.ts';
import { chunksOf, quote, type DuckDBConnection } from '../duckdb/database.ts';
import { between, pointsOfReadings } from '../duckdb/points.ts';
import type { Lake } from '../lake/lake.ts';
import { dateOf, type FileFilter } from '../lake/layout.ts';
import { pathList } from '../lake/lake-sql.ts';
import { PAST_COLUMNS, stageReplaced } from '../lake/parquet-past.ts';
import { JOINED, READING_COLUMNS, STAGED, stageRows } from '../lake/parquet-rows.ts';
import { pastOf } from '../lake/past.ts';
import { Rows } from '../lake/replace.ts';
import { readingRows, type ReadingRow } from '../lake/rows.ts';
import { objectOf } from '../lake/scan.ts';
import { HEADER_AGAIN, TOPIC_READINGS, TOPIC_RESULTS, type Log } from '../log/log.ts';
import { HEADER_SAID } from '../log/topics.ts';
import { pass } from '../store/session.ts';
import type { SeriesPoints, StoreQuery } from '../store/store.ts';
import { lakeHas, scan } from './tail.ts';

/** Of the log behind the lake. */
const TAIL_BYTES_MAX = 256 * 1024 * 1024;
const TAIL_MS = 20_000;
const TIMEOUT_MS = 120_000;
const PART_POINTS = 5000;

export interface AsOfSources {
  lake: Lake;
  log: Log;
  nowMs: () => number;
}

/** What the answer cannot be sure of, in sentences; none: it is exact. */
export type Doubts = string[];

interface Tail {
  rows: Rows;
  results: ReadingRow[];
  doubts: Doubts;
}

/** What the log has and the lake has not yet. A row's `revision` is when it was found out. */
async function tailOf({ log, nowMs }: AsOfSources, signal: AbortSignal | undefined): Promise<Tail> {
  const tail: Tail = { rows: new Rows(), results: [], doubts: [] };
  const limits = { bytesMax: TAIL_BYTES_MAX, timeoutMs: TAIL_MS, signal };
  const now = nowMs();
  const readings = await scan(
    log,
    TOPIC_READINGS,
    await lakeHas(log, 'readings'),
    limits,
    (record) => {
      const batch = readingsOf(record.value);
      if (batch === undefined) return undefined;
      const isAgain = record.headers[HEADER_AGAIN] !== undefined;
      const said = record.headers[HEADER_SAID];
      const saidMs = said === undefined ? undefined : Number(said);
      // What is said again without a word since when, a rebuild says: it had been known, and the lake has it.
      const revision = saidMs ?? (isAgain ? now : batch.arrivedMs);
      tail.rows.replace(batch, isAgain, saidMs ?? now);
      const origin = { log: 'tail', partition: record.partition, offset: record.offset };
      tail.rows.add(readingRows({ ...batch, revision }, origin, false));
      return undefined;
    },
  );
  const results = await scan(
    log,
    TOPIC_RESULTS,
    await lakeHas(log, 'results'),
    limits,
    (record) => {
      const batch = readingsOf(record.value);
      if (batch === undefined || record.headers[HEADER_AGAIN] !== undefined) return undefined;
      const origin = { log: 'tail', partition: record.partition, offset: record.offset };
      tail.results.push(...readingRows(batch, origin, true));
      return undefined;
    },
  );
  for (const unread of [readings, results]) if (unread !== undefined) tail.doubts.push(unread);
  return tail;
}

const IDENTITY = 'gateway, epoch, sequence, "index"';
const COLUMNS = PAST_COLUMNS.join(', ');
const NEWEST = `QUALIFY row_number() OVER (PARTITION BY ${IDENTITY} ORDER BY revision DESC, log_offset DESC, removed) = 1`;

function whereOf({ measurement, tags, fromMs, toMs }: StoreQuery): string {
  const conditions = ['true'];
  if (measurement !== undefined) conditions.push(`measurement = ${quote(measurement)}`);
  for (const [name, value] of Object.entries(tags ?? {}))
    conditions.push(`tags[${quote(name)}] = ${quote(value)}`);
  if (fromMs !== undefined || toMs !== undefined)
    conditions.push(between('time_ns', Math.ceil(fromMs ?? -8.64e15), Math.ceil(toMs ?? 8.64e15)));
  return conditions.join(' AND ');
}

/** Tables and views of rows that were in force at `atMs`; gives what is not sure. */
async function stage(
  connection: DuckDBConnection,
  { lake }: AsOfSources,
  { rows, results }: Tail,
  atMs: number,
  where: string,
): Promise<Doubts> {
  const staged = async (name: string, list: readonly ReadingRow[]): Promise<void> => {
    for (const statement of STAGED) await connection.run(statement);
    await stageRows(connection, list);
    await connection.run(
      `CREATE OR REPLACE TEMP TABLE ${name} AS SELECT ${READING_COLUMNS.join(', ')}, revision, removed FROM ${JOINED}`,
    );
  };
  await staged('tail_readings', rows.list());
  await staged('tail_results', results);
  await staged(
    'tail_past',
    // What was said later is no version of then.
    rows.past
      .filter(({ row }) => row.record.revision <= atMs)
      .map(({ row, endedMs }) => ({
        ...row,
        record: { ...row.record, revision: Math.round(endedMs) },
      })),
  );
  await stageReplaced(
    connection,
    [...rows.killed].flatMap(([gateway, { dead }]) => dead.map((each) => ({ ...each, gateway }))),
  );
  // After the files are known: what was replaced meanwhile is kept before it is replaced.
  const { paths, damaged, missing, sinceMs } = await pastOf(lake, atMs);
  const kept =
    paths.length === 0
      ? ''
      : `SELECT ${COLUMNS}, epoch_ms("until") AS until_ms, absent FROM read_parquet(${pathList(paths)}, union_by_name = true, hive_partitioning = false) UNION ALL `;
  await connection.run(
    `CREATE OR REPLACE TEMP VIEW ended AS ${kept}SELECT ${COLUMNS}, revision AS until_ms, false AS absent FROM tail_past`,
  );
  await connection.run(
    `CREATE OR REPLACE TEMP TABLE versions AS SELECT DISTINCT ON (${IDENTITY}, time_ns, series) * FROM (SELECT * FROM ended WHERE until_ms > ${atMs} QUALIFY until_ms = min(until_ms) OVER (PARTITION BY ${IDENTITY})) ORDER BY absent`,
  );
  const arrived = `epoch_ms(arrived) <= ${atMs}`;
  const isNot = (table: string, more = ''): string =>
    `NOT EXISTS (SELECT 1 FROM ${table} AS o WHERE o.gateway = r.gateway AND o.epoch = r.epoch AND o.sequence = r.sequence AND o."index" = r."index"${more})`;
  await connection.run(
    `CREATE OR REPLACE TEMP VIEW known AS
     SELECT ${COLUMNS} FROM readings AS r WHERE ${where} AND ${arrived} AND ${isNot('versions')} AND ${isNot('replaced', ` AND o.until_ms <= ${atMs} AND (o.only_ns IS NULL OR o.only_ns = r.time_ns)`)} AND ${isNot('tail_readings', ` AND o.revision <= ${atMs}`)}
     UNION ALL SELECT ${COLUMNS} FROM versions WHERE ${where} AND ${arrived} AND NOT absent
     UNION ALL SELECT ${COLUMNS} FROM tail_readings AS r WHERE ${where} AND ${arrived} AND revision <= ${atMs} AND ${isNot('versions')}
     UNION ALL SELECT ${COLUMNS} FROM (SELECT * FROM (SELECT ${COLUMNS}, revision, removed FROM results UNION ALL SELECT * FROM tail_results) WHERE ${where} AND revision <= ${atMs} ${NEWEST}) WHERE NOT removed`,
  );
  const doubts: Doubts = [];
  if (sinceMs === undefined || atMs < sinceMs)
    doubts.push(
      sinceMs === undefined
        ? 'nothing says since when this lake keeps what was replaced: readings that moved or went are answered as they are now'
        : `this lake keeps what was replaced since ${new Date(sinceMs).toISOString()}: readings that moved or went before are answered as they were then`,
    );
  for (const key of damaged) doubts.push(`the lake: ${key} is damaged: what it kept is not known`);
  for (const key of missing) doubts.push(`the lake: ${key} is missing: what it kept is not known`);
  return doubts;
}

const kindOf = (field: string): 'bool' | 'other' => (field.endsWith('_bool') ? 'bool' : 'other');

function valueOf(field: string, num: unknown, txt: unknown): FieldValue {
  if (typeof txt === 'string') return txt;
  return kindOf(field) === 'bool' ? Number(num) !== 0 : Number(num);
}

async function read(
  connection: DuckDBConnection,
  field: string | undefined,
  give: (part: SeriesPoints) => Promise<void>,
): Promise<void> {
  const names = new Map<string, { measurement: string; tags: Record<string, string> }>();
  const list = 'SELECT series, any_value(measurement), any_value(tags) FROM known GROUP BY series';
  for await (const rows of chunksOf(connection, list, pass))
    for (const [series, measurement, tags] of rows)
      names.set(String(series), {
        measurement: String(measurement),
        tags: objectOf<string>(tags),
      });
  const only = field === undefined ? '' : ` WHERE field = ${quote(field)}`;
  const points = `SELECT series, field, time_ns // 1000000, num, txt FROM (${pointsOfReadings('SELECT * FROM known')})${only} ORDER BY series, field, time_ns, gateway, epoch, sequence, idx`;
  let part: SeriesPoints | undefined;
  let at = '';
  for await (const rows of chunksOf(connection, points, pass)) {
    for (const [series, name, time, num, txt] of rows) {
      const place = `${String(series)} ${String(name)}`;
      if (part === undefined || place !== at || part.points.length >= PART_POINTS) {
        if (part !== undefined) await give(part);
        const { measurement = '', tags = {} } = names.get(String(series)) ?? {};
        part = { measurement, field: String(name), tags, points: [] };
        at = place;
      }
      part.points.push([Number(time), valueOf(String(name), num, txt)]);
    }
  }
  if (part !== undefined) await give(part);
}

/**
 * Gives the points of a query as they were known at `atMs`, in order of series and time; resolves with what is not sure,
 * which is told to `told` before the first part. Throws LAKE_UNAVAILABLE, LOG_UNAVAILABLE, QUERY_LIMIT.
 */
export async function readAsOf(
  sources: AsOfSources,
  query: StoreQuery,
  atMs: number,
  told: (doubts: Doubts) => void,
  give: (part: SeriesPoints) => Promise<void>,
): Promise<void> {
  const { signal, fromMs, toMs, tags } = query;
  const tail = await tailOf(sources, signal);
  const gateway = tags?.['gateway'];
  const filter: FileFilter = {
    zones: ['readings', 'results'],
    allRevisions: true,
    trustMs: 600_000,
    ...(fromMs === undefined ? {} : { from: dateOf(fromMs) }),
    ...(toMs === undefined ? {} : { to: dateOf(toMs) }),
    ...(gateway === undefined ? {} : { readingsOf: gateway }),
  };
  let hasBegun = false;
  await sources.lake.query(filter, async (connection) => {
    // A part was given: it cannot be asked once more.
    if (hasBegun)
      throw new HeadwaterError(
        'LAKE_UNAVAILABLE',
        'the lake: a file was replaced while it was read: ask again',
      );
    const { begin, end } = interruption(connection);
    let isLate = false;
    const timer = setTimeout(() => {
      isLate = true;
      begin();
    }, TIMEOUT_MS);
    signal?.addEventListener('abort', begin, { once: true });
    if (signal?.aborted === true) begin();
    try {
      const doubts = await stage(connection, sources, tail, atMs, whereOf(query));
      told([...tail.doubts, ...doubts]);
      await read(connection, query.field, async (part) => {
        hasBegun = true;
        await give(part);
      });
    } catch (error) {
      if (!isLate) throw error;
      throw new HeadwaterError(
        'QUERY_LIMIT',
        `the query takes longer than ${TIMEOUT_MS / 1000} s: ask for a shorter time or fewer series`,
        { cause: error },
      );
    } finally {
      clearTimeout(timer);
      signal?.removeEventListener('abort', begin);
      end();
    }
  });
}
