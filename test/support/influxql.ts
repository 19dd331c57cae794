/** A data set and queries in InfluxQL, asked of the embedded store and of a real InfluxDB alike. */
import type { Context } from '../../collector/influxql/job.ts';
import { parseQuery } from '../../collector/influxql/parse.ts';
import { bound, replyTexts, type ReplyOptions } from '../../collector/influxql/reply.ts';
import type { DuckDbStore } from '../../collector/store/duckdb.ts';
import type { Change } from '../../collector/store/store.ts';
import type { FieldValue } from '../../shared/model/reading.ts';

/** 25 March 2023 12:00 UTC: the next night Berlin's clocks go forward. */
export const T0 = 1_679_745_600_000;
export const MINUTE = 60_000;

/** Three rooms and a garden, a reading each minute with gaps, texts, truth values, and one measurement with few points. */
export function sampleChanges(): Change[] {
  const changes: Change[] = [];
  const add = (
    measurement: string,
    tags: Record<string, string>,
    timeMs: number,
    fields: Record<string, FieldValue>,
  ): void => {
    const sequence = changes.length;
    changes.push({
      identity: { gateway: 'g', epoch: 'e', sequence, index: 0 },
      put: { sequence, index: 0, measurement, tags, fields, timeMs, ns: 0 },
    });
  };
  const rooms = [
    { gateway: 'g', room: 'kitchen', topic: 'home/kitchen' },
    { gateway: 'g', room: 'bath', topic: 'home/bath' },
    { gateway: 'h', room: 'attic', topic: 'home/attic' },
    { gateway: 'h', topic: 'garden' },
  ];
  for (let minute = 0; minute < 3000; minute++)
    for (const [at, tags] of rooms.entries()) {
      if ((minute + at) % 7 === 0 || (at === 1 && minute > 400 && minute < 900)) continue;
      const wave =
        Math.sin(minute / 50 + at) * 10 + 20 + ((minute * 7919 + at * 104_729) % 1000) / 500;
      add('climate', tags, T0 + minute * MINUTE + at, {
        temperature: Math.round(wave * 100) / 100,
        ...(minute % 3 === 0 ? { humidity: ((minute * 31) % 97) + 0.5 } : {}),
        ...(minute % 10 === 0
          ? { open_bool: minute % 20 === 0, state_text: minute % 30 === 0 ? 'on' : 'off' }
          : {}),
      });
    }
  for (let hour = 0; hour < 20; hour++)
    add('power meter', { gateway: 'g', phase: `L${(hour % 3) + 1}` }, T0 + hour * 60 * MINUTE, {
      'energy kWh': hour * 1.25,
      count: hour,
    });
  return changes;
}

const RANGE = `time >= ${T0}ms AND time <= ${T0 + 1000 * MINUTE}ms`;
const SHORT = `time >= ${T0 + 5 * MINUTE}ms AND time < ${T0 + 65 * MINUTE}ms`;

