/**
 * A store that keeps no identities (InfluxDB): its points are compared with the lake's by series, time to the nanosecond,
 * field and value, a day at a time. What of two readings at one place counts, it cannot tell: either is right.
 */
import type { FieldValue, Reading } from '../../shared/model/reading.ts';
import { appendValue, type DuckDBConnection } from '../duckdb/database.ts';
import { pointsOfReadings } from '../duckdb/points.ts';
import { timeOf } from '../duckdb/nanos.ts';
import { seriesText } from '../lake/rows.ts';
import { identityName } from '../store/changes.ts';
import type { Change, Identity, StoredPoint, TimeSeriesStore } from '../store/store.ts';
import type { StoreStage } from '../store/stage.ts';
import { dayOf, type Pacing, type Total } from './compare.ts';
import type { Found } from './findings.ts';
import type { LakeSide } from './lake-side.ts';

const HOUR_MS = 3_600_000;
/** Of a day: the rest is found in the next pass. */
const POINTS_MAX = 50_000;

/** The lake has it, and the store not at that place. */
interface Lacking {
  identity: Identity;
  day: string;
  /** Time and series. */
  address: string;
}

/** The store has it, and the lake not. */
interface Strange {
  reading: Reading;
  address: string;
}

export interface PlaceDifferences {
  /** Series, time, field and value → whose it is. */
  lacking: Map<string, Lacking>;
  strange: Map<string, Strange>;
  /** Points of both sides. */
  lake: Total;
  store: Total;
}

/** Series as InfluxDB keeps them: an empty tag is none. */
const EMPTY = "',([^,=\\\\]|\\\\.)+=,'";
const cut = (sql: string): string => `regexp_replace(${sql}, ${EMPTY}, ',', 'g')`;
const SERIES = `CASE WHEN contains(series, '=,') OR ends_with(series, '=') THEN rtrim(${cut(cut("series || ','"))}, ',') ELSE series END`;
const SUMS = `count(*), CAST(coalesce(sum(hash(hash(time_ns, series, field, num, txt))), 0) % 18446744073709551616 AS UBIGINT)`;
const SAME =
  'l.time_ns = s.time_ns AND l.series = s.series AND l.field = s.field AND l.num IS NOT DISTINCT FROM s.num AND l.txt IS NOT DISTINCT FROM s.txt';

export class Places {
  private readonly lake: LakeSide;
  private readonly store: TimeSeriesStore;
  private readonly pacing: Pacing;

  constructor(lake: LakeSide, store: TimeSeriesStore, pacing: Pacing) {
    this.lake = lake;
    this.store = store;
    this.pacing = pacing;
  }

  /** Of the lake's days, as far back as the store keeps them. */
  async days(): Promise<string[]> {
    const keeps = this.store.keepsFromMs?.() ?? Number.NEGATIVE_INFINITY;
    const days = (await this.lake.days()).filter((day) => Date.parse(day) >= keeps);
    return days.filter((day) => !this.lake.isHealing(day)).sort();
  }

  async compare(days: Iterable<string>): Promise<PlaceDifferences> {
    const zero = (): Total => ({ points: 0, digest: 0n });
    const found: PlaceDifferences = {
      lacking: new Map(),
      strange: new Map(),
      lake: zero(),
      store: zero(),
    };
    for (const day of days) {
      if (this.pacing.isStopped()) break;
      const began = performance.now();
      await this.lake.onDay(day, (connection, readings) =>
        this.day(connection, readings, day, found),
      );
      await this.pacing.rest(performance.now() - began);
    }
    return found;
  }

  private async day(
    connection: DuckDBConnection,
    readings: string,
    day: string,
    found: PlaceDifferences,
  ): Promise<void> {
    await connection.run(
      `CREATE OR REPLACE TEMP TABLE in_lake AS SELECT gateway, epoch, sequence, idx, time_ns, ${SERIES} AS series, field, num, txt FROM (${pointsOfReadings(readings)})`,
    );
    await connection.run(
      'CREATE OR REPLACE TEMP TABLE in_store (time_ns BIGINT, series VARCHAR, field VARCHAR, num DOUBLE, txt VARCHAR, number INTEGER)',
    );
    const series = await this.stage(connection, Date.parse(day));
    for (const [table, total] of [
      ['in_lake', found.lake],
      ['in_store', found.store],
    ] as const) {
      const [row] = (await connection.runAndReadAll(`SELECT ${SUMS} FROM ${table}`)).getRows();
      total.points += Number(row?.[0] ?? 0);
      total.digest = BigInt.asUintN(64, total.digest + ((row?.[1] ?? 0n) as bigint));
    }
    // Another reading may be at the same place: then either is right.
    const lacking = `SELECT gateway, epoch, sequence, idx, time_ns, series, field, num, txt FROM in_lake AS l ANTI JOIN in_store AS s ON l.time_ns = s.time_ns AND l.series = s.series AND l.field = s.field`;
    const wrong = `SELECT s.* FROM in_store AS s ANTI JOIN in_lake AS l ON ${SAME}`;
    const owners = `SELECT gateway, epoch, sequence, idx, l.time_ns, l.series, l.field, l.num, l.txt FROM in_lake AS l SEMI JOIN (${wrong}) AS s ON l.time_ns = s.time_ns AND l.series = s.series`;
    for (const row of await rows(connection, `${lacking} UNION ${owners} LIMIT ${POINTS_MAX}`)) {
      const [gateway, epoch, sequence, index, ...place] = row;
      const identity = {
        gateway: String(gateway),
        epoch: String(epoch),
        sequence: Number(sequence),
        index: Number(index),
      };
      const [time, name] = place.map(String) as [string, string];
      found.lacking.set(keyOf(place), { identity, day, address: addressOf(time, name) });
    }
    for (const [time, name, field, num, txt, number] of await rows(
      connection,
      `${wrong} LIMIT ${POINTS_MAX}`,
    )) {
      const of = series[Number(number)];
      if (of === undefined) continue;
      const at = timeOf(time as bigint); // A BIGINT column.
      const value: FieldValue = typeof txt === 'string' ? txt : Number(num);
      const fields = { [String(field)]: value };
      found.strange.set(keyOf([time, name, field, num, txt]), {
        reading: { ...of, fields, sequence: 0, index: 0, ...at },
        address: addressOf(String(time), String(name)),
      });
    }
  }

