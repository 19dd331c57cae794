/**
 * The embedded time-series store: DuckDB, in one file, for one process.
 *
 * Tables: `series` (number, measurement, field, tags, type), `points` (series, time in ns, value by type, identity),
 * `origins` (number of each gateway and epoch), `written` (ranges of sequences that may be here, per origin) and `marks`
 * (name → text, the file's own id among them). One transaction writes all of them, so a restart knows exactly what is there.
 *
 * A change whose sequence is not in `written` is appended. The others are looked for, all of a batch in one pass; what is
 * there already as it shall be stays, and the rest is deleted and appended.
 */
import { randomBytes } from 'node:crypto';
import { isTurn, nextTurn } from '../../shared/env/turns.ts';
import { HeadwaterError, messageOf } from '../../shared/errors.ts';
import type { FieldValue, Reading } from '../../shared/model/reading.ts';
import type { Notify } from '../../shared/telemetry/log.ts';
import { appendValue, quote, type DuckDBConnection } from '../duckdb/database.ts';
import { folded, identityName } from './changes.ts';
import { Catalog, kindOf, type Series } from './duckdb-catalog.ts';
import { adopt, all, keepMarks } from './duckdb-marks.ts';
import { BLOCK_POINTS, FRESH, putInOrder, undone } from './duckdb-order.ts';
import { findRows, type Row } from './duckdb-find.ts';
import { Recent, askedOf, rangeOf, recentParts, type Recentable } from './duckdb-recent.ts';
import { DAMAGED_TEXT, DuckDbFile, type DuckDbOptions } from './duckdb-file.ts';
import { partsOf, querySql, slicesOf } from './duckdb-query.ts';
import { storedSums } from './duckdb-sums.ts';
import { checkCursor, paged, parseCursor } from './pages.ts';
import { LIMITED, Session, type SessionLimits } from './session.ts';
import type { Summing, SumsAsked } from './sums.ts';
import type { TailPoints } from './tails.ts';
import type { PointSum } from '../duckdb/points.ts';
import { nanosOf } from '../duckdb/nanos.ts';
import type {
  Change,
  LatestPoint,
  PointsPart,
  Refused,
  SeriesFilter,
  SeriesKey,
  SeriesPoints,
  StoreQuery,
  TimeSeriesStore,
} from './store.ts';

export type { DuckDbOptions } from './duckdb-file.ts';

const SCHEMA = [
  'CREATE TABLE IF NOT EXISTS series (id INTEGER NOT NULL, measurement VARCHAR NOT NULL, field VARCHAR NOT NULL, tags VARCHAR NOT NULL, kind VARCHAR NOT NULL)',
  'CREATE TABLE IF NOT EXISTS points (series INTEGER NOT NULL, time BIGINT NOT NULL, num DOUBLE, txt VARCHAR, origin INTEGER NOT NULL, seq BIGINT NOT NULL, idx INTEGER NOT NULL)',
  'CREATE TABLE IF NOT EXISTS origins (id INTEGER NOT NULL, gateway VARCHAR NOT NULL, epoch VARCHAR NOT NULL)',
  'CREATE TABLE IF NOT EXISTS written (origin INTEGER NOT NULL, low BIGINT NOT NULL, high BIGINT NOT NULL)',
  'CREATE TABLE IF NOT EXISTS marks (name VARCHAR NOT NULL, value VARCHAR NOT NULL)',
];

/** The file's own id among its marks; names of others do not begin so. */
const ID = '~id';

const QUERY_TIMEOUT_MS = 600_000; // Of one that is read as it goes out: a slow reader is not cut before.

export class DuckDbStore implements TimeSeriesStore, Summing {
  readonly kind = 'embedded';
  readonly supports = { progress: true, remove: 'rows', aggregates: true } as const;
  private readonly file: DuckDbFile;
  private catalog = new Catalog();
  private id = '';
  /** The id that was given last: whoever writes to another file is told first. */
  private given = '';
  /** Of whose file memory knows what is in it. */
  private loaded: DuckDBConnection | undefined;
  /** Points at the end of the file that are not in the order of their series. */
  private fresh = 0;
  private readonly blockPoints: number;
  /** With so many of them they are put in order. */
  private orderFrom: number;
  private readonly newest = new Recent();
  private turn: Promise<unknown> = Promise.resolve();