/** What dashboards and Grafana's builder ask. */
export const QUERIES: readonly string[] = [
  // Of what a fuzzer beside InfluxDB 1.8 has found (test/fuzz/influxql.ts).
  `SELECT sum("temperature") AS "a b", spread("humidity") AS "a b", max(humidity), max(humidity) FROM climate WHERE ${SHORT}`,
  `SELECT temperature AS t, temperature AS t, temperature, temperature FROM climate WHERE ${SHORT} LIMIT 3`,
  `SELECT * FROM climate WHERE ${SHORT} GROUP BY /^r/`,
  `SELECT first(temperature), derivative(max(temperature), 1s), cumulative_sum(count(humidity)) FROM climate WHERE time > ${T0 + 105 * MINUTE}ms AND time < ${T0 + 126 * MINUTE}ms GROUP BY time(10m), room`,
  `SELECT sum(temperature), moving_average(first(temperature), 2) FROM climate WHERE time >= ${T0 + 700 * MINUTE}ms AND time <= ${T0 + 705 * MINUTE}ms GROUP BY time(1w) fill(none) tz('Europe/Berlin')`,
  `SELECT percentile(v, 50) FROM (SELECT mean(temperature) AS v FROM climate GROUP BY room) WHERE time > ${T0 + 701 * MINUTE}ms AND time < ${T0 + 800 * MINUTE}ms GROUP BY time(10m) fill(0)`,
  `SELECT spread(v) FROM (SELECT difference(temperature) AS v FROM climate GROUP BY room) WHERE ${SHORT} GROUP BY time(30m), room`,
  `SELECT count(temperature) FROM climate WHERE ${RANGE} GROUP BY room ORDER BY time DESC LIMIT 20 SLIMIT 1`,
  `SELECT median(temperature) FROM nowhere WHERE ${SHORT} AND temperature - humidity > 6`,
  `SELECT count(humidity), integral(humidity, 1m) FROM climate WHERE ${SHORT} AND room = 'attic'`,
  // What has no field, beside what has one; of points up to now as well.
  `SELECT nothing, temperature FROM climate WHERE time >= ${T0 + 2990 * MINUTE}ms LIMIT 3`,
  `SELECT derivative(last(temperature)), min(temperature) FROM climate WHERE time >= ${T0 + 2950 * MINUTE}ms AND time < ${T0 + 3001 * MINUTE}ms GROUP BY time(10m), room`,
  `SELECT difference(count(distinct(temperature))), sum(nothing) FROM climate WHERE ${SHORT} GROUP BY time(7m) fill(-1.5)`,
  `SELECT count(humidity) FROM climate WHERE ${SHORT} GROUP BY time(1m) fill(linear)`,
  `SELECT temperature FROM climate WHERE ${SHORT} GROUP BY * LIMIT 1 SLIMIT 2 SOFFSET 1`,
  `SELECT mean(temperature), derivative(max(temperature), 1m) FROM climate WHERE ${SHORT} GROUP BY time(10m) fill(none) LIMIT 2`,
  `SELECT first(v), room FROM (SELECT temperature AS v FROM climate) WHERE ${SHORT} GROUP BY room`,
  `SELECT last(v), room FROM (SELECT temperature AS v FROM climate GROUP BY room) WHERE ${SHORT} GROUP BY room`,
  `SELECT v FROM (SELECT max(temperature) AS v FROM climate GROUP BY time(10m)) WHERE ${SHORT}`,
  `SELECT stddev(humidity), count(humidity) FROM climate WHERE ${SHORT} AND open_bool = true GROUP BY time(5m) fill(previous)`,
  `SELECT derivative(stddev(humidity)) FROM climate WHERE ${SHORT} AND room = 'attic' GROUP BY time(3m) fill(none)`,
  `SELECT first(temperature), humidity, topic FROM climate WHERE time >= ${T0 + 2900 * MINUTE}ms AND time < ${T0 + 4000 * MINUTE}ms GROUP BY time(5h) fill(7)`,
  `SELECT distinct(state_text) FROM climate WHERE ${RANGE} GROUP BY time(5h, 15m), * ORDER BY time DESC`,
  `SELECT temperature FROM climate WHERE (topic =~ /home\\/k/ OR (humidity > 84 AND room = 'none')) AND ${SHORT} GROUP BY room SLIMIT 1`,
  // Of a type that a function does not take; of no such series that is nothing.
  `SELECT stddev(open_bool) FROM climate WHERE topic !~ /./ AND ${SHORT}`,
  'SHOW TAG KEYS FROM //',
  // A selector beside what its point has else.
  'SELECT last("temperature"), "humidity" FROM climate',
  `SELECT last("temperature"), "humidity", "room" FROM climate WHERE ${RANGE} GROUP BY "gateway"`,
  `SELECT first("temperature"), "humidity", "open_bool", "state_text" FROM climate WHERE ${RANGE} GROUP BY "room"`,
  `SELECT max("temperature"), "humidity", "room" FROM climate WHERE ${RANGE} GROUP BY time(1h)`,
  `SELECT min("temperature"), "humidity" FROM climate WHERE ${RANGE} GROUP BY time(1h), "room" fill(none)`,
  `SELECT max("temperature"), "humidity" FROM climate WHERE ${RANGE} GROUP BY time(1h), "room" ORDER BY time DESC LIMIT 7`,
  `SELECT percentile("temperature", 75), "humidity" FROM climate WHERE ${SHORT} AND "room" =~ /attic|kitchen/ GROUP BY "room"`,
  `SELECT last("humidity"), "temperature" AS "t", "topic" FROM climate WHERE ${RANGE} AND "temperature" > 25 GROUP BY time(2h) fill(none)`,
  `SELECT last("state_text"), "temperature" FROM climate WHERE ${RANGE} GROUP BY "room"`,
  `SELECT last("temperature") * 2 AS "twice", "humidity" + 1 AS "more" FROM climate WHERE ${RANGE} GROUP BY time(5h) fill(none)`,
  `SELECT "humidity", max("temperature") FROM climate WHERE ${RANGE} AND "room" = 'bath' GROUP BY time(1h) fill(0)`,
  `SELECT max("temperature"), "humidity" FROM climate WHERE ${RANGE} AND "room" = 'bath' GROUP BY time(1h) fill(previous)`,
  `SELECT max("temperature"), "humidity" FROM climate WHERE ${RANGE} AND "room" = 'bath' GROUP BY time(1h) fill(linear)`,
  `SELECT last("temperature"), "nothing" FROM climate WHERE ${RANGE} GROUP BY "room"`,
  ...[
    'mean',
    'median',
    'min',
    'max',
    'first',
    'last',
    'sum',
    'count',
    'spread',
    'stddev',
    'integral',
  ].flatMap((fn) => [
    `SELECT ${fn}("temperature") FROM "climate" WHERE ${RANGE}`,
    `SELECT ${fn}("temperature") FROM "climate" WHERE ${RANGE} GROUP BY time(1h) fill(null)`,
    `SELECT ${fn}("temperature") FROM "climate" WHERE ${RANGE} GROUP BY time(2h), "room" fill(none)`,
  ]),
  `SELECT first(temperature) FROM climate`,
  `SELECT mean(temperature) FROM climate`,
  `SELECT count(*) FROM climate`,
  `SELECT mean(*) FROM climate GROUP BY room`,
  `SELECT mean(/^t|^h/) FROM climate GROUP BY *`,
  ...['null', 'none', 'previous', 'linear', '0', '-1.5'].flatMap((fill) => [
    `SELECT mean("temperature") FROM "climate" WHERE ("room"::tag = 'bath') AND ${RANGE} GROUP BY time(37m), "room"::tag fill(${fill})`,
    `SELECT mean("humidity"), count("humidity") FROM "climate" WHERE ${SHORT} GROUP BY time(1m), "room" fill(${fill})`,
  ]),
  `SELECT count(temperature) FROM climate WHERE ${RANGE} AND room = 'bath' GROUP BY time(1h)`,
  `SELECT percentile("temperature", 95), percentile("temperature", 5) FROM climate WHERE ${RANGE} GROUP BY time(3h)`,
  `SELECT percentile("temperature", 50) FROM climate WHERE ${RANGE} GROUP BY room`,
  `SELECT mean("temperature") AS "a b", max("humidity") FROM "autogen"."climate" WHERE ("room" =~ /^(kitchen|at.*)$/ AND "gateway"::tag = 'g') AND ${RANGE} GROUP BY time(1h), "room" fill(null) ORDER BY time DESC LIMIT 5`,
  `SELECT mean(temperature) FROM climate WHERE ${RANGE} GROUP BY time(1h), room LIMIT 3 OFFSET 2`,
  `SELECT mean(temperature) FROM climate WHERE ${RANGE} GROUP BY time(6h), room SLIMIT 2 SOFFSET 1`,
  `SELECT mean(temperature) FROM climate WHERE room !~ /kit/ AND ${RANGE} GROUP BY room`,
  `SELECT mean(temperature) FROM climate WHERE room = '' AND ${RANGE} GROUP BY room`,
  `SELECT mean(temperature) FROM climate WHERE (room = 'bath' OR room = 'attic') AND ${RANGE} GROUP BY time(5h)`,
  `SELECT mean(temperature) FROM climate WHERE topic =~ /home\\/k/ AND ${RANGE}`,
  `SELECT mean(temperature) FROM climate WHERE humidity > 50 AND ${RANGE} GROUP BY time(4h)`,
  `SELECT count(temperature) FROM climate WHERE (humidity > 50 OR room = 'bath') AND ${RANGE}`,
  `SELECT count(temperature) FROM climate WHERE state_text = 'on' AND ${RANGE}`,
  `SELECT count(temperature) FROM climate WHERE state_text =~ /^of/ AND ${RANGE}`,
  `SELECT count(temperature) FROM climate WHERE open_bool = true AND ${RANGE}`,
  `SELECT temperature FROM climate WHERE temperature > 31 AND ${RANGE}`,
  `SELECT temperature, humidity FROM climate WHERE ${SHORT}`,
  `SELECT * FROM climate WHERE ${SHORT}`,
  `SELECT * FROM climate WHERE ${SHORT} GROUP BY room`,
  `SELECT temperature, room FROM climate WHERE ${SHORT} LIMIT 10`,
  `SELECT temperature FROM climate WHERE ${SHORT} ORDER BY time DESC LIMIT 7`,
  `SELECT temperature FROM climate WHERE ${SHORT} GROUP BY room ORDER BY time DESC LIMIT 2`,
  `SELECT temperature * 2 + humidity FROM climate WHERE ${SHORT}`,
  `SELECT temperature / humidity AS r, round(temperature) FROM climate WHERE ${SHORT} AND room = 'attic'`,
  `SELECT mean(temperature) / max(humidity), sum(humidity) - 3 FROM climate WHERE ${RANGE} GROUP BY time(2h)`,
  `SELECT state_text, open_bool FROM climate WHERE ${SHORT}`,
  `SELECT last(state_text), first(open_bool) FROM climate WHERE ${RANGE} GROUP BY time(3h)`,
  `SELECT distinct(state_text) FROM climate WHERE ${RANGE}`,
  `SELECT count(distinct(humidity)) FROM climate WHERE ${RANGE} GROUP BY time(5h)`,
  `SELECT mode(state_text) FROM climate WHERE ${RANGE} GROUP BY time(6h), room`,
  `SELECT top(temperature, 3) FROM climate WHERE ${RANGE}`,
  `SELECT bottom(temperature, 2) FROM climate WHERE ${RANGE} GROUP BY room`,
  ...[
    'derivative(mean(temperature))',
    'derivative(mean(temperature), 10s)',
    'non_negative_derivative(max(temperature), 1m)',
    'difference(mean(temperature))',
    'non_negative_difference(last(temperature))',
    'moving_average(mean(temperature), 3)',
    'cumulative_sum(mean(temperature))',
    'difference(count(temperature))',
  ].flatMap((fn) => [
    `SELECT ${fn} FROM climate WHERE ${RANGE} GROUP BY time(1h) fill(null)`,
    `SELECT ${fn} FROM climate WHERE ${RANGE} GROUP BY time(1h), room fill(none)`,
    `SELECT ${fn} FROM climate WHERE time >= ${T0 + 100 * MINUTE}ms AND time <= ${T0 + 400 * MINUTE}ms GROUP BY time(25m), room fill(previous)`,
  ]),
  ...[
    'derivative(temperature)',
    'derivative(temperature, 1m)',
    'difference(temperature)',
    'moving_average(temperature, 4)',
    'cumulative_sum(temperature)',
    'elapsed(temperature, 1s)',
    'non_negative_derivative(temperature, 1s)',
  ].map((fn) => `SELECT ${fn} FROM climate WHERE ${SHORT} AND room = 'kitchen'`),
  `SELECT moving_average(derivative(mean(temperature), 1m), 2) FROM climate WHERE ${RANGE} GROUP BY time(1h)`,
  `SELECT mean("x") FROM (SELECT max("temperature") AS "x" FROM "climate" WHERE ${RANGE} GROUP BY time(10m), "room") WHERE ${RANGE} GROUP BY time(1h) fill(null)`,
  `SELECT sum(m) FROM (SELECT mean(temperature) AS m FROM climate GROUP BY room) WHERE ${RANGE} GROUP BY time(2h)`,
  `SELECT max(m) FROM (SELECT mean(temperature) AS m FROM climate GROUP BY room) WHERE ${RANGE}`,
  `SELECT mean(d) FROM (SELECT difference(temperature) AS d FROM climate WHERE ${SHORT} GROUP BY room) GROUP BY room`,
  `SELECT count(temperature) FROM (SELECT temperature FROM climate WHERE ${RANGE}) GROUP BY room`,
  `SELECT mean(temperature) FROM climate WHERE ${RANGE} GROUP BY time(1d) tz('Europe/Berlin')`,
  `SELECT mean(temperature) FROM climate WHERE time >= '2023-03-25' AND time < '2023-03-28' GROUP BY time(1d), room tz('Europe/Berlin')`,
  `SELECT count(temperature) FROM climate WHERE time >= '2023-03-25' AND time < '2023-03-28' GROUP BY time(6h) fill(0) tz('America/New_York')`,
  `SELECT mean(temperature) FROM climate WHERE ${RANGE} GROUP BY time(1h, 15m)`,
  `SELECT mean(temperature) FROM climate WHERE ${RANGE} GROUP BY time(1h, -10m) fill(none)`,
  `SELECT mean(temperature) FROM climate WHERE time > '2023-03-25T12:00:00Z' AND time < '2023-03-25 14:00:00'`,
  `SELECT mean("energy kWh") FROM "power meter" GROUP BY phase`,
  `SELECT sum("energy kWh") FROM /.*/`,
  `SELECT mean(temperature), mean("energy kWh") FROM climate, "power meter" WHERE ${RANGE}`,
  `SELECT nothing FROM climate`,
  `SELECT mean(temperature) FROM nowhere`,
  `SELECT mean(temperature) FROM climate WHERE time > ${T0 + 9_000_000 * MINUTE}ms GROUP BY time(1h) fill(0)`,
  `SELECT mean(temperature) FROM climate WHERE ${SHORT}; SELECT max(humidity) FROM climate WHERE ${SHORT}`,
  `SHOW MEASUREMENTS`,
  `SHOW MEASUREMENTS WITH MEASUREMENT =~ /(?i)CLI/ LIMIT 100`,
  `SHOW MEASUREMENTS WITH MEASUREMENT = "climate"`,
  `SHOW TAG KEYS`,
  `SHOW TAG KEYS FROM "climate"`,
  `SHOW FIELD KEYS FROM "autogen"."climate"`,
  `SHOW FIELD KEYS`,
  `SHOW TAG VALUES WITH KEY = "room"`,
  `SHOW TAG VALUES FROM "climate" WITH KEY IN ("room", "topic") WHERE "gateway" = 'h'`,
  `SHOW TAG VALUES FROM climate WITH KEY =~ /^(room|topic)$/ LIMIT 3`,
  `SHOW SERIES`,
  `SHOW SERIES FROM climate WHERE room =~ /a/`,
];