  /** The table `in_store` of a day; gives what its rows' numbers stand for. */
  private async stage(
    connection: DuckDBConnection,
    fromMs: number,
  ): Promise<Pick<Reading, 'measurement' | 'tags'>[]> {
    const list: Pick<Reading, 'measurement' | 'tags'>[] = [];
    const numbers = new Map<string, number>();
    const appender = await connection.createAppender('in_store');
    const add = ({ measurement, tags, field, timeNs, value }: StoredPoint): void => {
      const name = seriesText(measurement, tags);
      let number = numbers.get(name);
      if (number === undefined) {
        numbers.set(name, (number = list.length));
        list.push({ measurement, tags });
      }
      appender.appendBigInt(timeNs);
      appender.appendVarchar(name);
      appender.appendVarchar(field);
      appendValue(appender, value);
      appender.appendInteger(number);
      appender.endRow();
    };
    for (let hour = 0; hour < 24 && !this.pacing.isStopped(); hour++) {
      const from = fromMs + hour * HOUR_MS;
      for await (const points of this.store.scan?.(from, from + HOUR_MS) ?? []) points.forEach(add);
    }
    appender.closeSync();
    return list;
  }

  /** Puts the store right; gives what it was that differed, and whether it does no more. */
  async mend(storing: StoreStage, { lacking, strange }: PlaceDifferences): Promise<Found[]> {
    const days = new Set([...lacking.values()].map(({ day }) => day));
    for (const { reading } of strange.values()) days.add(dayOf(reading.timeMs));
    const asked = [...lacking.values()].map(({ identity }) => identity);
    const nobody = { gateway: '', epoch: '', sequence: 0, index: 0 };
    const was = [...strange.values()].map(({ reading }) => reading);
    const gone: Change = { identity: nobody, put: undefined, was };
    const refused = await storing.mend(async () => [
      ...(strange.size === 0 ? [] : [gone]),
      ...(await this.lake.changes(asked, days)),
    ]);
    // What it will never take is in quarantine with its reason, and is no difference.
    const never = new Set(
      refused.flatMap(({ changes }) => changes.map(({ identity }) => identityName(identity))),
    );
    const after = await this.compare(days);
    const owned = new Set([...lacking.values()].map(({ address }) => address));
    const found: Found[] = [];
    const said = new Set<string>();
    for (const [name, { identity }] of lacking) {
      const own = identityName(identity);
      if (never.has(own) || said.has(own)) continue;
      said.add(own);
      const mended = after.lacking.has(name) ? 'no' : 'yes';
      const verdict = { stage: 'store', kind: 'differs', from: 'lake' } as const;
      found.push({ identity, verdict, mended });
    }
    for (const [name, { reading, address }] of strange) {
      if (owned.has(address)) continue;
      const identity = { ...nobody, gateway: reading.tags['gateway'] ?? '' };
      const mended = after.strange.has(name) ? 'no' : 'yes';
      found.push({ identity, verdict: { stage: 'store', kind: 'extra', from: 'lake' }, mended });
    }
    return found;
  }
}

const keyOf = (place: readonly unknown[]): string => JSON.stringify(place.map(String));
const addressOf = (time: string, series: string): string => JSON.stringify([time, series]);

async function rows(connection: DuckDBConnection, sql: string): Promise<unknown[][]> {
  return (await connection.runAndReadAll(sql)).getRows();
}

/** What is in both, as it was. */
export function stayed(before: PlaceDifferences, now: PlaceDifferences): PlaceDifferences {
  const { lake, store } = now;
  return {
    lacking: new Map([...now.lacking].filter(([name]) => before.lacking.has(name))),
    strange: new Map([...now.strange].filter(([name]) => before.strange.has(name))),
    lake,
    store,
  };
}