  constructor(options: DuckDbOptions, notify: Notify) {
    this.blockPoints = this.orderFrom = options.blockPoints ?? BLOCK_POINTS;
    this.file = new DuckDbFile(options, notify);
  }

  /** Does not fail for the disk's sake: what cannot be opened now is tried again by the next call. */
  async open(): Promise<void> {
    try {
      await this.inTurn(() => Promise.resolve());
    } catch (error) {
      if (!(error instanceof HeadwaterError) || !error.retryable) throw error;
    }
  }

  async identity(): Promise<string> {
    return await this.inTurn(() => Promise.resolve((this.given = this.id)));
  }

  // ---- turns ----

  /** One at a time, on a file that is open and known. */
  private inTurn<T>(work: (writer: DuckDBConnection) => Promise<T>): Promise<T> {
    const run = this.turn.then(async () => await work(await this.opened()));
    this.turn = run.catch(() => undefined); // The caller sees it; the next one takes its turn.
    return run;
  }

  private async opened(): Promise<DuckDBConnection> {
    const { writer, isNew } = await this.file.use(SCHEMA);
    if (!isNew) return writer;
    try {
      await adopt(writer);
      this.catalog = await Catalog.load((sql) => all(writer, sql));
      const [row] = await all(writer, `SELECT value FROM marks WHERE name = ${quote(ID)}`);
      this.id = row === undefined ? '' : String(row[0]);
      if (this.id === '') {
        this.id = randomBytes(6).toString('hex');
        await writer.run(`INSERT INTO marks VALUES (${quote(ID)}, ${quote(this.id)})`);
      }
      const fresh = await all(writer, `SELECT value FROM marks WHERE name = ${quote(FRESH)}`);
      this.fresh = Number(fresh[0]?.[0] ?? 0);
      this.newest.tails.clear();
      this.loaded = writer;
      return writer;
    } catch (error) {
      throw this.file.failed(error, true);
    }
  }

  private async read(sql: string): Promise<unknown[][]> {
    return await this.inTurn(async (connection) => {
      try {
        return await all(connection, sql);
      } catch (error) {
        throw this.file.failed(error, false);
      }
    });
  }

  // ---- writing ----

  apply(changes: readonly Change[], marks: ReadonlyMap<string, string>): Promise<Refused[]> {
    const list = folded(changes);
    return this.inTurn(async (writer) => {
      if (this.given !== '' && this.id !== this.given)
        throw new HeadwaterError('STORE_RESET', DAMAGED_TEXT);
      const { tails } = this.newest;
      try {
        tails.begun();
        await writer.run('BEGIN TRANSACTION');
        const appended = await this.withoutThoseThere(writer, list);
        const points = await this.append(writer, appended);
        for (const { identity } of list) {
          const origin = this.catalog.origin(identity.gateway, identity.epoch);
          this.catalog.touched.add(origin);
          origin.written.add(identity.sequence, identity.sequence);
        }
        for (const statement of this.catalog.saving()) await writer.run(statement);
        this.fresh += points;
        await keepMarks(writer, new Map([...marks, [FRESH, String(this.fresh)]]));
        await writer.run('COMMIT');
        this.catalog.saved();
        tails.committed();
        if (this.fresh >= this.orderFrom) this.order();
        return [];
      } catch (error) {
        // Memory is ahead of the file now: both begin anew.
        throw this.file.failed(error, true);
      }
    });
  }

  /** After whatever waits now. */
  private order(): void {
    void this.inTurn(async (writer) => {
      try {
        if (this.fresh >= this.orderFrom) await putInOrder(writer, this.fresh);
        this.fresh = 0;
        this.orderFrom = this.blockPoints;
      } catch (error) {
        // The memory is with those who read: the points stay as they came, until there are some more.
        if (!LIMITED.test(messageOf(error)) || !(await undone(writer)))
          throw this.file.failed(error, true);
        this.orderFrom = this.fresh + Math.ceil(this.blockPoints / 8);
      }
    }).catch(() => undefined); // It was told, and is tried again with the next points.
  }

