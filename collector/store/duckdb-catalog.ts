/**
 * What memory knows of the embedded store's file: its series with their newest points, and which sequences of each
 * gateway and epoch may be in it. Loaded when the file is opened; a change that was not committed is loaded again.
 */
import { RangeSet } from '../../shared/model/ranges.ts';
import type { FieldValue } from '../../shared/model/reading.ts';
import { quote } from '../duckdb/database.ts';
import { timeOf } from '../duckdb/nanos.ts';
import { byTag } from './series-lists.ts';
import { matches, seriesName, type SeriesFilter, type SeriesKey } from './store.ts';

export type Kind = 'num' | 'txt' | 'bool';

export interface Series extends SeriesKey {
  /** In order of their coming: a store that is filled anew gives others. */
  id: number;
  /** As `seriesName` has it. */
  name: string;
  kind: Kind;
  /** Of the newest point: time in ns, then identity, decide. */
  latest: { timeMs: number; ns: number; value: FieldValue } | undefined;
}

export interface Origin {
  id: number;
  gateway: string;
  epoch: string;
  /** Sequences of which something was applied: only what is here has to be looked for. */
  written: RangeSet;
}

export type Rows = (sql: string) => Promise<unknown[][]>;

export function kindOf(value: FieldValue): Kind {
  if (typeof value === 'number') return 'num';
  return typeof value === 'string' ? 'txt' : 'bool';
}

export function valueOf(kind: Kind, num: unknown, txt: unknown): FieldValue {
  if (kind === 'txt') return String(txt);
  return kind === 'bool' ? num === 1 : Number(num);
}

export class Catalog {
  readonly list: Series[] = [];
  /** Made since the last `saved`: they have no row yet. */
  freshSeries: Series[] = [];
  freshOrigins: Origin[] = [];
  touched = new Set<Origin>();
  /** Series whose newest point was removed: it is looked up when somebody asks. */
  readonly stale = new Set<Series>();
  private readonly bySeries = new Map<string, Series>();
  private byTags = new WeakMap<Record<string, string>, Map<string, Series>>();
  private readonly origins = new Map<string, Map<string, Origin>>();
  private originCount = 0;
  /** The same list until one comes or goes. */
  private present: readonly Series[] | undefined;

  static async load(rows: Rows): Promise<Catalog> {
    const catalog = new Catalog();
    await catalog.loadSeries(rows);
    await catalog.loadOrigins(rows);
    for (const series of catalog.list) catalog.stale.add(series);
    await catalog.settle(rows);
    return catalog;
  }

  private async loadSeries(rows: Rows): Promise<void> {
    for (const [id, measurement, field, tags, kind] of await rows(
      'SELECT id, measurement, field, tags, kind FROM series ORDER BY id',
    )) {
      const key: SeriesKey = {
        measurement: String(measurement),
        field: String(field),
        tags: JSON.parse(String(tags)) as Record<string, string>,
      };
      const name = seriesName(key);
      const series: Series = {
        ...key,
        id: Number(id),
        name,
        kind: kind as Kind,
        latest: undefined,
      };
      this.list.push(series);
      this.bySeries.set(name, series);
    }
  }

  private async loadOrigins(rows: Rows): Promise<void> {
    const byId = new Map<number, Origin>();
    for (const [id, gateway, epoch] of await rows(
      'SELECT id, gateway, epoch FROM origins ORDER BY id',
    )) {
      const origin = this.addOrigin(String(gateway), String(epoch), Number(id));
      byId.set(origin.id, origin);
    }
    for (const [origin, low, high] of await rows('SELECT origin, low, high FROM written'))
      byId.get(Number(origin))?.written.add(Number(low), Number(high));
  }

  private addOrigin(gateway: string, epoch: string, id: number): Origin {
    const origin: Origin = { id, gateway, epoch, written: new RangeSet() };
    let epochs = this.origins.get(gateway);
    if (epochs === undefined) this.origins.set(gateway, (epochs = new Map()));
    epochs.set(epoch, origin);
    this.originCount = Math.max(this.originCount, id + 1);
    return origin;
  }

