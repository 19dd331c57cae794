/**
 * Rows of readings and results by their series and time, or by their identity: in the lake, in what it keeps of the past, in
 * what the log has and the lake has not, and at last in the embedded store, which knows whose its points are.
 */
import { readingsOf } from '../../shared/model/readings-record.ts';
import type { FieldValue, Reading, ReadingBatch } from '../../shared/model/reading.ts';
import { quote, type DuckDBConnection } from '../duckdb/database.ts';
import { between } from '../duckdb/points.ts';
import { timeOf } from '../duckdb/nanos.ts';
import type { Lake } from '../lake/lake.ts';
import { dateOf, type LakeFile, type Zone } from '../lake/layout.ts';
import { pathList } from '../lake/lake-sql.ts';
import { pastOf } from '../lake/past.ts';
import { filesWith } from '../lake/replace.ts';
import { objectOf } from '../lake/scan.ts';
import { TOPIC_READINGS, TOPIC_RESULTS, type Log } from '../log/log.ts';
import { HEADER_SAID } from '../log/topics.ts';
import { answersSql, pass } from '../store/session.ts';
import type { Identity, TimeSeriesStore } from '../store/store.ts';
import { lakeHas, scan, type ScanLimits } from './tail.ts';

/** A file that was compared with its checksum so recently need not be again. */
const TRUST_MS = 600_000;
export const FOUND_MAX = 20;

/** A point as one sees it, or whose it is. */
export interface Asked {
  measurement?: string;
  field?: string;
  /** Some or all of the series' tags. */
  tags?: Record<string, string>;
  /** Epoch milliseconds. */
  timeMs?: number;
  identity?: Partial<Identity> & Pick<Identity, 'gateway' | 'epoch' | 'sequence'>;
}

export interface Row {
  identity: Identity;
  measurement: string;
  tags: Record<string, string>;
  fields: Record<string, FieldValue>;
  timeMs: number;
  ns: number;
  arrivedMs: number | undefined;
  late: boolean | undefined;
  /** Of results: which counts is the highest. */
  revision: number | undefined;
  /** The point was taken back in this revision. */
  isRemoved: boolean;
  /** It was so until then, epoch milliseconds. */
  untilMs: number | undefined;
  /** When the log said it, where that was after it arrived. */
  saidMs: number | undefined;
  where: {
    lake?: string;
    log?: { topic: string; partition: number; offset: number };
    store?: true;
  };
}

export interface RowSources {
  lake: Lake | undefined;
  log: Log;
  store: TimeSeriesStore | undefined;
}

const BASE =
  'gateway, epoch, sequence, "index", time_ns, epoch_us(arrived), late, measurement, tags, fields, texts, bools';

function rowOf(values: readonly unknown[], where: Row['where']): Row {
  const [gateway, epoch, sequence, index, at, arrived, late, measurement, tags, ...rest] = values;
  const [fields, texts, bools, revision, removed, until] = rest;
  return {
    identity: {
      gateway: String(gateway),
      epoch: String(epoch),
      sequence: Number(sequence),
      index: Number(index),
    },
    measurement: String(measurement),
    tags: objectOf<string>(tags),
    fields: {
      ...objectOf<number>(fields),
      ...objectOf<string>(texts),
      ...objectOf<boolean>(bools),
    },
    ...timeOf(at as bigint), // A BIGINT column.
    arrivedMs: Number(arrived) / 1000,
    late: late === true,
    revision: revision === null || revision === undefined ? undefined : Number(revision),
    isRemoved: removed === true,
    untilMs: until === null || until === undefined ? undefined : Number(until),
    saidMs: undefined,
    where,
  };
}

function conditions({ measurement, tags, timeMs, identity }: Asked): string {
  const list = ['true'];
  if (identity !== undefined) {
    const { gateway, epoch, sequence, index } = identity;
    list.push(`gateway = ${quote(gateway)}`, `epoch = ${quote(epoch)}`);
    list.push(`sequence = ${Math.floor(sequence)}`);
    if (index !== undefined) list.push(`"index" = ${Math.floor(index)}`);
  }
  if (measurement !== undefined) list.push(`measurement = ${quote(measurement)}`);
  if (timeMs !== undefined) list.push(between('time_ns', timeMs, timeMs + 1));
  for (const [name, value] of Object.entries(tags ?? {}))
    list.push(`tags[${quote(name)}] = ${quote(value)}`);
  return list.join(' AND ');
}