  /** Deletes what shall not be there any more; gives the readings that are still to be appended. */
  private async withoutThoseThere(
    writer: DuckDBConnection,
    changes: readonly Change[],
  ): Promise<readonly Change[]> {
    const { catalog } = this;
    const again = changes.filter(({ identity: { gateway, epoch, sequence } }) =>
      catalog.origin(gateway, epoch).written.has(sequence),
    );
    if (again.length === 0) return changes;
    const found = await findRows(writer, catalog, again);
    const dead: Row[] = [];
    const same = new Set<Change>();
    for (const [at, change] of again.entries()) {
      if (isTurn(at)) await nextTurn();
      const rows = found.get(identityName(change.identity)) ?? [];
      if (rows.length > 0 && this.isSame(rows, change.put)) same.add(change);
      else dead.push(...rows);
    }
    if (dead.length > 0) await this.remove(writer, dead);
    return same.size === 0 ? changes : changes.filter((change) => !same.has(change));
  }

  private isSame(rows: readonly Row[], put: Reading | undefined): boolean {
    if (put === undefined || rows.length !== Object.keys(put.fields).length) return false;
    const { measurement, tags, fields, timeMs, ns } = put;
    const time = nanosOf(timeMs, ns);
    return Object.entries(fields).every(([field, value]) => {
      const { id } = this.catalog.series(measurement, tags, field, kindOf(value));
      const stored = typeof value === 'string' ? value : Number(value);
      return rows.some((row) => row.series === id && row.time === time && row.value === stored);
    });
  }

  private async remove(writer: DuckDBConnection, rows: readonly Row[]): Promise<void> {
    const { list, stale } = this.catalog;
    for (const { series: id, time } of rows) {
      const series = list[id] as Series; // From its own table.
      const { latest } = series;
      this.newest.tails.drop(id);
      if (latest !== undefined && nanosOf(latest.timeMs, latest.ns) === time) stale.add(series);
    }
    await writer.run(`DELETE FROM points WHERE rowid IN (${rows.map(({ id }) => id).join(',')})`);
  }

  /** How many points that are. */
  private async append(writer: DuckDBConnection, changes: readonly Change[]): Promise<number> {
    const { catalog } = this;
    const { tails } = this.newest;
    let points = 0;
    const appender = await writer.createAppender('points');
    for (const { identity, put } of changes) {
      const origin = catalog.origin(identity.gateway, identity.epoch);
      if (put === undefined) continue;
      const { measurement, tags, fields, timeMs, ns } = put;
      const time = nanosOf(timeMs, ns);
      const sequence = BigInt(identity.sequence);
      for (const field in fields) {
        const value = fields[field] as FieldValue; // Its own key.
        const series = catalog.series(measurement, tags, field, kindOf(value));
        appender.appendInteger(series.id);
        appender.appendBigInt(time);
        appendValue(appender, value);
        appender.appendInteger(origin.id);
        appender.appendBigInt(sequence);
        appender.appendInteger(identity.index);
        appender.endRow();
        points++;
        catalog.newest(series, timeMs, ns, value);
        if (typeof value !== 'string') tails.add(series.id, time, Number(value));
      }
    }
    appender.closeSync();
    return points;
  }

  async marks(prefix: string): Promise<Map<string, string>> {
    const rows = await this.read(
      `SELECT name, value FROM marks WHERE starts_with(name, ${quote(prefix)})`,
    );
    return new Map(rows.map(([name, value]) => [String(name), String(value)]));
  }

  // ---- reading ----

  /** Nobody waits for what is being written where all is known. */
  private async settled(): Promise<Catalog> {
    if (this.isKnown && this.catalog.stale.size === 0) return this.catalog;
    return await this.inTurn(async (connection) => {
      try {
        await this.catalog.settle((sql) => all(connection, sql));
      } catch (error) {
        throw this.file.failed(error, false);
      }
      return this.catalog;
    });
  }