  origin(gateway: string, epoch: string): Origin {
    const known = this.origins.get(gateway)?.get(epoch);
    if (known !== undefined) return known;
    const origin = this.addOrigin(gateway, epoch, this.originCount);
    this.freshOrigins.push(origin);
    return origin;
  }

  /** The series of a field. The tags object is the key of a cache: readings of one topic share it. */
  series(measurement: string, tags: Record<string, string>, field: string, kind: Kind): Series {
    let byField = this.byTags.get(tags);
    if (byField === undefined) this.byTags.set(tags, (byField = new Map()));
    const short = `${measurement}\0${field}`;
    const cached = byField.get(short);
    if (cached !== undefined) return cached;
    const key = { measurement, field, tags };
    const name = seriesName(key);
    let series = this.bySeries.get(name);
    if (series === undefined) {
      series = { ...key, id: this.list.length, name, kind, latest: undefined };
      this.list.push(series);
      this.bySeries.set(name, series);
      this.freshSeries.push(series);
    }
    byField.set(short, series);
    return series;
  }

  /** Statements that save what is new. */
  saving(): string[] {
    const statements: string[] = [];
    const { freshSeries, freshOrigins, touched } = this;
    if (freshSeries.length > 0) {
      const rows = freshSeries.map(
        (each) =>
          `(${each.id},${quote(each.measurement)},${quote(each.field)},${quote(JSON.stringify(each.tags))},${quote(each.kind)})`,
      );
      statements.push(`INSERT INTO series VALUES ${rows.join(',')}`);
    }
    if (freshOrigins.length > 0) {
      const rows = freshOrigins.map(
        ({ id, gateway, epoch }) => `(${id},${quote(gateway)},${quote(epoch)})`,
      );
      statements.push(`INSERT INTO origins VALUES ${rows.join(',')}`);
    }
    if (touched.size > 0) {
      const ids = [...touched].map(({ id }) => id).join(',');
      const rows = [...touched].flatMap(({ id, written }) =>
        written.ranges.map(([low, high]) => `(${id},${low},${high})`),
      );
      statements.push(`DELETE FROM written WHERE origin IN (${ids})`);
      if (rows.length > 0) statements.push(`INSERT INTO written VALUES ${rows.join(',')}`);
    }
    return statements;
  }

  saved(): void {
    this.freshSeries = [];
    this.freshOrigins = [];
    this.touched = new Set();
  }

  /** A point of a series: it may be its newest. */
  newest(series: Series, timeMs: number, ns: number, value: FieldValue): void {
    const { latest } = series;
    if (latest === undefined) this.present = undefined;
    else if (timeMs < latest.timeMs || (timeMs === latest.timeMs && ns < latest.ns)) return;
    series.latest = { timeMs, ns, value };
  }

  /** Series that have points, in order of their names: the same in a store that was filled anew. Call `settle` before. */
  all(): readonly Series[] {
    this.present ??= this.list
      .filter(({ latest }) => latest !== undefined)
      .sort((a, b) => (a.name < b.name ? -1 : 1));
    return this.present;
  }

  some(filter: SeriesFilter): readonly Series[] {
    const [tag] = Object.entries(filter.tags ?? {});
    const all = this.all();
    const some = tag === undefined ? all : (byTag(all, tag[0]).get(tag[1]) ?? []);
    return some.filter((series) => matches(series, filter));
  }

  /** Looks up the newest points that are not known. */
  async settle(rows: Rows): Promise<void> {
    if (this.stale.size === 0) return;
    const some = [...this.stale];
    const where =
      some.length === this.list.length
        ? ''
        : `WHERE series IN (${some.map(({ id }) => id).join(',')})`;
    const newest = 'arg_max({t: time, num: num, txt: txt}, (time, origin, seq, idx)) AS newest';
    const found = await rows(
      `SELECT series, newest.t, newest.num, newest.txt FROM (SELECT series, ${newest} FROM points ${where} GROUP BY series)`,
    );
    this.present = undefined;
    for (const series of some) {
      series.latest = undefined;
      this.stale.delete(series);
    }
    for (const [id, time, num, txt] of found) {
      const series = this.list[Number(id)];
      if (series === undefined) continue;
      series.latest = { ...timeOf(time as bigint), value: valueOf(series.kind, num, txt) };
    }
  }
}
