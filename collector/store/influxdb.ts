/**
 * InfluxDB 1.8 and 2 by @influxdata/influxdb-client: the only file that imports it.
 *
 * The client's own buffer is not used: it drops points without a word when its retries end (200,000 written to a
 * closed port, `close()` resolved). A batch of ours is one request, awaited; the offset is committed after it.
 *
 * Idempotent, because series and nanosecond are a pure function of the identity. A batch that is refused is cut in
 * halves until the refused points stand alone; only they go to quarantine.
 *
 * Reading is InfluxQL on `/query`, which both versions speak (in 2, a bucket's name stands for a database).
 */
import { HttpError, InfluxDB, setLogger, type WriteApi } from '@influxdata/influxdb-client';
import { HeadwaterError, messageOf } from '../../shared/errors.ts';
import { createHash } from 'node:crypto';
import type { FieldValue, Reading } from '../../shared/model/reading.ts';
import type { Notify } from '../../shared/telemetry/log.ts';
import { folded } from './changes.ts';
import { Prefixes, digits, ident, lineOf, literal, tagTerms, whereOf } from './influxdb-lines.ts';
import { paged } from './pages.ts';
import {
  seriesName,
  type Change,
  type LatestPoint,
  type PointsPart,
  type Refused,
  type SeriesFilter,
  type SeriesKey,
  type SeriesPoints,
  type StoreQuery,
  type TimeSeriesStore,
} from './store.ts';

export interface InfluxOptions {
  url: string;
  /** Empty for 1.8. */
  org: string;
  /** Bucket, or database of 1.8. */
  bucket: string;
  token: string;
}

/** `influxdb://HOST:PORT/ORG/BUCKET` or, for 1.8, `influxdb://HOST:PORT/DB`. Throws CONFIG_INVALID. */
export function parseInfluxAddress(text: string): Omit<InfluxOptions, 'token'> {
  const match = /^influxdb(s?):\/\/([^/@]+)\/([^/]+)(?:\/([^/]+))?$/.exec(text);
  if (match === null) {
    throw new HeadwaterError(
      'CONFIG_INVALID',
      `--store '${text}' is not of the form influxdb://HOST:PORT/ORG/BUCKET (1.8: influxdb://HOST:PORT/DB; the token goes into HEADWATER_INFLUXDB_TOKEN)`,
    );
  }
  const [, secure, host, first = '', second] = match;
  const decoded = [first, second ?? ''].map(decodeURIComponent) as [string, string];
  const url = `http${secure}://${host}`;
  return second === undefined
    ? { url, org: '', bucket: decoded[0] }
    : { url, org: decoded[0], bucket: decoded[1] };
}

interface Line {
  text: string;
  change: Change;
}

/** Lines in one request: InfluxDB's own advice. */
const LINES_MAX = 5000;
const TIMEOUT_MS = 30_000;
/** Requests under way at once: while InfluxDB works on one, the next is made. */
const REQUESTS_MAX = 3;
/** InfluxQL statements in one request. */
const STATEMENTS_MAX = 50;

interface InfluxSeries {
  name: string;
  tags?: Record<string, string>;
  columns: string[];
  values?: unknown[][];
}

const FUNCTION_NAMES: Record<string, string> = {
  mean: 'mean',
  min: 'min',
  max: 'max',
  sum: 'sum',
  count: 'count',
  first: 'first',
  last: 'last',
  median: 'median',
};

function tagsOf(series: InfluxSeries): Record<string, string> {
  // GROUP BY * lists every tag key of the measurement; an empty value means that this series lacks it.
  return Object.fromEntries(tagTerms(series.tags ?? {}));
}

export class InfluxStore implements TimeSeriesStore {
  readonly kind = 'influxdb';
  readonly supports = { progress: false, remove: 'tombstone', aggregates: true } as const;
  private readonly options: InfluxOptions;
  private readonly notify: Notify;
  private readonly prefixes = new Prefixes();
  private writeApis: WriteApi[] = [];

  constructor(options: InfluxOptions, notify: Notify) {
    this.options = options;
    this.notify = notify;
  }

