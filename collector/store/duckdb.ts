/**
 * The embedded time-series store: DuckDB, in one file, for one process.
 *
 * Tables: `series` (number, measurement, field, tags, type), `points` (series, time in ns, value by type, identity),
 * `origins` (number of each gateway and epoch), `written` (ranges of sequences already here, per origin) and
 * `sources` (offset per topic and partition). One transaction writes all of them, so a restart knows exactly what is there.
 *
 * A batch whose sequences are not in `written` is appended; else what those identities wrote is deleted first.
 */
import { mkdir, rename } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { HeadwaterError, messageOf } from '../../shared/errors.ts';
import { RangeSet } from '../../shared/model/ranges.ts';
import type { FieldValue, ReadingBatch } from '../../shared/model/reading.ts';
import type { Notify } from '../../shared/telemetry/log.ts';
import {
  openDuckDb,
  quote,
  type DuckDBConnection,
  type DuckDBInstance,
} from '../duckdb/database.ts';
import {
  matches,
  seriesName,
  type LatestPoint,
  type Refused,
  type SeriesFilter,
  type SeriesKey,
  type SeriesPoints,
  type StoreQuery,
  type TimeSeriesStore,
} from './store.ts';

export interface DuckDbOptions {
  folder: string;
  memoryBytes: number;
  now: () => number;
}

type Kind = 'num' | 'txt' | 'bool';

interface Series extends SeriesKey {
  id: number;
  kind: Kind;
  /** Of the newest point: time in ns, then identity, decide. */
  latest: { timeMs: number; ns: number; value: FieldValue } | undefined;
}

interface Origin {
  id: number;
  written: RangeSet;
}

const SCHEMA = [
  'CREATE TABLE IF NOT EXISTS series (id INTEGER NOT NULL, measurement VARCHAR NOT NULL, field VARCHAR NOT NULL, tags VARCHAR NOT NULL, kind VARCHAR NOT NULL)',
  'CREATE TABLE IF NOT EXISTS points (series INTEGER NOT NULL, time BIGINT NOT NULL, num DOUBLE, txt VARCHAR, origin INTEGER NOT NULL, seq BIGINT NOT NULL, idx INTEGER NOT NULL)',
  'CREATE TABLE IF NOT EXISTS origins (id INTEGER NOT NULL, gateway VARCHAR NOT NULL, epoch VARCHAR NOT NULL)',
  'CREATE TABLE IF NOT EXISTS written (origin INTEGER NOT NULL, low BIGINT NOT NULL, high BIGINT NOT NULL)',
  'CREATE TABLE IF NOT EXISTS sources (source VARCHAR NOT NULL, next BIGINT NOT NULL)',
];

function kindOf(value: FieldValue): Kind {
  if (typeof value === 'number') return 'num';
  return typeof value === 'string' ? 'txt' : 'bool';
}

const nanos = (timeMs: number, ns: number): bigint => BigInt(timeMs) * 1_000_000n + BigInt(ns);

/** `timeNs // width` in SQL floors towards zero; times before 1970 do not occur (they are implausible). */
const AGGREGATES: Record<string, string> = {
  mean: 'avg(num)',
  min: 'min(num)',
  max: 'max(num)',
  sum: 'sum(num)',
  median: 'median(num)',
  count: 'count(*)',
  first: 'arg_min(VALUE, (time, origin, seq, idx))',
  last: 'arg_max(VALUE, (time, origin, seq, idx))',
};

/**
 * The batches without a second reading of the same identity. Readings come in order of their identity, in which case
 * there is nothing to look for; only out of order is every identity remembered.
 */
function withoutRepeats(batches: ReadingBatch[]): ReadingBatch[] {
  const last = new Map<string, [sequence: number, index: number]>();
  const inOrder = batches.every(({ gateway, epoch, readings }) => {
    const key = `${gateway}/${epoch}`;
    let [before, beforeIndex] = last.get(key) ?? [-1, -1];
    const ascending = readings.every(({ sequence, index }) => {
      const ascends = sequence > before || (sequence === before && index > beforeIndex);
      before = sequence;
      beforeIndex = index;
      return ascends;
    });
    last.set(key, [before, beforeIndex]);
    return ascending;
  });
  if (inOrder) return batches;
  const seen = new Set<string>();
  return batches.map((batch) => ({
    ...batch,
    readings: batch.readings.filter(({ sequence, index }) => {
      const identity = `${batch.gateway}/${batch.epoch}/${sequence}/${index}`;
      const isNew = !seen.has(identity);
      seen.add(identity);
      return isNew;
    }),
  }));
}

