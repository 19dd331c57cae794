/**
 * The time-series store in PostgreSQL: a row for each field of each reading, found by its identity and by its series
 * and time. Names and values are JSON texts, which PostgreSQL takes whatever they hold, a NUL included.
 *
 * One transaction writes changes and marks. The schema's id among the marks names what is kept: a schema that was
 * dropped and made anew is another store.
 */
import { createHash, randomBytes } from 'node:crypto';
import {
  AdapterError,
  isRetryable,
  matches,
  seriesName,
  type AdapterContext,
  type Change,
  type FieldValue,
  type LatestPoint,
  type PointsPart,
  type Refused,
  type SeriesFilter,
  type SeriesKey,
  type StoreQuery,
  type TimeSeriesStore,
} from '@headwater/contracts';
import { Database, type Run } from './database.ts';

const TABLES = `
  CREATE TABLE IF NOT EXISTS marks (name text PRIMARY KEY, value text NOT NULL);
  CREATE TABLE IF NOT EXISTS series (id bytea PRIMARY KEY, name text NOT NULL);
  CREATE TABLE IF NOT EXISTS points (gateway text, epoch text, seq bigint, idx int, series bytea, time bigint NOT NULL,
    value text NOT NULL, PRIMARY KEY (gateway, epoch, seq, idx, series));
  CREATE INDEX IF NOT EXISTS points_in_time ON points (series, time, gateway, epoch, seq, idx);`;

/** The schema's own id among the marks; names of others do not begin so. */
const ID = '~id';
const PAGE_POINTS = 5000;
const PLACE = ['bytea', 'bigint', 'text', 'text', 'bigint', 'int'];

interface Row {
  name: string;
  series: string;
  time: string;
  gateway: string;
  epoch: string;
  seq: string;
  idx: number;
  value: string;
}

const NS = 1_000_000n;

function keyOf(name: string): SeriesKey {
  const [measurement = '', field = '', ...rest] = JSON.parse(name) as string[];
  const tags = Object.fromEntries(
    Array.from({ length: rest.length / 2 }, (_, i) => [rest[2 * i] ?? '', rest[2 * i + 1] ?? '']),
  );
  return { measurement, field, tags };
}

/** The millisecond that holds it, before 1970 as well. */
function millisecond(time: string): number {
  const ns = BigInt(time);
  return Number((ns - (((ns % NS) + NS) % NS)) / NS);
}

const toCursor = ({ series, time, gateway, epoch, seq, idx }: Row): string =>
  Buffer.from(JSON.stringify([series, time, gateway, epoch, seq, idx])).toString('base64url');

const isInt64 = (text: string): boolean =>
  /^-?\d{1,19}$/.test(text) && BigInt.asIntN(64, BigInt(text)) === BigInt(text);

/** Throws QUERY_INVALID. */
function fromCursor(cursor: string): unknown[] {
  try {
    const place: unknown = JSON.parse(Buffer.from(cursor, 'base64url').toString());
    if (Array.isArray(place) && place.length === PLACE.length) {
      const [series, time, gateway, epoch, seq, idx] = place.map(String);
      const whole = [time, seq, idx].every((part) => isInt64(part ?? ''));
      if (whole && /^[0-9a-f]{64}$/.test(series ?? ''))
        return [Buffer.from(series ?? '', 'hex'), time, gateway, epoch, seq, idx];
    }
  } catch {
    // Said below.
  }
  throw new AdapterError('QUERY_INVALID', 'cursor: it is not one that an answer had');
}

export class PostgresStore implements TimeSeriesStore {
  readonly kind = 'postgresql';
  readonly supports = { progress: true, remove: 'rows', aggregates: false } as const;
  private readonly database: Database;
  private id = '';
  /** What `identity` has told last. */
  private told = '';

  constructor({
    address,
    nowMs,
    options,
  }: Pick<AdapterContext, 'address' | 'nowMs'> & {
    options: { user: string; password: string; schema: string };
  }) {
    const place = {
      address,
      tables: TABLES,
      unavailable: 'STORE_UNAVAILABLE',
      ...options,
    } as const;
    this.database = new Database(place, nowMs);
  }

  /** A server that is away is asked again by the next call. */
  async open(): Promise<void> {
    await this.ready().catch((error: unknown) => {
      if (!isRetryable(error)) throw error;
    });
  }