/** Works on local copies of some files of the lake. Begins again when they were merged or rewritten meanwhile. */
export async function onFiles<T>(
  lake: Lake,
  filesOf: () => Promise<LakeFile[]>,
  work: (connection: DuckDBConnection, paths: string[], keys: Map<string, string>) => Promise<T>,
): Promise<T> {
  return await lake.query({ zones: [] }, async (connection) => {
    const whole = await lake.whole(await filesOf(), TRUST_MS);
    const keys = new Map([...whole].map(([path, { key }]) => [path, key]));
    return await work(connection, [...keys.keys()], keys);
  });
}

export const rowsIn = async (connection: DuckDBConnection, sql: string): Promise<unknown[][]> =>
  await pass(async () => (await connection.runAndReadAll(sql)).getRows());

async function filesOf(lake: Lake, zone: Zone, asked: Asked): Promise<LakeFile[]> {
  const { identity, timeMs, tags } = asked;
  if (identity !== undefined && zone === 'readings') {
    const { gateway, epoch, sequence } = identity;
    const where = { spans: { [epoch]: [[sequence, sequence] as [number, number]] }, dates: [] };
    return await filesWith(lake, zone, gateway, where, () => false);
  }
  const day = timeMs === undefined ? {} : { from: dateOf(timeMs), to: dateOf(timeMs) };
  const gateway = identity?.gateway ?? (zone === 'readings' ? tags?.['gateway'] : undefined);
  return await lake.files(zone, { ...day, ...(gateway === undefined ? {} : { gateway }) });
}

async function inLake(lake: Lake, zone: Zone, asked: Asked): Promise<Row[]> {
  return await onFiles(
    lake,
    () => filesOf(lake, zone, asked),
    async (connection, paths, keys) => {
      if (paths.length === 0) return [];
      const more = zone === 'results' ? 'revision, removed' : 'NULL, false';
      const newest =
        zone === 'results'
          ? ' QUALIFY row_number() OVER (PARTITION BY gateway, epoch, sequence, "index" ORDER BY revision DESC, log_offset DESC, removed) = 1'
          : '';
      const sql = `SELECT ${BASE}, ${more}, NULL, filename FROM read_parquet(${pathList(paths)}, union_by_name = true, hive_partitioning = false, filename = true) WHERE ${conditions(asked)}${newest} LIMIT ${FOUND_MAX}`;
      return (await rowsIn(connection, sql)).map((values) =>
        rowOf(values, { lake: keys.get(String(values.at(-1))) ?? '' }),
      );
    },
  );
}

/** What was so once. */
export async function inPast(lake: Lake, asked: Asked): Promise<Row[]> {
  const { paths } = await pastOf(lake, -1);
  if (paths.length === 0) return [];
  return await lake.query({ zones: [] }, async (connection) => {
    const sql = `SELECT ${BASE}, NULL, absent, epoch_ms("until"), filename FROM read_parquet(${pathList(paths)}, union_by_name = true, hive_partitioning = false, filename = true) WHERE ${conditions(asked)} ORDER BY "until" LIMIT ${FOUND_MAX}`;
    return (await rowsIn(connection, sql)).map((values) => {
      const path = String(values.at(-1));
      return rowOf(values, { lake: path.slice(Math.max(0, path.lastIndexOf('_past/'))) });
    });
  });
}

function isAsked(asked: Asked, { gateway, epoch }: ReadingBatch, reading: Reading): boolean {
  const { identity, measurement, timeMs, tags } = asked;
  if (identity !== undefined) {
    const { index = reading.index } = identity;
    if (identity.gateway !== gateway || identity.epoch !== epoch) return false;
    if (identity.sequence !== reading.sequence || index !== reading.index) return false;
  }
  if (measurement !== undefined && measurement !== reading.measurement) return false;
  if (timeMs !== undefined && timeMs !== reading.timeMs) return false;
  return Object.entries(tags ?? {}).every(([name, value]) => reading.tags[name] === value);
}

/** A record that does not hold this need not be taken apart. */
function markOf({ identity, timeMs }: Asked): string {
  return identity === undefined ? `"time":${timeMs ?? ''}` : `"sequence":${identity.sequence}`;
}