const DAMAGED_TEXT =
  'the embedded store is damaged; it was set aside and is filled again from the log';

const firstLine = (error: unknown): string => messageOf(error).split('\n')[0] ?? '';

/** Blocks and the write-ahead log have checksums; after a fatal error every call says that the database is invalid. */
const isDamage = (error: unknown): boolean =>
  /Corrupt|has been invalidated|not a valid DuckDB|Could not read enough bytes|Failure while replaying WAL/i.test(
    messageOf(error),
  );

export class DuckDbStore implements TimeSeriesStore {
  readonly kind = 'embedded';
  private readonly options: DuckDbOptions;
  private readonly notify: Notify;
  private instance: DuckDBInstance | undefined;
  private writer: DuckDBConnection | undefined;
  private reader: DuckDBConnection | undefined;
  private readonly bySeries = new Map<string, Series>();
  private byTags = new WeakMap<Record<string, string>, Map<string, Series>>();
  private readonly list: Series[] = [];
  private readonly origins = new Map<string, Origin>();
  private turn: Promise<unknown> = Promise.resolve();
  private isLoaded = false;
  private resetting = false;
  /** It was emptied since somebody asked how far it has come. */
  private isReset = false;

  constructor(options: DuckDbOptions, notify: Notify) {
    this.options = options;
    this.notify = notify;
  }

  private get path(): string {
    return join(this.options.folder, 'store', 'readings.duckdb');
  }

  async open(): Promise<void> {
    await mkdir(dirname(this.path), { recursive: true });
    try {
      await this.openFile(this.path);
    } catch (error) {
      this.shut();
      const text = firstLine(error);
      if (
        !isDamage(error) &&
        /lock on file|Permission denied|Read-only|No space left/i.test(text)
      ) {
        throw new HeadwaterError(
          'DATA_UNUSABLE',
          `the embedded store ${this.path} cannot be opened: ${text}`,
          { cause: error },
        );
      }
      await this.setAside(text);
    }
  }

  /** Damaged: set aside, and filled again from the log (law 7). */
  private async setAside(why: string): Promise<void> {
    this.shut();
    const stamp = new Date(this.options.now()).toISOString().replaceAll(':', '-');
    const aside = join(this.options.folder, 'damaged', `store-${stamp}`);
    await mkdir(dirname(aside), { recursive: true });
    await rename(dirname(this.path), aside);
    await mkdir(dirname(this.path), { recursive: true });
    this.notify({
      level: 'error',
      event: 'store_set_aside',
      text: `the embedded store is damaged (${why}) and was set aside to ${aside}; it is filled again from the log`,
    });
    await this.openFile(this.path);
    this.isReset = true;
  }

  /** Damage that shows while it runs: whoever writes has to begin anew, and is told with its next write. */
  private damaged(error: unknown): void {
    if (this.isReset || this.resetting) return;
    this.resetting = true;
    this.turn = this.turn
      .then(() => this.setAside(firstLine(error)))
      .catch((again: unknown) =>
        this.notify({ level: 'error', event: 'store_set_aside', text: messageOf(again) }),
      )
      .finally(() => {
        this.resetting = false;
      });
  }

  private async openFile(path: string): Promise<void> {
    const { memoryBytes } = this.options;
    this.instance = await openDuckDb(path, { memoryBytes, files: false });
    this.writer = await this.instance.connect();
    this.reader = await this.instance.connect();
    for (const statement of SCHEMA) await this.writer.run(statement);
    this.isLoaded = false;
    await this.adopt();
    await this.load();
    this.isLoaded = true;
  }

  /** Progress as it was kept when readings were the only source. */
  private async adopt(): Promise<void> {
    const old = "SELECT 1 FROM information_schema.tables WHERE table_name = 'progress'";
    if ((await this.rows(old)).length === 0) return;
    await this.writer?.run('BEGIN TRANSACTION');
    await this.writer?.run("INSERT INTO sources SELECT 'readings/' || part, next FROM progress");
    await this.writer?.run('DROP TABLE progress');
    await this.writer?.run('COMMIT');
  }

  private async rows(sql: string): Promise<unknown[][]> {
    if (this.reader === undefined)
      throw new HeadwaterError('STORE_UNAVAILABLE', 'the embedded store is closed');
    try {
      const result = await this.reader.runAndReadAll(sql);
      return result.getRows();
    } catch (error) {
      if (!isDamage(error) || !this.isLoaded) throw error;
      this.damaged(error);
      throw new HeadwaterError('STORE_UNAVAILABLE', DAMAGED_TEXT, { cause: error });
    }
  }