  private async ready(): Promise<void> {
    if (this.id !== '') return;
    await this.database.open();
    await this.database.run('INSERT INTO marks VALUES ($1, $2) ON CONFLICT DO NOTHING', [
      ID,
      randomBytes(8).toString('hex'),
    ]);
    this.id = await idOf(this.database.run);
  }

  /** With tables that are there: what was dropped meanwhile is made anew by the next call. */
  private async use<T>(work: () => Promise<T>): Promise<T> {
    await this.ready();
    try {
      return await work();
    } catch (error) {
      if (isRetryable(error)) this.id = '';
      throw error;
    }
  }

  async identity(): Promise<string> {
    this.id = '';
    await this.ready();
    return (this.told = this.id);
  }

  async apply(changes: readonly Change[], marks: ReadonlyMap<string, string>): Promise<Refused[]> {
    // Exactly the last `put` of an identity is there afterwards.
    const last = new Map(changes.map((change) => [nameOf(change.identity), change]));
    await this.use(async () => {
      await this.database.transaction(async (run) => {
        if (this.told !== '' && (await idOf(run)) !== this.told)
          throw new AdapterError('STORE_RESET', 'PostgreSQL: the schema was made anew');
        await replace(run, [...last.values()]);
        await run(
          'INSERT INTO marks SELECT * FROM unnest($1::text[], $2::text[]) ON CONFLICT (name) DO UPDATE SET value = excluded.value',
          [[...marks.keys()], [...marks.values()]],
        );
      });
    });
    return [];
  }

  async marks(prefix: string): Promise<Map<string, string>> {
    const rows = await this.use(() =>
      this.database.run<{ name: string; value: string }>(
        'SELECT name, value FROM marks WHERE starts_with(name, $1) AND name <> $2',
        [prefix, ID],
      ),
    );
    return new Map(rows.map(({ name, value }) => [name, value]));
  }

  private async found(filter: SeriesFilter): Promise<{ id: Buffer; key: SeriesKey }[]> {
    const rows = await this.use(() =>
      this.database.run<{ id: Buffer; name: string }>(
        'SELECT id, name FROM series s WHERE EXISTS (SELECT FROM points WHERE series = s.id)',
      ),
    );
    return rows
      .map(({ id, name }) => ({ id, key: keyOf(name) }))
      .filter(({ key }) => matches(key, filter));
  }

  async series(): Promise<SeriesKey[]> {
    return (await this.found({})).map(({ key }) => key);
  }

  async latest(filter: SeriesFilter): Promise<LatestPoint[]> {
    const ids = (await this.found(filter)).map(({ id }) => id);
    const rows = await this.use(() =>
      this.database.run<{ name: string; time: string; value: string }>(
        `SELECT s.name, newest.time, newest.value FROM series s CROSS JOIN LATERAL (SELECT time, value FROM points
           WHERE series = s.id ORDER BY time DESC, gateway DESC, epoch DESC, seq DESC, idx DESC LIMIT 1) newest
         WHERE s.id = ANY($1)`,
        [ids],
      ),
    );
    return rows.map(({ name, time, value }) => ({
      ...keyOf(name),
      time: millisecond(time),
      value: JSON.parse(value) as FieldValue,
    }));
  }

  async *query(query: StoreQuery): AsyncIterable<PointsPart> {
    const { fromMs, toMs, limit = Number.POSITIVE_INFINITY, cursor } = query;
    let behind = cursor === undefined ? undefined : fromCursor(cursor);
    const ids = (await this.found(query)).map(({ id }) => id);
    for (let left = limit; left > 0; ) {
      const count = Math.min(left, PAGE_POINTS);
      const rows = await this.page(ids, fromMs, toMs, behind, count);
      yield* partsOf(rows);
      const end = rows.at(-1);
      if (end === undefined || rows.length < count) return;
      left -= rows.length;
      behind = fromCursor(toCursor(end));
    }
  }