async function inLog(
  { log, lake }: RowSources,
  topic: typeof TOPIC_READINGS | typeof TOPIC_RESULTS,
  asked: Asked,
  limits: ScanLimits,
): Promise<{ rows: Row[]; unread: string | undefined }> {
  const found = new Map<string, Row>();
  const mark = markOf(asked);
  const from = lake === undefined ? undefined : await lakeHas(log, topic);
  const unread = await scan(log, topic, from, limits, ({ value, partition, offset, headers }) => {
    if (!value.includes(mark)) return undefined;
    const batch = readingsOf(value);
    if (batch === undefined) return undefined;
    const { gateway, epoch, arrivedMs, revision, removed = [] } = batch;
    const said = headers[HEADER_SAID];
    const take = (reading: Reading, isRemoved: boolean): void => {
      if (!isAsked(asked, batch, reading)) return;
      const { measurement, tags, fields, sequence, index, timeMs, ns, late } = reading;
      found.set(`${gateway}/${epoch}/${sequence}/${index}`, {
        identity: { gateway, epoch, sequence, index },
        ...{ measurement, tags, fields, timeMs, ns, arrivedMs, revision, isRemoved },
        late: late === true,
        untilMs: undefined,
        saidMs: said === undefined ? undefined : Number(said),
        where: { log: { topic, partition, offset } },
      });
    };
    for (const reading of removed) take(reading, true);
    for (const reading of batch.readings) take(reading, false);
    return undefined;
  });
  return { rows: [...found.values()].slice(0, FOUND_MAX), unread };
}

/** Whose a point of the embedded store is. */
async function inStore(store: TimeSeriesStore, asked: Asked): Promise<Row[]> {
  const { measurement, field, tags, timeMs } = asked;
  if (!answersSql(store) || measurement === undefined || timeMs === undefined) return [];
  const wanted = new Map(
    (await store.known())
      .filter((series) => series.measurement === measurement)
      .filter((series) => field === undefined || series.field === field)
      .filter((series) => Object.entries(tags ?? {}).every(([k, v]) => series.tags[k] === v))
      .map((series) => [series.id, series]),
  );
  if (wanted.size === 0) return [];
  const session = await store.session({ timeoutMs: 10_000, signal: undefined });
  try {
    const sql = `SELECT series, time, num, txt, gateway, epoch, seq, idx FROM points JOIN origins ON origins.id = points.origin WHERE series IN (${[...wanted.keys()].join(',')}) AND ${between('time', timeMs, timeMs + 1)} LIMIT ${FOUND_MAX}`;
    return (await session.all(sql)).map(([id, time, num, txt, gateway, epoch, seq, idx]) => {
      const series = wanted.get(Number(id));
      const value = typeof txt === 'string' ? txt : Number(num);
      return {
        identity: {
          gateway: String(gateway),
          epoch: String(epoch),
          sequence: Number(seq),
          index: Number(idx),
        },
        measurement,
        tags: series?.tags ?? {},
        fields: { [series?.field ?? '']: series?.kind === 'bool' ? value !== 0 : value },
        timeMs,
        ns: Number((time as bigint) % 1_000_000n), // A BIGINT column.
        arrivedMs: undefined,
        late: undefined,
        revision: undefined,
        isRemoved: false,
        untilMs: undefined,
        saidMs: undefined,
        where: { store: true as const },
      };
    });
  } finally {
    await session.close();
  }
}

/**
 * What is there of a point; then what was. `doubts` gets a sentence for every place that was not looked through. A reading has
 * the same identity for ever: rows of one are versions of it.
 */
export async function findRows(
  sources: RowSources,
  asked: Asked,
  limits: ScanLimits,
  doubts: string[],
): Promise<Row[]> {
  const { lake, store } = sources;
  const isResult = asked.identity?.gateway.startsWith('~');
  const found: Row[] = [];
  if (lake !== undefined) {
    if (isResult !== true) found.push(...(await inLake(lake, 'readings', asked)));
    if (isResult !== false && (found.length === 0 || isResult === true))
      found.push(...(await inLake(lake, 'results', asked)));
  }
  if (found.length === 0)
    for (const topic of [TOPIC_READINGS, TOPIC_RESULTS] as const) {
      if (isResult !== undefined && isResult !== (topic === TOPIC_RESULTS)) continue;
      const { rows, unread } = await inLog(sources, topic, asked, limits);
      found.push(...rows);
      if (unread !== undefined) doubts.push(unread);
    }
  if (found.length === 0 && lake !== undefined)
    found.push(...(await inPast(lake, asked)).filter(({ isRemoved }) => !isRemoved));
  if (found.length === 0 && store !== undefined) found.push(...(await inStore(store, asked)));
  const { field } = asked;
  return field === undefined
    ? found
    : found.filter(({ fields, isRemoved }) => isRemoved || Object.hasOwn(fields, field));
}