  private async load(): Promise<void> {
    this.bySeries.clear();
    this.byTags = new WeakMap();
    this.list.length = 0;
    this.origins.clear();
    for (const [id, measurement, field, tags, kind] of await this.rows(
      'SELECT id, measurement, field, tags, kind FROM series ORDER BY id',
    )) {
      const series: Series = {
        id: Number(id),
        measurement: String(measurement),
        field: String(field),
        tags: JSON.parse(String(tags)) as Record<string, string>,
        kind: kind as Kind,
        latest: undefined,
      };
      this.list.push(series);
      this.bySeries.set(seriesName(series), series);
    }
    const originById = new Map<number, Origin>();
    for (const [id, gateway, epoch] of await this.rows(
      'SELECT id, gateway, epoch FROM origins ORDER BY id',
    )) {
      const origin: Origin = { id: Number(id), written: new RangeSet() };
      this.origins.set(`${String(gateway)}/${String(epoch)}`, origin);
      originById.set(origin.id, origin);
    }
    for (const [origin, low, high] of await this.rows('SELECT origin, low, high FROM written')) {
      originById.get(Number(origin))?.written.add(Number(low), Number(high));
    }
    await this.loadLatest();
  }

  private async loadLatest(): Promise<void> {
    for (const series of this.list) series.latest = undefined;
    const newest = 'arg_max({t: time, num: num, txt: txt}, (time, origin, seq, idx)) AS newest';
    const sql = `SELECT series, newest.t, newest.num, newest.txt FROM (SELECT series, ${newest} FROM points GROUP BY series)`;
    for (const [id, time, num, txt] of await this.rows(sql)) {
      const series = this.list[Number(id)];
      if (series === undefined) continue;
      const timeNs = time as bigint;
      series.latest = {
        timeMs: Number(timeNs / 1_000_000n),
        ns: Number(timeNs % 1_000_000n),
        value: this.value(series, num, txt),
      };
    }
  }

  private value(series: Series, num: unknown, txt: unknown): FieldValue {
    if (series.kind === 'txt') return String(txt);
    return series.kind === 'bool' ? num === 1 : Number(num);
  }

  /** The series of a field; a new one is added to `fresh`. The tags object is the key of a cache: batches share it. */
  private seriesOf(
    measurement: string,
    tags: Record<string, string>,
    field: string,
    kind: Kind,
    fresh: Series[],
  ): Series {
    let byField = this.byTags.get(tags);
    if (byField === undefined) this.byTags.set(tags, (byField = new Map()));
    const short = `${measurement}\0${field}`;
    const cached = byField.get(short);
    if (cached !== undefined) return cached;
    const key = { measurement, field, tags };
    const name = seriesName(key);
    let series = this.bySeries.get(name);
    if (series === undefined) {
      series = { ...key, id: this.list.length, kind, latest: undefined };
      this.list.push(series);
      this.bySeries.set(name, series);
      fresh.push(series);
    }
    byField.set(short, series);
    return series;
  }

  private inTurn<T>(work: (writer: DuckDBConnection) => Promise<T>): Promise<T> {
    const run = this.turn.then(async () => {
      const { writer } = this;
      if (writer === undefined)
        throw new HeadwaterError('STORE_UNAVAILABLE', 'the embedded store is closed');
      if (this.isReset) throw new HeadwaterError('STORE_RESET', DAMAGED_TEXT);
      try {
        await writer.run('BEGIN TRANSACTION');
        const result = await work(writer);
        await writer.run('COMMIT');
        return result;
      } catch (error) {
        if (isDamage(error)) {
          await this.setAside(firstLine(error));
          throw new HeadwaterError('STORE_RESET', DAMAGED_TEXT, { cause: error });
        }
        await this.undo(writer);
        throw new HeadwaterError(
          'STORE_UNAVAILABLE',
          `the embedded store cannot be written: ${messageOf(error).split('\n')[0] ?? ''}`,
          { cause: error },
        );
      }
    });
    this.turn = run.catch(() => undefined); // The caller sees it; the next write takes its turn.
    return run;
  }

  /** After a failed transaction memory is made to say again what the file says. */
  private async undo(writer: DuckDBConnection): Promise<void> {
    try {
      await writer.run('ROLLBACK');
    } catch {
      // No transaction is open: the COMMIT itself failed, which rolls back.
    }
    await this.load();
  }

