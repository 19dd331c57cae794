/** Reading from InfluxDB, in InfluxQL: both versions speak it (in 2, a bucket's name stands for a database). */
import { parseJson } from '../../shared/codecs/exact-json.ts';
import { HeadwaterError } from '../../shared/errors.ts';
import type { FieldValue } from '../../shared/model/reading.ts';
import type { Answer, InfluxHttp } from './influxdb-http.ts';
import { ident, tagTerms, whereOf } from './influxdb-lines.ts';
import type { Target } from './influxdb-setup.ts';
import { PART_POINTS, checkCursor, parseCursor, keyOf } from './pages.ts';
import {
  seriesName,
  type LatestPoint,
  type SeriesFilter,
  type SeriesKey,
  type SeriesPoints,
  type StoreQuery,
  type StoredPoint,
} from './store.ts';

/** InfluxQL statements in one request. */
export const STATEMENTS_MAX = 50;

/** Values in one line of an answer, where they may be long texts. */
const CHUNK_TEXTS = 100;

interface InfluxSeries {
  name: string;
  tags?: Record<string, string>;
  columns: string[];
  values?: unknown[][];
}

interface Said {
  results?: { statement_id?: number | bigint; series?: InfluxSeries[]; error?: string }[];
  error?: string;
}

interface Field {
  measurement: string;
  field: string;
  numeric: boolean;
  /** Values in one line of an answer. */
  chunk: number;
}

interface Rows {
  epoch: 'ms' | 'ns';
  chunk: number;
  signal?: AbortSignal;
  parse?: (text: string) => unknown;
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

export class InfluxReader {
  private readonly http: InfluxHttp;
  private readonly target: Target;
  /** The error of an answer that is none. */
  private readonly failed: (answer: Answer) => HeadwaterError;

  constructor(http: InfluxHttp, target: Target, failed: (answer: Answer) => HeadwaterError) {
    this.http = http;
    this.target = target;
    this.failed = failed;
  }

  /** One result for each statement. Throws STORE_UNAVAILABLE. */
  async ask(statements: string[]): Promise<InfluxSeries[][]> {
    const { url, bucket } = this.target;
    const parameters = new URLSearchParams({ db: bucket, epoch: 'ms', q: statements.join(';') });
    const answer = await this.http.ask(
      'POST',
      '/query',
      parameters.toString(),
      'application/x-www-form-urlencoded',
    );
    let said: { results?: { series?: InfluxSeries[]; error?: string }[] };
    try {
      said = JSON.parse(answer.text) as typeof said;
    } catch {
      throw this.failed(answer);
    }
    const failed = said.results?.find(({ error }) => error !== undefined)?.error;
    if (said.results === undefined) throw this.failed(answer);
    if (failed !== undefined)
      throw new HeadwaterError('STORE_UNAVAILABLE', `InfluxDB at ${url} (${bucket}): ${failed}`);
    return said.results.map(({ series }) => series ?? []);
  }

  /**
   * Rows of one statement after the other, as they come: an answer of millions of points stands nowhere in memory. Throws
   * STORE_UNAVAILABLE, also where the answer is cut.
   */
  private async *rows(
    statements: readonly string[],
    { epoch, chunk, signal, parse = JSON.parse }: Rows,
  ): AsyncGenerator<{ statement: number; series: InfluxSeries }> {
    const { url, bucket } = this.target;
    const parameters = new URLSearchParams({
      ...{ db: bucket, epoch, q: statements.join(';') },
      ...{ chunked: 'true', chunk_size: String(chunk) },
    });
    const lines = this.http.lines('/query', parameters.toString(), this.failed, signal);
    let last = -1;
    for await (const text of lines) {
      const { results, error } = this.said(text, parse);
      const problem = error ?? results?.find((each) => each.error !== undefined)?.error;
      if (problem !== undefined)
        throw new HeadwaterError('STORE_UNAVAILABLE', `InfluxDB at ${url} (${bucket}): ${problem}`);
      for (const { statement_id: statement = 0, series = [] } of results ?? []) {
        last = Number(statement);
        for (const each of series) yield { statement: last, series: each };
      }
    }
    // Each statement has a result, be it empty.
    if (last !== statements.length - 1)
      throw new HeadwaterError(
        'STORE_UNAVAILABLE',
        `InfluxDB at ${url} (${bucket}): its answer ends after ${last + 1} of ${statements.length} statements`,
      );
  }