  /** Does not wait for the server: readings wait in the log while it is away. */
  async open(): Promise<void> {
    const { url, org, bucket, token } = this.options;
    // The library writes every failed attempt to the console; ours are reported once, by the stage.
    setLogger({ error: () => undefined, warn: () => undefined });
    const database = org === '' ? `${bucket}/` : bucket;
    const influx = new InfluxDB({ url, token, timeout: TIMEOUT_MS });
    this.writeApis = Array.from({ length: REQUESTS_MAX }, () =>
      influx.getWriteApi(org, database, 'ns', {
        maxRetries: 0,
        batchSize: LINES_MAX + 1,
        flushInterval: 0,
        maxBatchBytes: 64 * 1024 * 1024,
        gzipThreshold: Number.MAX_SAFE_INTEGER,
      }),
    );
    try {
      if (org === '') await this.influxQl([`CREATE DATABASE ${ident(bucket)}`]);
      else await this.influxQl(['SHOW MEASUREMENTS LIMIT 1']);
    } catch (error) {
      this.notify({
        level: 'warn',
        event: 'store_away',
        text: `${messageOf(error)}; readings wait in the log`,
      });
    }
  }

  identity(): Promise<string> {
    const { url, org, bucket } = this.options;
    const name = createHash('sha256')
      .update(JSON.stringify([url, org, bucket]))
      .digest('hex');
    return Promise.resolve(`influxdb-${name.slice(0, 16)}`);
  }

  marks(): Promise<Map<string, string>> {
    return Promise.resolve(new Map());
  }

  async apply(changes: readonly Change[]): Promise<Refused[]> {
    if (this.writeApis.length === 0)
      throw new HeadwaterError('STORE_UNAVAILABLE', 'InfluxDB is not open');
    const list = folded(changes);
    await this.remove(leaving(list));
    const unwritable: Change[] = [];
    const lines: Line[] = [];
    for (const change of list) {
      const { put } = change;
      if (put === undefined) continue;
      const prefix = this.prefixes.of(put.measurement, put.tags);
      const text = prefix === undefined ? undefined : lineOf(put, prefix);
      if (text === undefined) unwritable.push(change);
      else lines.push({ text, change });
    }
    const refused: Refused[] = [];
    if (unwritable.length > 0)
      refused.push({
        reason:
          'line protocol cannot write this name: a line break, a backslash at the end, nothing, or one that InfluxDB keeps for itself',
        changes: unwritable,
      });
    let next = 0;
    const worker = async (writeApi: WriteApi): Promise<void> => {
      while (next < lines.length) {
        const part = lines.slice(next, next + LINES_MAX);
        next += part.length;
        await this.writeLines(writeApi, part, refused);
      }
    };
    const done = await Promise.allSettled(this.writeApis.map(worker));
    const failed = done.find(({ status }) => status === 'rejected');
    if (failed !== undefined) throw (failed as PromiseRejectedResult).reason;
    return refused;
  }

  private async writeLines(writeApi: WriteApi, lines: Line[], refused: Refused[]): Promise<void> {
    try {
      writeApi.writeRecords(lines.map(({ text }) => text));
      await writeApi.flush();
    } catch (error) {
      const status = error instanceof HttpError ? error.statusCode : 0;
      const first = lines[0];
      if (first === undefined || ![400, 413, 422].includes(status)) throw this.unavailable(error);
      if (lines.length === 1) {
        const reason = `InfluxDB refuses the point: ${refusalText(error)}`;
        refused.push({ reason, changes: [first.change] });
        return;
      }
      const half = Math.ceil(lines.length / 2);
      await this.writeLines(writeApi, lines.slice(0, half), refused);
      await this.writeLines(writeApi, lines.slice(half), refused);
    }
  }

  private unavailable(error: unknown): HeadwaterError {
    const { url, bucket } = this.options;
    const why =
      error instanceof HttpError
        ? `${error.statusCode} ${refusalText(error)}`
        : messageOf(error) || 'no connection';
    return new HeadwaterError('STORE_UNAVAILABLE', `InfluxDB at ${url} (${bucket}): ${why}`, {
      cause: error,
    });
  }

  /** All of these addresses. */
  private async remove(readings: readonly Reading[]): Promise<void> {
    if (readings.length === 0) return;
    if (this.options.org === '') {
      const statements = readings.map(({ measurement, tags, timeMs, ns }) => {
        const where = tagTerms(tags).map(
          ([key, value]) => ` AND ${ident(key)} = ${literal(value)}`,
        );
        return `DELETE FROM ${ident(measurement)} WHERE time = ${timeMs}${digits(ns)}${where.join('')}`;
      });
      for (let i = 0; i < statements.length; i += STATEMENTS_MAX)
        await this.influxQl(statements.slice(i, i + STATEMENTS_MAX));
      return;
    }
    // InfluxQL of version 2 does not delete; its own call takes one range and one predicate.
    for (const reading of readings) await this.removeOne(reading);
  }