  write(given: ReadingBatch[], progress: Map<string, number>): Promise<Refused[]> {
    const batches = withoutRepeats(given);
    return this.inTurn(async (writer) => {
      const touched = new Set<Origin>();
      const freshOrigins: { origin: Origin; gateway: string; epoch: string }[] = [];
      const repeats: { origin: Origin; sequences: number[] }[] = [];
      for (const { gateway, epoch, readings } of batches) {
        const key = `${gateway}/${epoch}`;
        let origin = this.origins.get(key);
        if (origin === undefined) {
          origin = { id: this.origins.size, written: new RangeSet() };
          this.origins.set(key, origin);
          freshOrigins.push({ origin, gateway, epoch });
        }
        touched.add(origin);
        const { written } = origin;
        const again = readings
          .filter(({ sequence }) => written.has(sequence))
          .map(({ sequence }) => sequence);
        if (again.length > 0) repeats.push({ origin, sequences: again });
      }
      // Written here means: by an earlier transaction. Within one, a frame's readings may be split over batches.
      const again = repeats.flatMap(({ origin, sequences }) =>
        [...new Set(sequences)].map((sequence) => `(${origin.id},${sequence})`),
      );
      // One pass over the table, however many origins there are: each result's series is one.
      if (again.length > 0)
        await writer.run(
          `DELETE FROM points USING (VALUES ${again.join(',')}) AS again(o, s) WHERE origin = o AND seq = s`,
        );
      const freshSeries = await this.append(writer, batches);
      for (const { gateway, epoch, readings } of batches) {
        const { written } = this.origins.get(`${gateway}/${epoch}`) as Origin; // Made above.
        for (const { sequence } of readings) written.add(sequence, sequence);
      }
      await this.note(writer, freshSeries, freshOrigins, touched, progress);
      return [];
    });
  }

  private async append(writer: DuckDBConnection, batches: ReadingBatch[]): Promise<Series[]> {
    const fresh: Series[] = [];
    const appender = await writer.createAppender('points');
    for (const { gateway, epoch, readings } of batches) {
      const origin = this.origins.get(`${gateway}/${epoch}`) as Origin; // Made by the caller.
      for (const { measurement, tags, fields, sequence, index, timeMs, ns } of readings) {
        const time = nanos(timeMs, ns);
        const seq = BigInt(sequence);
        for (const field in fields) {
          const value = fields[field] as FieldValue;
          const series = this.seriesOf(measurement, tags, field, kindOf(value), fresh);
          appender.appendInteger(series.id);
          appender.appendBigInt(time);
          if (typeof value === 'string') {
            appender.appendNull();
            appender.appendVarchar(value);
          } else {
            appender.appendDouble(typeof value === 'number' ? value : Number(value));
            appender.appendNull();
          }
          appender.appendInteger(origin.id);
          appender.appendBigInt(seq);
          appender.appendInteger(index);
          appender.endRow();
          const { latest } = series;
          if (
            latest === undefined ||
            timeMs > latest.timeMs ||
            (timeMs === latest.timeMs && ns >= latest.ns)
          ) {
            series.latest = { timeMs, ns, value };
          }
        }
      }
    }
    appender.closeSync();
    return fresh;
  }

  private async note(
    writer: DuckDBConnection,
    series: Series[],
    origins: { origin: Origin; gateway: string; epoch: string }[],
    touched: Set<Origin>,
    progress: Map<string, number>,
  ): Promise<void> {
    if (series.length > 0) {
      const rows = series.map(
        (each) =>
          `(${each.id},${quote(each.measurement)},${quote(each.field)},${quote(JSON.stringify(each.tags))},${quote(each.kind)})`,
      );
      await writer.run(`INSERT INTO series VALUES ${rows.join(',')}`);
    }
    if (origins.length > 0) {
      const rows = origins.map(
        ({ origin, gateway, epoch }) => `(${origin.id},${quote(gateway)},${quote(epoch)})`,
      );
      await writer.run(`INSERT INTO origins VALUES ${rows.join(',')}`);
    }
    if (touched.size > 0) {
      const ids = [...touched].map(({ id }) => id).join(',');
      const rows = [...touched].flatMap(({ id, written }) =>
        written.ranges.map(([low, high]) => `(${id},${low},${high})`),
      );
      await writer.run(`DELETE FROM written WHERE origin IN (${ids})`);
      if (rows.length > 0) await writer.run(`INSERT INTO written VALUES ${rows.join(',')}`);
    }
    for (const [source, next] of progress) {
      await writer.run(`DELETE FROM sources WHERE source = ${quote(source)}`);
      await writer.run(`INSERT INTO sources VALUES (${quote(source)}, ${next})`);
    }
  }