  async series(): Promise<SeriesKey[]> {
    const catalog = await this.settled();
    return catalog.all().map(({ measurement, field, tags }) => ({ measurement, field, tags }));
  }

  async latest(filter: SeriesFilter): Promise<LatestPoint[]> {
    const catalog = await this.settled();
    return catalog
      .some(filter)
      .flatMap(({ measurement, field, tags, latest }) =>
        latest === undefined
          ? []
          : [{ measurement, field, tags, time: latest.timeMs, value: latest.value }],
      );
  }

  query(query: StoreQuery): AsyncIterable<PointsPart> {
    return paged(query, this.parts(query));
  }

  private async *parts(query: StoreQuery): AsyncGenerator<SeriesPoints> {
    const cursor = query.cursor === undefined ? undefined : parseCursor(query.cursor);
    const catalog = await this.settled();
    const wanted = catalog.some(query);
    if (cursor !== undefined) checkCursor(cursor, wanted);
    // Its own connection: a stream ends with the next query on the same one.
    const session = await this.session({ timeoutMs: QUERY_TIMEOUT_MS, signal: query.signal });
    try {
      const recent = await this.recentParts(query, wanted, session);
      if (recent !== undefined) {
        yield* recent;
        return;
      }
      for (const slice of await slicesOf(query, wanted, cursor, session.all)) {
        const sql = querySql(query, slice, cursor);
        if (sql !== undefined) yield* partsOf(query, catalog.list, session.chunks(sql));
      }
    } finally {
      await session.close();
    }
  }

  /** Of small questions: see `duckdb-recent.ts`. */
  async recent(
    session: Session,
    wanted: readonly Recentable[],
    fromNs: bigint,
    toNs: bigint,
  ): Promise<TailPoints[] | undefined> {
    return await this.newest.points(wanted, fromNs, toNs, session.all);
  }

  private async recentParts(
    query: StoreQuery,
    wanted: readonly Series[],
    session: Session,
  ): Promise<AsyncIterable<SeriesPoints> | undefined> {
    const range = rangeOf(query);
    if (range === undefined) return undefined;
    const asked = askedOf(query, wanted);
    const found = await this.recent(session, asked, ...range);
    return found && recentParts(query, asked, found);
  }

  async session(limits: SessionLimits): Promise<Session> {
    const connect = (): Promise<DuckDBConnection> => this.file.connect();
    const connection = await (this.isKnown ? connect() : this.inTurn(connect));
    const session = new Session(connection, limits, {
      failed: (error) => this.file.failed(error, false, connection),
      left: (isClean) => (isClean ? this.file.giveBack(connection) : this.file.leave(connection)),
    });
    this.file.lend(connection, () => session.stop());
    return session;
  }

  private get isKnown(): boolean {
    return this.loaded !== undefined && this.loaded === this.file.current;
  }

  /** Series that have points now. */
  async known(): Promise<readonly Series[]> {
    return (await this.settled()).all();
  }

  // ---- the audit ----

  async sums(asked: SumsAsked): Promise<PointSum[]> {
    return await this.apart((connection) => storedSums(connection, this.catalog, asked));
  }

  async days(): Promise<string[]> {
    const sql =
      'SELECT DISTINCT CAST(CAST(make_timestamp(time // 1000) AS DATE) AS VARCHAR) FROM points';
    const rows = await this.apart((connection) => all(connection, sql));
    return rows.map(([day]) => String(day));
  }

  /** On a connection of its own, beside what is written meanwhile. */
  private async apart<T>(work: (connection: DuckDBConnection) => Promise<T>): Promise<T> {
    const connection = await this.inTurn(() => this.file.connect());
    return await this.file.apart(connection, work);
  }

  warnings(): string[] {
    return [];
  }

  async close(): Promise<void> {
    await this.turn;
    await this.file.close();
  }
}