  private async removeOne({ measurement, tags, timeMs, ns }: Reading): Promise<void> {
    const { url, org, bucket, token } = this.options;
    const seconds = new Date(timeMs).toISOString().slice(0, 19);
    const at = `${seconds}.${String(timeMs % 1000).padStart(3, '0')}${digits(ns)}Z`;
    const terms = [['_measurement', measurement] as const, ...tagTerms(tags)].map(
      ([key, value]) => `${ident(key)}=${ident(value)}`,
    );
    let response: Response;
    try {
      response = await fetch(
        `${url}/api/v2/delete?${new URLSearchParams({ org, bucket }).toString()}`,
        {
          method: 'POST',
          headers: { authorization: `Token ${token}`, 'content-type': 'application/json' },
          body: JSON.stringify({ start: at, stop: at, predicate: terms.join(' AND ') }),
          signal: AbortSignal.timeout(TIMEOUT_MS),
        },
      );
    } catch (error) {
      throw new HeadwaterError(
        'STORE_UNAVAILABLE',
        `InfluxDB at ${url} does not answer: ${causeText(error)}`,
        { cause: error },
      );
    }
    if (!response.ok)
      throw new HeadwaterError(
        'STORE_UNAVAILABLE',
        `InfluxDB at ${url} (${bucket}): removing: ${(await response.text()).slice(0, 300)}`,
      );
  }

  /** One result for each statement. Throws STORE_UNAVAILABLE. */
  private async influxQl(statements: string[]): Promise<InfluxSeries[][]> {
    const { url, bucket, token } = this.options;
    const parameters = new URLSearchParams({ db: bucket, epoch: 'ms', q: statements.join(';') });
    let answer: {
      results?: { statement_id?: number; series?: InfluxSeries[]; error?: string }[];
      error?: string;
      message?: string;
    };
    let status: number;
    try {
      const response = await fetch(`${url}/query`, {
        method: 'POST',
        headers: {
          'content-type': 'application/x-www-form-urlencoded',
          ...(token === '' ? {} : { authorization: `Token ${token}` }),
        },
        body: parameters.toString(),
        signal: AbortSignal.timeout(TIMEOUT_MS),
      });
      status = response.status;
      answer = (await response.json()) as typeof answer;
    } catch (error) {
      throw new HeadwaterError(
        'STORE_UNAVAILABLE',
        `InfluxDB at ${url} does not answer: ${causeText(error)}`,
        { cause: error },
      );
    }
    const failed =
      answer.error ??
      answer.message ??
      answer.results?.find(({ error }) => error !== undefined)?.error;
    if (failed !== undefined || answer.results === undefined) {
      throw new HeadwaterError(
        'STORE_UNAVAILABLE',
        `InfluxDB at ${url} (${bucket}): ${failed ?? `status ${status}`}`,
      );
    }
    return answer.results.map(({ series }) => series ?? []);
  }

  private async inParts(statements: string[]): Promise<InfluxSeries[][]> {
    const results: InfluxSeries[][] = [];
    for (let i = 0; i < statements.length; i += STATEMENTS_MAX) {
      results.push(...(await this.influxQl(statements.slice(i, i + STATEMENTS_MAX))));
    }
    return results;
  }

  private async fields(
    filter: SeriesFilter,
  ): Promise<{ measurement: string; field: string; numeric: boolean }[]> {
    const [series = []] = await this.influxQl(['SHOW FIELD KEYS']);
    const found = series.flatMap(({ name, values }) =>
      (values ?? []).map(([field, type]) => ({
        measurement: name,
        field: String(field),
        numeric: type === 'float' || type === 'integer' || type === 'unsigned',
      })),
    );
    return found.filter(
      ({ measurement, field }) =>
        (filter.measurement === undefined || filter.measurement === measurement) &&
        (filter.field === undefined || filter.field === field),
    );
  }

  async series(): Promise<SeriesKey[]> {
    return (await this.latest({})).map(({ measurement, field, tags }) => ({
      measurement,
      field,
      tags,
    }));
  }