  async progress(source: string): Promise<number | undefined> {
    await this.turn;
    this.isReset = false;
    const [row] = await this.rows(`SELECT next FROM sources WHERE source = ${quote(source)}`);
    // A store that is new, or was set aside, begins at the beginning: the log fills it.
    return row === undefined ? 0 : Number(row[0]);
  }

  remove(batches: ReadingBatch[]): Promise<void> {
    return this.inTurn(async (writer) => {
      for (const { gateway, epoch, readings } of batches) {
        const origin = this.origins.get(`${gateway}/${epoch}`);
        if (origin === undefined || readings.length === 0) continue;
        const identities = readings.map(({ sequence, index }) => `(${sequence}, ${index})`);
        await writer.run(
          `DELETE FROM points WHERE origin = ${origin.id} AND (seq, idx) IN (${identities.join(',')})`,
        );
      }
    }).then(() => this.loadLatest());
  }

  series(): Promise<SeriesKey[]> {
    return Promise.resolve(
      this.list
        .filter(({ latest }) => latest !== undefined)
        .map(({ measurement, field, tags }) => ({ measurement, field, tags })),
    );
  }

  latest(filter: SeriesFilter): Promise<LatestPoint[]> {
    const found: LatestPoint[] = [];
    for (const series of this.list) {
      const { measurement, field, tags, latest } = series;
      if (latest !== undefined && matches(series, filter)) {
        found.push({ measurement, field, tags, time: latest.timeMs, value: latest.value });
      }
    }
    return Promise.resolve(found);
  }

  async query(query: StoreQuery): Promise<SeriesPoints[]> {
    const wanted = this.list.filter(
      (series) => series.latest !== undefined && matches(series, query),
    );
    const result = new Map<number, SeriesPoints>();
    for (const kind of ['num', 'txt', 'bool'] as const) {
      const some = wanted.filter((series) => series.kind === kind);
      if (some.length > 0) await this.queryKind(query, kind, some, result);
    }
    return wanted.flatMap(({ id }) => result.get(id) ?? []);
  }

  private async queryKind(
    query: StoreQuery,
    kind: Kind,
    some: Series[],
    result: Map<number, SeriesPoints>,
  ): Promise<void> {
    const { fromMs, toMs, everyMs, fn } = query;
    const conditions = [`series IN (${some.map(({ id }) => id).join(',')})`];
    if (fromMs !== undefined) conditions.push(`time >= ${nanos(Math.ceil(fromMs), 0)}`);
    if (toMs !== undefined) conditions.push(`time < ${nanos(Math.ceil(toMs), 0)}`);
    const where = conditions.join(' AND ');
    const column = kind === 'txt' ? 'txt' : 'num';
    let sql: string;
    if (everyMs === undefined && fn === undefined) {
      sql = `SELECT series, time // 1000000, ${column} FROM points WHERE ${where} ORDER BY series, time, origin, seq, idx`;
    } else {
      const name = fn ?? 'mean';
      // Text and truth have no mean: only what is defined for them is answered.
      if (kind !== 'num' && !['count', 'first', 'last'].includes(name)) return;
      const value = (AGGREGATES[name] as string).replace('VALUE', column);
      const width = everyMs === undefined ? undefined : nanos(everyMs, 0);
      const time =
        width !== undefined
          ? `(time // ${width}) * ${everyMs}`
          : fromMs !== undefined
            ? `CAST(${Math.ceil(fromMs)} AS BIGINT)`
            : 'min(time) // 1000000';
      sql = `SELECT series, ${time}  AS bucket, ${value} FROM points WHERE ${where} GROUP BY series${width === undefined ? '' : ', time // ' + String(width)} ORDER BY series, bucket`;
    }
    for (const [id, at, value] of await this.rows(sql)) {
      const series = this.list[Number(id)] as Series; // From its own table.
      let points = result.get(series.id);
      if (points === undefined) {
        const { measurement, field, tags } = series;
        result.set(series.id, (points = { measurement, field, tags, points: [] }));
      }
      const isValue =
        (fn === undefined && everyMs === undefined) || fn === 'first' || fn === 'last';
      const converted = isValue ? this.value(series, value, value) : Number(value);
      points.points.push([Number(at), converted]);
    }
  }

  warnings(): string[] {
    return [];
  }

  async close(): Promise<void> {
    await this.turn;
    this.shut();
  }

  private shut(): void {
    this.writer?.closeSync();
    this.reader?.closeSync();
    this.instance?.closeSync();
    this.writer = undefined;
    this.reader = undefined;
    this.instance = undefined;
  }
}