  private async page(
    ids: Buffer[],
    fromMs: number | undefined,
    toMs: number | undefined,
    behind: unknown[] | undefined,
    count: number,
  ): Promise<Row[]> {
    const values: unknown[] = [ids, count];
    const bound = (ms: number, sign: string): string =>
      ` AND p.time ${sign} $${values.push(String(BigInt(Math.ceil(ms)) * NS))}`;
    const place = 'p.series, p.time, p.gateway, p.epoch, p.seq, p.idx';
    let where = 'p.series = ANY($1)';
    if (fromMs !== undefined) where += bound(fromMs, '>=');
    if (toMs !== undefined) where += bound(toMs, '<');
    if (behind !== undefined) {
      const given = behind.map((value, i) => `$${values.push(value)}::${PLACE[i] ?? 'text'}`);
      where += ` AND (${place}) > (${given.join(', ')})`;
    }
    return await this.use(() =>
      this.database.run<Row>(
        `SELECT s.name, encode(p.series, 'hex') AS series, p.time, p.gateway, p.epoch, p.seq, p.idx, p.value
         FROM points p JOIN series s ON s.id = p.series WHERE ${where} ORDER BY ${place} LIMIT $2`,
        values,
      ),
    );
  }

  warnings(): string[] {
    const { up, reason } = this.database.health;
    return up ? [] : [`PostgreSQL: ${reason}`];
  }

  async close(): Promise<void> {
    await this.database.close();
  }
}

const nameOf = ({ gateway, epoch, sequence, index }: Change['identity']): string =>
  JSON.stringify([gateway, epoch, sequence, index]);

async function idOf(run: Run): Promise<string> {
  const [row] = await run<{ value: string }>('SELECT value FROM marks WHERE name = $1', [ID]);
  return row?.value ?? '';
}

/** Rows of these identities go, and those of what is put come. */
async function replace(run: Run, changes: readonly Change[]): Promise<void> {
  const gone = changes.map(({ identity: { gateway, epoch, sequence, index } }) => ({
    gateway,
    epoch,
    seq: String(sequence),
    idx: index,
  }));
  await run(
    `DELETE FROM points USING json_to_recordset($1) AS gone(gateway text, epoch text, seq bigint, idx int)
     WHERE points.gateway = gone.gateway AND points.epoch = gone.epoch AND points.seq = gone.seq AND points.idx = gone.idx`,
    [JSON.stringify(gone)],
  );
  const names = new Map<string, string>();
  const rows = changes.flatMap(({ put }, i) =>
    put === undefined
      ? []
      : Object.entries(put.fields).map(([field, value]) => {
          const name = seriesName({ measurement: put.measurement, field, tags: put.tags });
          const series = createHash('sha256').update(name).digest('hex');
          names.set(series, name);
          const time = String(BigInt(put.timeMs) * NS + BigInt(put.ns));
          return { ...gone[i], series, time, value: JSON.stringify(value) };
        }),
  );
  // In one order for all who write: nobody waits for one who waits for him.
  const series = [...names].sort(([a], [b]) => (a < b ? -1 : 1));
  await run(
    `INSERT INTO series SELECT decode(id, 'hex'), name FROM unnest($1::text[], $2::text[]) AS new(id, name)
     ON CONFLICT DO NOTHING`,
    [series.map(([id]) => id), series.map(([, name]) => name)],
  );
  // As arrays: values hold escapes (\\u0000) that PostgreSQL's JSON functions would unfold and refuse.
  await run(
    `INSERT INTO points SELECT gateway, epoch, seq, idx, decode(series, 'hex'), time, value
     FROM unnest($1::text[], $2::text[], $3::bigint[], $4::int[], $5::text[], $6::bigint[], $7::text[])
       AS new(gateway, epoch, seq, idx, series, time, value)`,
    (['gateway', 'epoch', 'seq', 'idx', 'series', 'time', 'value'] as const).map((column) =>
      rows.map((row) => row[column]),
    ),
  );
}

/** Rows that follow each other in one series are a part. */
function* partsOf(rows: readonly Row[]): Iterable<PointsPart> {
  for (let from = 0; from < rows.length; ) {
    const first = rows[from];
    if (first === undefined) return;
    let to = from;
    while (rows[to]?.series === first.series) to++;
    const part = rows.slice(from, to);
    const points = part.map(({ time, value }): [number, FieldValue] => [
      millisecond(time),
      JSON.parse(value) as FieldValue,
    ]);
    yield { ...keyOf(first.name), points, cursor: toCursor(part.at(-1) ?? first) };
    from = to;
  }
}