/** The embedded store's answer; what it has in memory of small questions is held against what SQL says. */
export async function askEmbedded(
  store: DuckDbStore,
  q: string,
  options: Partial<ReplyOptions> = {},
): Promise<unknown> {
  const inSql = await answerOf(store, q, options, {});
  const recent: Context['recent'] = (...asked) => store.recent(...asked);
  for (const _time of ['read', 'from memory']) {
    const found = difference(await answerOf(store, q, options, { recent }), inSql);
    if (found !== undefined)
      throw new Error(`${q}: a small question is answered otherwise: ${found}`);
  }
  return inSql;
}

async function answerOf(
  store: DuckDbStore,
  q: string,
  options: Partial<ReplyOptions>,
  recent: Pick<Context, 'recent'>,
): Promise<unknown> {
  const session = await store.session({ timeoutMs: 30_000, signal: undefined });
  try {
    let text = '';
    const params = options.params ?? {};
    const statements = bound(parseQuery(q), params);
    const context = {
      session,
      series: await store.known(),
      nowNs: BigInt(T0 + 3000 * MINUTE) * 1_000_000n,
      ...recent,
    };
    for await (const part of replyTexts(statements, context, {
      epoch: 'ns',
      chunkRows: undefined,
      params,
      ...options,
    }))
      text += part;
    return options.chunkRows === undefined
      ? JSON.parse(text)
      : text
          .trim()
          .split('\n')
          .map((line) => JSON.parse(line) as unknown);
  } finally {
    await session.close();
  }
}

