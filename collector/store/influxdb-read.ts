/** Reading from InfluxDB, in InfluxQL: both versions speak it (in 2, a bucket's name stands for a database). */
import { parseJson } from '../../shared/codecs/exact-json.ts';
import { HeadwaterError } from '../../shared/errors.ts';
import type { FieldValue } from '../../shared/model/reading.ts';
import type { Answer, InfluxHttp } from './influxdb-http.ts';
import { ident, tagTerms, whereOf } from './influxdb-lines.ts';
import type { Target } from './influxdb-setup.ts';
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

  /** Every point of a stretch of time, a field of a measurement after the other. */
  async *scan(fromMs: number, toMs: number): AsyncGenerator<StoredPoint[]> {
    const { bucket } = this.target;
    const where = whereOf({ fromMs, toMs });
    for (const { measurement, field } of await this.fields({})) {
      const q = `SELECT ${ident(field)} FROM ${ident(measurement)}${where} GROUP BY *`;
      const parameters = new URLSearchParams({ db: bucket, epoch: 'ns', q });
      const type = 'application/x-www-form-urlencoded';
      const answer = await this.http.ask('POST', '/query', parameters.toString(), type);
      if (answer.status >= 300) throw this.failed(answer);
      // Nanoseconds have more digits than a number keeps.
      const said = parseJson(answer.text) as {
        results?: { series?: InfluxSeries[]; error?: string }[];
      };
      const [result] = said.results ?? [];
      if (result === undefined || result.error !== undefined) throw this.failed(answer);
      for (const series of result.series ?? []) {
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

  private async fields(
    filter: SeriesFilter,
  ): Promise<{ measurement: string; field: string; numeric: boolean }[]> {
    const [series = []] = await this.ask(['SHOW FIELD KEYS']);
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

  async *parts(query: StoreQuery): AsyncGenerator<SeriesPoints> {
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
      const results = await this.ask(
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
}