  /** Throws STORE_UNAVAILABLE for what InfluxDB would not say. */
  private said(text: string, parse: (text: string) => unknown): Said {
    let said: unknown;
    try {
      said = parse(text);
    } catch {
      // Told below.
    }
    if (typeof said === 'object' && said !== null && ('results' in said || 'error' in said))
      return said as Said;
    throw this.failed({ status: 200, text, isMarked: false, location: '', dateMs: undefined });
  }

  /** Every point of a stretch of time, a field of a measurement after the other. */
  async *scan(fromMs: number, toMs: number): AsyncGenerator<StoredPoint[]> {
    const where = whereOf({ fromMs, toMs });
    for (const { measurement, field, chunk } of await this.fields({})) {
      const q = `SELECT ${ident(field)} FROM ${ident(measurement)}${where} GROUP BY *`;
      // Nanoseconds have more digits than a number keeps.
      for await (const { series } of this.rows([q], { epoch: 'ns', chunk, parse: parseJson })) {
        const tags = tagsOf(series);
        yield (series.values ?? [])
          .filter(([, value]) => value !== null)
          .map(([time, value]) => ({
            measurement,
            field,
            tags,
            timeNs: BigInt(time as bigint | number),
            // What is beyond 2^53 comes as it was said.
            value: typeof value === 'bigint' ? Number(value) : (value as FieldValue),
          }));
      }
    }
  }

  private async inParts(statements: string[]): Promise<InfluxSeries[][]> {
    const results: InfluxSeries[][] = [];
    for (let i = 0; i < statements.length; i += STATEMENTS_MAX) {
      results.push(...(await this.ask(statements.slice(i, i + STATEMENTS_MAX))));
    }
    return results;
  }

  private async fields(filter: SeriesFilter): Promise<Field[]> {
    const [series = []] = await this.ask(['SHOW FIELD KEYS']);
    const found = series.flatMap(({ name, values }) =>
      (values ?? []).map(([field, type]) => ({
        measurement: name,
        field: String(field),
        numeric: type === 'float' || type === 'integer' || type === 'unsigned',
        chunk: type === 'string' ? CHUNK_TEXTS : PART_POINTS,
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

  async *parts(query: StoreQuery): AsyncGenerator<SeriesPoints> {
    const { everyMs, fn } = query;
    const raw = everyMs === undefined && fn === undefined;
    const name = fn ?? 'mean';
    const fields = (await this.behind(query)).filter(
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
      const statements = some.map(
        ({ measurement, field }) =>
          `SELECT ${select(field)} FROM ${ident(measurement)}${where} ${group}`,
      );
      const chunk = Math.min(...some.map((each) => each.chunk));
      const { signal } = query;
      for await (const { statement, series } of this.rows(statements, {
        ...{ epoch: 'ms', chunk },
        ...(signal && { signal }),
      })) {
        const { measurement, field } = some[statement] as Field; // Of one of these statements.
        const key = { measurement, field, tags: tagsOf(series) };
        const at = single ? (query.fromMs ?? firsts?.get(seriesName(key))) : undefined;
        const points = (series.values ?? [])
          .filter(([, value]) => value !== null)
          .map(([time, value]): [number, FieldValue] => [at ?? Number(time), value as FieldValue]);
        yield { ...key, points };
      }
    }
  }

  /**
   * Of a query with a cursor what lies before its field is not read again; of that field InfluxDB gives the series from the first
   * on. Throws QUERY_INVALID where the cursor's series is no more.
   */
  private async behind(query: StoreQuery): Promise<Field[]> {
    const fields = await this.fields(query);
    if (query.cursor === undefined) return fields;
    const cursor = parseCursor(query.cursor);
    const { measurement, field, tags } = keyOf(cursor);
    checkCursor(cursor, await this.latest({ measurement, field, tags }));
    return fields.slice(
      fields.findIndex((each) => each.measurement === measurement && each.field === field),
    );
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
}