/** Where two answers differ, in words; undefined: nowhere. Numbers within 1e-9 of each other are the same. */
export function difference(a: unknown, b: unknown, path = ''): string | undefined {
  if (typeof a === 'number' && typeof b === 'number')
    return Math.abs(a - b) <= 1e-9 * Math.max(1, Math.abs(a), Math.abs(b))
      ? undefined
      : `${path}: ${a} and ${b}`;
  if (typeof a === 'object' && typeof b === 'object' && a !== null && b !== null) {
    const [x, y] = [a as Record<string, unknown>, b as Record<string, unknown>];
    const size =
      Array.isArray(a) && Array.isArray(b) && a.length !== b.length
        ? ` (${a.length} and ${b.length})`
        : '';
    for (const key of new Set([...Object.keys(x), ...Object.keys(y)])) {
      const found = difference(x[key], y[key], `${path}${size}.${key}`);
      if (found !== undefined) return found;
    }
    return undefined;
  }
  return a === b ? undefined : `${path}: ${JSON.stringify(a)} and ${JSON.stringify(b)}`;
}

export interface Result {
  series?: { name?: string; tags?: object; values: unknown[] }[];
}

/** InfluxDB may give one series in several pieces (`integral` over buckets and tags): they are put together, in order. */
export function merged(results: readonly Result[]): unknown {
  return results.map(({ series = [], ...rest }) => {
    const all = new Map<string, (typeof series)[number]>();
    for (const each of series) {
      const key = JSON.stringify([each.name, each.tags]);
      const before = all.get(key);
      if (before === undefined) all.set(key, { ...each, values: [...each.values] });
      else before.values.push(...each.values);
    }
    return { ...rest, series: [...all.values()] };
  });
}
