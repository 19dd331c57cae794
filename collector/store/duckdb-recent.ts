/** Points of few series up to now, for questions that are small: from memory, or from the file once (`tails.ts`). */
import type { FieldValue } from '../../shared/model/reading.ts';
import { nanosOf } from '../duckdb/nanos.ts';
import { aggregated } from './aggregate.ts';
import type { Kind, Series } from './duckdb-catalog.ts';
import { isOfNumbers } from './duckdb-query.ts';
import type { SeriesPoints, StoreQuery } from './store.ts';
import { TAIL_POINTS_MAX, TAIL_SERIES_MAX, Tails, type TailPoints } from './tails.ts';

/** Of a series, what has to be known. */
export interface Recentable {
  id: number;
  kind: Kind;
  latest?: { timeMs: number; ns: number; value: FieldValue } | undefined;
}

const ALWAYS_NS = 2n ** 63n - 1n;

/** What is asked up to so long before the newest point is asked up to now. */
const NOW_NS = 300_000_000_000n;
/** Questions that were not small are remembered, so many. */
const LARGE_MAX = 1000;

/** Rows of an SQL of the file. */
type Read = (sql: string) => Promise<unknown[][]>;
type Row = [series: number, time: bigint, num: number, ...identity: (number | bigint)[]];

const byPlace = (a: Row, b: Row): number => {
  for (let at = 0; at < a.length; at++) {
    if (at === 2) continue; // The value.
    if ((a[at] as bigint) < (b[at] as bigint)) return -1;
    if ((a[at] as bigint) > (b[at] as bigint)) return 1;
  }
  return 0;
};

const isTie = (row: Row, at: number, rows: readonly Row[]): boolean =>
  at > 0 && rows[at - 1]?.[1] === row[1] && rows[at - 1]?.[0] === row[0];

export class Recent {
  readonly tails = new Tails();
  /** From when on some series have more points than one question reads. */
  private readonly large = new Map<string, bigint>();

  /**
   * Points in [fromNs, toNs] of each series, in order of time and identity. Undefined: that is not what this is for.
   */
  async points(
    wanted: readonly Recentable[],
    fromNs: bigint,
    toNs: bigint,
    read: Read,
  ): Promise<TailPoints[] | undefined> {
    if (wanted.length === 0 || wanted.length > TAIL_SERIES_MAX) return undefined;
    for (const { kind, latest } of wanted) {
      if (kind === 'txt' || latest === undefined) return undefined;
      if (nanosOf(latest.timeMs, latest.ns) - NOW_NS > toNs) return undefined;
    }
    const ids = wanted.map(({ id }) => id);
    const large = this.large.get(ids.join());
    if (large !== undefined && fromNs <= large) return undefined;
    const known = this.tails.get(ids, fromNs, toNs);
    if (known !== undefined) return known;
    return await this.read(ids, fromNs, toNs, read);
  }

  private async read(
    ids: readonly number[],
    fromNs: bigint,
    toNs: bigint,
    read: Read,
  ): Promise<TailPoints[] | undefined> {
    const reading = this.tails.reads();
    const which = ids.length === 1 ? `= ${ids[0]}` : `IN (${ids.join(',')})`;
    let rows = await rowsOf(read, '', `series ${which} AND time >= ${fromNs}`);
    // Seldom: then their identities decide.
    if (rows?.some(isTie) === true)
      rows = await rowsOf(read, ', origin, seq, idx', `series ${which} AND time >= ${fromNs}`);
    if (rows === undefined) return undefined;
    if (rows.length > TAIL_POINTS_MAX) {
      if (this.large.size >= LARGE_MAX) this.large.clear();
      this.large.set(ids.join(), fromNs);
      return undefined;
    }
    const bySeries = new Map<number, Row[]>();
    for (const row of rows) {
      const list = bySeries.get(row[0]);
      if (list === undefined) bySeries.set(row[0], [row]);
      else list.push(row);
    }
    return ids.map((id) => {
      const own = bySeries.get(id) ?? [];
      const times = BigInt64Array.from(own, ([, time]) => time);
      const values = Float64Array.from(own, ([, , value]) => value);
      this.tails.keep(reading, id, fromNs, { times, values });
      const end = times.findIndex((time) => time > toNs);
      return end < 0
        ? { times: times.slice(), values: values.slice() }
        : { times: times.slice(0, end), values: values.slice(0, end) };
    });
  }
}

/** In their order; one more than a tail has, where there are more. Undefined: what is there is not for here. */
async function rowsOf(read: Read, more: string, where: string): Promise<Row[] | undefined> {
  const sql = `SELECT series, time, num${more} FROM points WHERE ${where} LIMIT ${TAIL_POINTS_MAX + 1}`;
  const rows: Row[] = [];
  for (const row of await read(sql)) {
    // A text in a series of numbers, by a version of before.
    if (typeof row[2] !== 'number') return undefined;
    rows.push(row as Row); // As selected.
  }
  return rows.sort(byPlace);
}

/** [from, to] of a question that says from when on, or asks for the points as they are. */
export function rangeOf({ fromMs, toMs, everyMs, fn }: StoreQuery): [bigint, bigint] | undefined {
  if (fromMs === undefined && (everyMs !== undefined || fn !== undefined)) return undefined;
  const from = fromMs === undefined ? -ALWAYS_NS : nanosOf(Math.ceil(fromMs), 0);
  const to = toMs === undefined ? ALWAYS_NS - 1n : nanosOf(Math.ceil(toMs), 0) - 1n;
  return [from, to];
}

/** The series that a question is about: text and truth have no mean. */
export const askedOf = (query: StoreQuery, wanted: readonly Series[]): readonly Series[] =>
  isOfNumbers(query) ? wanted.filter(({ kind }) => kind === 'num') : wanted;

/** An answer of these points, as `querySql` has it. */
export function recentParts(
  query: StoreQuery,
  wanted: readonly Series[],
  found: readonly TailPoints[],
): AsyncIterable<SeriesPoints> {
  async function* points(): AsyncGenerator<SeriesPoints & { cursor: string }> {
    for (const [at, { measurement, field, tags, kind }] of wanted.entries()) {
      const { times = [], values = [] } = found[at] ?? {};
      const list: SeriesPoints['points'] = [];
      for (let n = 0; n < times.length; n++) {
        const value = values[n] as number; // As many as times.
        list.push([
          Number((times[n] as bigint) / 1_000_000n),
          kind === 'bool' ? value === 1 : value,
        ]);
      }
      if (list.length > 0) yield { measurement, field, tags, points: list, cursor: '' };
    }
  }
  const { everyMs, fn } = query;
  return everyMs === undefined && fn === undefined ? points() : aggregated(points(), query);
}