  async latest(filter: SeriesFilter): Promise<LatestPoint[]> {
    const fields = await this.fields(filter);
    const statements = fields.map(
      ({ measurement, field }) =>
        `SELECT last(${ident(field)}) FROM ${ident(measurement)}${whereOf(filter)} GROUP BY *`,
    );
    const results = await this.inParts(statements);
    return results.flatMap((list, index) => {
      const { measurement, field } = fields[index] as (typeof fields)[number]; // One result a statement.
      return list.flatMap((series) => {
        const [time, value] = series.values?.[0] ?? [];
        if (value === null || value === undefined) return [];
        return [
          {
            measurement,
            field,
            tags: tagsOf(series),
            time: Number(time),
            value: value as FieldValue,
          },
        ];
      });
    });
  }

  query(query: StoreQuery): AsyncIterable<PointsPart> {
    return paged(query, this.parts(query));
  }

  private async *parts(query: StoreQuery): AsyncGenerator<SeriesPoints> {
    const { everyMs, fn } = query;
    const raw = everyMs === undefined && fn === undefined;
    const name = fn ?? 'mean';
    const fields = (await this.fields(query)).filter(
      ({ numeric }) => raw || numeric || ['count', 'first', 'last'].includes(name),
    );
    const where = whereOf(query);
    const select = (field: string): string =>
      raw ? ident(field) : `${FUNCTION_NAMES[name]}(${ident(field)})`;
    const group =
      everyMs === undefined ? 'GROUP BY *' : `GROUP BY *, time(${everyMs}ms) fill(none)`;
    const single = fn !== undefined && everyMs === undefined;
    const firsts =
      single && query.fromMs === undefined ? await this.firstTimes(fields, where) : undefined;
    for (let from = 0; from < fields.length; from += STATEMENTS_MAX) {
      const some = fields.slice(from, from + STATEMENTS_MAX);
      const results = await this.influxQl(
        some.map(
          ({ measurement, field }) =>
            `SELECT ${select(field)} FROM ${ident(measurement)}${where} ${group}`,
        ),
      );
      for (const [index, list] of results.entries()) {
        const { measurement, field } = some[index] as (typeof fields)[number]; // One result a statement.
        for (const series of list) {
          const key = { measurement, field, tags: tagsOf(series) };
          const at = single ? (query.fromMs ?? firsts?.get(seriesName(key))) : undefined;
          const points = (series.values ?? [])
            .filter(([, value]) => value !== null)
            .map(([time, value]): [number, FieldValue] => [
              at ?? Number(time),
              value as FieldValue,
            ]);
          yield { ...key, points };
        }
      }
    }
  }

  /** `fn` alone answers one point at the first point's time; InfluxQL would say 1970. */
  private async firstTimes(
    fields: { measurement: string; field: string }[],
    where: string,
  ): Promise<Map<string, number>> {
    const results = await this.inParts(
      fields.map(
        ({ measurement, field }) =>
          `SELECT first(${ident(field)}) FROM ${ident(measurement)}${where} GROUP BY *`,
      ),
    );
    const times = new Map<string, number>();
    for (const [index, list] of results.entries()) {
      const { measurement, field } = fields[index] as (typeof fields)[number]; // One result a statement.
      for (const series of list)
        times.set(
          seriesName({ measurement, field, tags: tagsOf(series) }),
          Number(series.values?.[0]?.[0]),
        );
    }
    return times;
  }

  warnings(): string[] {
    return [];
  }

  async close(): Promise<void> {
    // Every batch was awaited: nothing is left in the client that a close could lose.
    for (const writeApi of this.writeApis.splice(0)) await writeApi.close().catch(() => undefined);
  }
}

/** Addresses at which nothing, or another point, shall be: each once. */
function leaving(changes: readonly Change[]): Reading[] {
  const addresses = new Map<string, Reading>();
  for (const { was } of changes)
    for (const reading of was ?? []) {
      const { timeMs, ns } = reading;
      addresses.set(`${seriesName({ ...reading, field: '' })} ${timeMs} ${ns}`, reading);
    }
  return [...addresses.values()];
}

function refusalText(error: unknown): string {
  if (!(error instanceof HttpError)) return messageOf(error);
  const body = error.json as { message?: string; error?: string } | undefined;
  return (body?.message ?? body?.error ?? error.body ?? error.message).slice(0, 300);
}

function causeText(error: unknown): string {
  const cause = error instanceof Error && error.cause !== undefined ? error.cause : error;
  return messageOf(cause) || 'no connection';
}
