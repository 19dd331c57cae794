/** Stream rules: what they compute, whatever the order, and what of a wrong one is said. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { beforeAll, describe, expect, it } from 'vitest';
import { Lake } from '../../collector/lake/lake.ts';
import { LocalObjects } from '../../collector/lake/local.ts';
import { LakeStage } from '../../collector/lake/stage.ts';
import { EmbeddedLog } from '../../collector/log/embedded.ts';
import { topics } from '../../collector/log/topics.ts';
import {
  HEADER_AGAIN,
  TOPIC_LEDGER,
  TOPIC_READINGS,
  TOPIC_RESULTS,
  type LogRecord,
} from '../../collector/log/log.ts';
import { LedgerView } from '../../collector/ledger/view.ts';
import { loadEngine } from '../../collector/sandbox/sandbox.ts';
import { Aggregate } from '../../collector/stream/aggregate.ts';
import { parseDelivery } from '../../collector/stream/delivery/targets.ts';
import { explainSilence } from '../../collector/stream/silence.ts';
import { parseExpression } from '../../collector/stream/expression.ts';
import { parseRules, type Rule } from '../../collector/stream/rules.ts';
import { StreamStage } from '../../collector/stream/stage.ts';
import type { Silence } from '../../collector/stream/tracks.ts';
import type { Reading } from '../../shared/model/reading.ts';
import { decodeReadings, encodeReadings } from '../../shared/model/readings-record.ts';
import { temporaryFolder, until } from '../support/process.ts';
import { rng, seeded } from '../support/seed.ts';

beforeAll(async () => await loadEngine());

const rulesOf = (text: string, read: (name: string) => string = () => ''): Rule[] =>
  parseRules(text, 'rules.yaml', read);

describe.concurrent('aggregates', () => {
  const finite = fc.double({ noNaN: true, noDefaultInfinity: true, min: -1e12, max: 1e12 });
  const names = [
    'count',
    'sum',
    'mean',
    'min',
    'max',
    'range',
    'first',
    'last',
    'stddev',
    'median',
    'p5',
    'p95',
    'p99.9',
  ];
  const of = (values: readonly { value: number; timeMs: number }[]): (number | undefined)[] => {
    const aggregate = new Aggregate(names);
    for (const [at, { value, timeMs }] of values.entries())
      aggregate.add({ timeMs, ns: 0, id: `${timeMs}/${value}/${at < 0}`, value });
    return names.map((name) => aggregate.result(name));
  };

  it('are the same in every order', () => {
    fc.assert(
      fc.property(
        fc.uniqueArray(fc.record({ value: finite, timeMs: fc.nat(1e9) }), {
          minLength: 1,
          maxLength: 60,
          selector: ({ timeMs }) => timeMs,
        }),
        fc.integer(),
        (values, seed) => {
          const next = rng(seed);
          const shuffled = values
            .map((each) => ({ each, at: next() }))
            .sort((a, b) => a.at - b.at)
            .map(({ each }) => each);
          expect(of(shuffled)).toEqual(of(values));
        },
      ),
    );
  });

  it('are the same after their state was kept and taken up', () => {
    const values = [1.1, 2.2, 3.3, 1e9, -7];
    const whole = new Aggregate(names);
    let kept = new Aggregate(names);
    for (const [at, value] of values.entries()) {
      const edge = { timeMs: at, ns: 0, id: String(at), value };
      whole.add(edge);
      kept.add(edge);
      const state = JSON.parse(JSON.stringify(kept.state)) as typeof kept.state;
      kept = new Aggregate(names, state, JSON.parse(JSON.stringify(kept.values)) as number[]);
    }
    expect(names.map((name) => kept.result(name))).toEqual(names.map((name) => whole.result(name)));
  });

  it('sum exactly, where adding one after the other does not', () => {
    const aggregate = new Aggregate(['sum', 'mean', 'stddev']);
    for (const [at, value] of [1e16, 1, -1e16, 1].entries())
      aggregate.add({ timeMs: at, ns: 0, id: '', value });
    expect(aggregate.result('sum')).toBe(2);
    const close = new Aggregate(['stddev']);
    for (const [at, value] of [1e9 + 1, 1e9 + 2, 1e9 + 3].entries())
      close.add({ timeMs: at, ns: 0, id: '', value });
    expect(close.result('stddev')).toBe(1);
  });

  it('percentiles are those of NumPy (linear), the deviation that of a sample', () => {
    const aggregate = new Aggregate(names);
    for (const [at, value] of [15, 20, 35, 40, 50].entries())
      aggregate.add({ timeMs: at, ns: 0, id: '', value });
    // numpy.percentile([15, 20, 35, 40, 50], [5, 50, 95, 99.9]) and numpy.std(…, ddof=1)
    expect(aggregate.result('p5')).toBeCloseTo(16, 12);
    expect(aggregate.result('median')).toBe(35);
    expect(aggregate.result('p95')).toBeCloseTo(48, 12);
    expect(aggregate.result('p99.9')).toBeCloseTo(49.96, 12);
    expect(aggregate.result('stddev')).toBeCloseTo(14.40486029088793, 12);
  });
});

describe.concurrent('expressions', () => {
  const value = (text: string, names: Record<string, number> = {}): number | undefined =>
    parseExpression(text, 'x').evaluate((name) => names[name]);

  it.each([
    ['1 + 2 * 3', 7],
    ['(1 + 2) * 3', 9],
    ['2 ^ 3 ^ 2', 512],
    ['-2 ^ 2', -4],
    ['10 - 4 - 3', 3],
    ['7 % 4', 3],
    ['1 < 2 && 2 < 1', 0],
    ['1 > 2 ? 5 : 6', 6],
    ['max(1, 2, 3) + min(4, 5)', 7],
    ['round(2.4) + abs(-1)', 3],
    ['clamp(12, 0, 10)', 10],
    ['1e3 + .5', 1000.5],
    ['!0', 1],
    ['ln(exp(2))', 2],
  ])('%s is %s', (text, result) => expect(value(text)).toBe(result));

  it('use names, and give nothing where one is missing or the result is no number', () => {
    expect(value('temperature - (100 - humidity) / 5', { temperature: 20, humidity: 50 })).toBe(10);
    expect(value('{air temp} * 2', { 'air temp': 4 })).toBe(8);
    expect(value('a + b', { a: 1 })).toBeUndefined();
    expect(value('1 / 0')).toBeUndefined();
    expect(value('sqrt(0 - 1)')).toBeUndefined();
  });

  it.each([
    '',
    '1 +',
    '(1',
    'foo(1)',
    'min()',
    '1 2',
    'a b',
    'a = 1',
    '{',
    "process.exit('x')",
    '('.repeat(200),
  ])('what is none is one clear sentence: %s', (text) =>
    expect(() => parseExpression(text, 'rules.yaml: rules[0].derive.x')).toThrow(
      /^rules\.yaml: rules\[0\]\.derive\.x: /,
    ));
});

describe.concurrent('rules', () => {
  const from = 'from: { measurement: m }';
  it.each([
    ['rules: 1', /is not a list/],
    ['x: 1', /'x' is not known/],
    ['rules: [{ name: "a b" }]', /name 'a b' is not a name/],
    [`rules: [{ name: a, ${from} }]`, /is one of window, derive, alert, function/],
    [`rules: [{ name: a, ${from}, window: 5 }]`, /'5' is not a duration/],
    [`rules: [{ name: a, ${from}, window: { size: 10m, every: 3m } }]`, /multiple of every/],
    [
      `rules: [{ name: a, ${from}, window: 1m, compute: [avg] }]`,
      /'avg' is no aggregate; known are count/,
    ],
    [`rules: [{ name: a, window: 1m, from: {} }]`, /measurement is missing/],
    [
      `rules: [{ name: a, window: 1m, from: { measurement: m, topic: x } }]`,
      /'topic' is not known/,
    ],
    [`rules: [{ name: a, ${from}, derive: { x: "1 +" } }]`, /ends too early/],
    [`rules: [{ name: a, ${from}, alert: { clear: 1 } }]`, /needs above or below/],
    [`rules: [{ name: a, ${from}, alert: { above: 1, clear: 2 } }]`, /is not above the bound/],
    [`rules: [{ name: a, ${from}, alert: { above: x } }]`, /'x' is not a number/],
    [
      `rules: [{ name: a, ${from}, window: 1m }, { name: a, ${from}, window: 1m }]`,
      /two are named 'a'/,
    ],
    [
      `rules: [{ name: a, ${from}, window: 1m }, { name: b, measurement: a, ${from}, window: 1m }]`,
      /both write the measurement 'a'/,
    ],
    [
      `rules: [{ name: a, window: 1m, inputs: { x: { measurement: m } }, derive: { d: x } }]`,
      /needs group/,
    ],
    [
      `rules: [{ name: a, window: 1m, group: [], inputs: { x: { measurement: m } }, derive: { d: y } }]`,
      /there is no input 'y'/,
    ],
    ['rules: [', /rules\.yaml: /],
  ])('%s is refused with what, where and why', (text, message) => {
    expect(() => rulesOf(text)).toThrow(message);
    expect(() => rulesOf(text)).toThrow(/^rules\.yaml/);
  });

  it('a function that is no TypeScript, or has no step, is refused', () => {
    const rule = 'rules: [{ name: a, from: { measurement: m }, function: f.ts }]';
    expect(() => rulesOf(rule, () => 'let = ;')).toThrow(/^f\.ts: /);
    const [made] = rulesOf(rule, () => 'export const x = 1;');
    expect(() => made?.kind === 'function' && made.run.check()).toThrow(
      /f\.ts: has no function step/,
    );
  });

  it.each([
    ['deliver: [{ name: a }]', /one of webhook, mail, mqtt/],
    ['deliver: [{ name: a, webhook: "ftp://x" }]', /is not an address/],
    ['deliver: [{ name: a, webhook: "http://u:p@x" }]', /has credentials in it/],
    ['deliver: [{ name: a, mail: "smtp://x", from: a }]', /to is missing/],
    ['deliver: [{ name: a, mqtt: "mqtt://x" }]', /topic is missing/],
    ['deliver: [{ name: a, webhook: "http://x", to: y }]', /'to' is not known/],
  ])('%s is refused', (text, message) =>
    expect(() => parseDelivery(text, 'rules.yaml')).toThrow(message));
});

// ---- the stage ----

const T0 = Date.UTC(2026, 4, 1);

interface Site {
  log: EmbeddedLog;
  lake: Lake | undefined;
  stream: StreamStage;
  said: string[];
  wall: { ms: number };
  close(): Promise<void>;
}

async function site(
  folder: string,
  rules: Rule[],
  {
    withLake = false,
    stateBytesMax = 64 << 20,
    explain = (_gateway: string): Silence => ({ reason: 'sensor_silent', text: '' }),
  } = {},
): Promise<Site> {
  const said: string[] = [];
  const notify = ({ text }: { text: string }): void => void said.push(text);
  const wall = { ms: T0 + 30 * 86_400_000 };
  const log = new EmbeddedLog(
    { folder, cacheBytes: 1 << 22, topics: topics(Infinity), now: () => T0 },
    notify,
  );
  await log.open();
  let lake: Lake | undefined;
  const stages: LakeStage[] = [];
  if (withLake) {
    lake = new Lake(new LocalObjects(join(folder, 'lake')), {
      folder,
      memoryBytes: 128 << 20,
      cacheBytes: 1 << 20,
    });
    await lake.open();
    for (const zone of ['readings', 'results'] as const) {
      const stage = new LakeStage({ zone, log, lake, flushMs: 1, flushBytes: 1 << 20, notify });
      stages.push(stage);
      stage.start();
    }
  }
  const stream = new StreamStage({
    log,
    lake,
    stateBytesMax,
    wallMs: () => wall.ms,
    explain,
    notify,
  });
  await stream.start(rules);
  return {
    log,
    lake,
    stream,
    said,
    wall,
    close: async () => {
      await stream.close();
      await Promise.all(stages.map((stage) => stage.close()));
      await lake?.close();
      await log.close();
    },
  };
}

const reading = (
  sequence: number,
  timeMs: number,
  value: number,
  more: Partial<Reading> = {},
): Reading => ({
  measurement: 'm',
  tags: { id: 'a' },
  fields: { value },
  sequence,
  index: 0,
  timeMs,
  ns: sequence,
  ...more,
});

const record = (
  readings: Reading[],
  headers: Record<string, string> = {},
  removed: Reading[] = [],
): LogRecord => ({
  key: 'gw',
  headers,
  value: encodeReadings({ gateway: 'gw', epoch: 'e', arrivedMs: T0, readings, removed }),
});

/** The newest of each identity, as a store would have them: identity → reading; and how many were said in all. */
async function results(log: EmbeddedLog): Promise<{ newest: Map<string, Reading>; said: number }> {
  const newest = new Map<string, Reading>();
  let said = 0;
  const records = await log.read(TOPIC_RESULTS, 0, Infinity);
  for (const { value } of records) {
    const { epoch, readings, removed = [] } = decodeReadings(value);
    for (const each of removed) newest.delete(`${epoch}/${each.sequence}/${each.index}`);
    for (const each of readings) newest.set(`${epoch}/${each.sequence}/${each.index}`, each);
    said += readings.length;
  }
  return { newest, said };
}

/** Everything appended has been read; a group that has not begun yet is not there. */
const idle = ({ log, stream }: Site): Promise<true> =>
  until(
    'the stream to have read everything',
    () => {
      const lag = log.groups().filter(({ group }) => /stream|lake/.test(group));
      const hasBegun = lag.some(({ group }) => group === 'headwater-stream');
      const isRead = lag.every(({ lagRecords }) => lagRecords === 0);
      return (hasBegun && isRead && stream.waitingCorrections === 0) || undefined;
    },
    25_000,
  );

const settled = async (at: Site, count: number): Promise<Map<string, Reading>> => {
  await idle(at);
  let newest = new Map<string, Reading>();
  await until(
    `${count} results`,
    async () => {
      ({ newest } = await results(at.log));
      return newest.size >= count || undefined;
    },
    20_000,
  );
  return newest;
};

type Row = [ms: number, tags: Record<string, string>, fields: Reading['fields']];

const summary = (newest: Map<string, Reading>): Row[] =>
  [...newest.values()]
    .map(({ timeMs, fields, tags }): Row => [timeMs - T0, tags, fields])
    .sort((a, b) => a[0] - b[0] || (JSON.stringify(a) < JSON.stringify(b) ? -1 : 1));

const HOURLY = `rules:
  - { name: hourly, from: { measurement: m }, window: 1h, compute: [count, sum, mean, first, last, p95, stddev], lateness: 2h }
  - { name: sliding, from: { measurement: m }, window: { size: 1h, every: 20m }, compute: [count, max] }
`;

/** A day of one reading each five minutes of two series. */
function day(): Reading[] {
  const next = rng(7);
  return Array.from({ length: 576 }, (_, at) =>
    reading(at + 1, T0 + Math.floor(at / 2) * 300_000, Math.round(next() * 1e4) / 100, {
      tags: { id: at % 2 === 0 ? 'a' : 'b' },
    }),
  );
}

describe.concurrent('windows', () => {
  it('of readings delivered shuffled, and a day late, equal those of the ordered run', async () => {
    const all = day();
    const { next, seed } = seeded();
    // Side by side: each waits most of its time.
    const runIn = async (order: string): Promise<Row[]> => {
      const at = await site(temporaryFolder(), rulesOf(HOURLY), { withLake: true });
      let list = all;
      if (order === 'shuffled')
        list = all
          .map((each) => ({ each, lot: next() }))
          .sort((a, b) => a.lot - b.lot)
          .map(({ each }) => each);
      if (order === 'a day late') {
        // The next day's first, so that every window of this one is long over.
        const later = all.map((each) => ({
          ...each,
          sequence: each.sequence + 1000,
          timeMs: each.timeMs + 86_400_000,
        }));
        await at.log.append(TOPIC_READINGS, [record(later)]);
        await idle(at);
      }
      for (let from = 0; from < list.length; from += 48)
        await at.log.append(TOPIC_READINGS, [record(list.slice(from, from + 48))]);
      const newest = await settled(at, 2 * (24 + 74));
      await at.close();
      return summary(newest).filter(([ms]) => ms < 86_400_000 - 3_600_000);
    };
    const runs = await Promise.all(['in order', 'shuffled', 'a day late'].map(runIn));
    expect(runs[0]?.length, `seed ${seed}`).toBeGreaterThan(180);
    // Windows that reach into the next day are the ordered run's own.
    expect(runs[1], `seed ${seed}`).toEqual(runs[0]);
    expect(runs[2], `seed ${seed}`).toEqual(runs[0]);
  });

  it('say what a plain loop over the readings says', async () => {
    const all = day();
    const at = await site(temporaryFolder(), rulesOf(HOURLY));
    await at.log.append(TOPIC_READINGS, [record(all)]);
    const newest = await settled(at, 2 * 24);
    const mine = all.filter(({ tags, timeMs }) => tags['id'] === 'a' && timeMs < T0 + 3_600_000);
    const first = summary(newest).find(
      ([ms, tags, fields]) => ms === 0 && tags['id'] === 'a' && 'value_p95' in fields,
    );
    expect(first?.[2]['value_count']).toBe(mine.length);
    const sum = mine.reduce((total, { fields }) => total + (fields['value'] as number), 0);
    expect(first?.[2]['value_sum']).toBeCloseTo(sum, 9);
    expect(first?.[2]['value_first']).toBe(mine[0]?.fields['value']);
    expect(first?.[2]['value_last']).toBe(mine.at(-1)?.fields['value']);
    await at.close();
  });

  it('stopped after any step they go on as if nothing had been', async () => {
    const all = day();
    const whole = await site(temporaryFolder(), rulesOf(HOURLY));
    await whole.log.append(TOPIC_READINGS, [record(all)]);
    const expected = summary(await settled(whole, 2 * (24 + 74)));
    await whole.close();
    const folder = temporaryFolder();
    for (let from = 0; from < all.length; from += 144) {
      const at = await site(folder, rulesOf(HOURLY));
      await at.log.append(TOPIC_READINGS, [record(all.slice(from, from + 144))]);
      await idle(at);
      await at.close();
    }
    const last = await site(folder, rulesOf(HOURLY));
    expect(summary(await settled(last, 2 * (24 + 74)))).toEqual(expected);
    await last.close();
  });

  it('with little memory for their state they are the same, settled by the lake', async () => {
    const all = day();
    const next = rng(11);
    const shuffled = all
      .map((each) => ({ each, lot: next() }))
      .sort((a, b) => a.lot - b.lot)
      .map(({ each }) => each);
    const roomy = await site(temporaryFolder(), rulesOf(HOURLY));
    await roomy.log.append(TOPIC_READINGS, [record(all)]);
    const expected = summary(await settled(roomy, 2 * (24 + 74)));
    await roomy.close();
    const at = await site(temporaryFolder(), rulesOf(HOURLY), {
      withLake: true,
      stateBytesMax: 20_000,
    });
    for (let from = 0; from < shuffled.length; from += 192) {
      await at.log.append(TOPIC_READINGS, [record(shuffled.slice(from, from + 192))]);
      await idle(at);
    }
    expect(summary(await settled(at, expected.length))).toEqual(expected);
    expect(at.stream.settledWindows).toBeGreaterThan(0);
    await at.close();
  });

  it('a reading that moves or goes leaves its window, and a window without any is taken back', async () => {
    const at = await site(
      temporaryFolder(),
      rulesOf('rules: [{ name: w, from: { measurement: m }, window: 1h, compute: [count, sum] }]'),
      { withLake: true },
    );
    await at.log.append(TOPIC_READINGS, [
      record([reading(1, T0, 1), reading(2, T0 + 1000, 2), reading(3, T0 + 7_200_000, 4)]),
    ]);
    await settled(at, 2);
    const moved = reading(2, T0 + 7_201_000, 2, { was: { timeMs: T0 + 1000, ns: 2 } });
    await at.log.append(TOPIC_READINGS, [record([moved])]);
    await at.log.append(TOPIC_READINGS, [
      record([], { [HEADER_AGAIN]: 'true' }, [reading(1, T0, 1)]),
    ]);
    await until('the first window to be taken back', async () => {
      const { newest } = await results(at.log);
      return (
        JSON.stringify(summary(newest)) ===
          JSON.stringify([[7_200_000, { id: 'a' }, { value_count: 2, value_sum: 6 }]]) || undefined
      );
    });
    await at.close();
  });

  it('a rule that comes later has the past from the lake, and the window it came into whole', async () => {
    const folder = temporaryFolder();
    let at = await site(folder, [], { withLake: true });
    await at.log.append(TOPIC_READINGS, [
      record([reading(1, T0, 1), reading(2, T0 + 3_600_000, 2), reading(3, T0 + 3_700_000, 3)]),
    ]);
    await idle(at);
    await at.close();
    at = await site(
      folder,
      rulesOf('rules: [{ name: w, from: { measurement: m }, window: 1h, compute: [count, sum] }]'),
      { withLake: true },
    );
    await at.log.append(TOPIC_READINGS, [record([reading(4, T0 + 3_800_000, 4)])]);
    await until('both windows', async () => {
      const { newest } = await results(at.log);
      return (
        JSON.stringify(summary(newest)) ===
          JSON.stringify([
            [0, { id: 'a' }, { value_count: 1, value_sum: 1 }],
            [3_600_000, { id: 'a' }, { value_count: 3, value_sum: 9 }],
          ]) || undefined
      );
    });
    await at.close();
  });

  it('a rule over several measurements keeps their series apart; one that was gone for a while is whole when it is back', async () => {
    const folder = temporaryFolder();
    const rules = rulesOf(
      "rules: [{ name: w, from: { measurement: 'm*' }, window: 1h, compute: [count, sum] }]",
    );
    let at = await site(folder, rules, { withLake: true });
    await at.log.append(TOPIC_READINGS, [
      record([reading(1, T0, 1), reading(2, T0 + 1, 2, { measurement: 'm2' })]),
    ]);
    await settled(at, 2);
    await at.close();
    at = await site(folder, [], { withLake: true });
    await at.log.append(TOPIC_READINGS, [record([reading(3, T0 + 2, 4)])]);
    await idle(at);
    await at.close();
    at = await site(folder, rules, { withLake: true });
    await at.log.append(TOPIC_READINGS, [record([reading(4, T0 + 3, 8)])]);
    const expected = JSON.stringify([
      [0, { id: 'a', source: 'm' }, { value_count: 3, value_sum: 13 }],
      [0, { id: 'a', source: 'm2' }, { value_count: 1, value_sum: 2 }],
    ]);
    await until('both windows whole', async () => {
      const { newest } = await results(at.log);
      return JSON.stringify(summary(newest)) === expected || undefined;
    });
    await at.close();
  });

  it('join several series by a tag: an expression over their means', async () => {
    const rules = rulesOf(`rules:
  - name: difference
    window: 10m
    group: [house]
    inputs:
      inside: { measurement: climate, field: temperature, tags: { room: '*' } }
      outside: { measurement: weather, field: temperature }
    derive: { difference: "inside - outside", warmest: "inside.max" }
`);
    const at = await site(temporaryFolder(), rules);
    const of = (
      sequence: number,
      measurement: string,
      tags: Record<string, string>,
      temperature: number,
    ): Reading =>
      reading(sequence, T0 + sequence * 1000, 0, { measurement, tags, fields: { temperature } });
    await at.log.append(TOPIC_READINGS, [
      record([
        of(1, 'climate', { house: 'x', room: 'a' }, 20),
        of(2, 'climate', { house: 'x', room: 'b' }, 22),
        of(3, 'weather', { house: 'x' }, 5),
        of(4, 'climate', { house: 'y', room: 'a' }, 18),
      ]),
    ]);
    const newest = await settled(at, 2);
    expect(summary(newest)).toContainEqual([0, { house: 'x' }, { difference: 16, warmest: 22 }]);
    expect(summary(newest)).toContainEqual([0, { house: 'y' }, { warmest: 18 }]);
    await at.close();
  });
});

describe.concurrent('derived sensors', () => {
  it('have the time of their reading, and go with it', async () => {
    const at = await site(
      temporaryFolder(),
      rulesOf(
        'rules: [{ name: f, from: { measurement: m }, derive: { fahrenheit: "value * 1.8 + 32" } }]',
      ),
    );
    await at.log.append(TOPIC_READINGS, [
      record([reading(1, T0, 20), reading(2, T0 + 1, 0, { fields: { other: 1 } })]),
    ]);
    const newest = await settled(at, 1);
    expect([...newest.values()]).toMatchObject([
      { measurement: 'f', timeMs: T0, ns: 1, fields: { fahrenheit: 68 } },
    ]);
    await at.log.append(TOPIC_READINGS, [
      record([], { [HEADER_AGAIN]: 'true' }, [reading(1, T0, 20)]),
    ]);
    await until('it to go', async () => (await results(at.log)).newest.size === 0 || undefined);
    await at.close();
  });
});

const alerts = (newest: Map<string, Reading>): unknown[] =>
  [...newest.values()]
    .filter(({ measurement }) => measurement === 'alerts')
    .sort((a, b) => a.timeMs - b.timeMs || a.index - b.index)
    .map(({ timeMs, fields }) => [timeMs - T0, fields['active_bool'], fields['late_bool']]);

describe.concurrent('alerts', () => {
  const minutes = (list: number[], more: Partial<Reading> = {}): Reading[] =>
    list.map((value, at) => reading(at + 1, T0 + at * 60_000, value, more));

  it('begin above the bound after its duration, end below clear, and neither twice', async () => {
    const at = await site(
      temporaryFolder(),
      rulesOf(
        'rules: [{ name: hot, from: { measurement: m, field: value }, alert: { above: 30, clear: 28, for: 2m } }]',
      ),
    );
    await at.log.append(TOPIC_READINGS, [
      record(minutes([20, 31, 29, 31, 32, 33, 34, 29, 30.5, 28, 31, 20])),
    ]);
    expect(alerts(await settled(at, 2))).toEqual([
      [300_000, true, false],
      [540_000, false, false],
    ]);
    const [alert] = [...(await results(at.log)).newest.values()];
    expect(alert?.tags).toEqual({ id: 'a', field: 'value', measurement: 'm', rule: 'hot' });
    expect(alert?.fields['message_text']).toBe('value is 33, above 30');
    await at.close();
  });

  it('of change: by so much in so long', async () => {
    const at = await site(
      temporaryFolder(),
      rulesOf(
        'rules: [{ name: fast, from: { measurement: m }, alert: { rate: { above: 5, per: 10m } } }]',
      ),
    );
    await at.log.append(TOPIC_READINGS, [record(minutes([20, 20.4, 21, 21.1]))]);
    expect(alerts(await settled(at, 2))).toEqual([
      [120_000, true, false],
      [180_000, false, false],
    ]);
    await at.close();
  });

  it('of a backlog are judged in its own order, marked late, and leave the live ones alone', async () => {
    const at = await site(
      temporaryFolder(),
      rulesOf('rules: [{ name: hot, from: { measurement: m }, alert: { above: 30 } }]'),
    );
    const later = minutes([20, 21]).map((each) => ({
      ...each,
      sequence: each.sequence + 100,
      timeMs: each.timeMs + 3_600_000,
    }));
    await at.log.append(TOPIC_READINGS, [record(later)]);
    await at.log.append(TOPIC_READINGS, [record(minutes([20, 35, 36, 20], { late: true }))]);
    await at.log.append(TOPIC_READINGS, [record([reading(200, T0 + 3_800_000, 40)])]);
    expect(alerts(await settled(at, 3))).toEqual([
      [60_000, true, true],
      [180_000, false, true],
      [3_800_000, true, false],
    ]);
    await at.close();
  });

  it('of silence say why, once, and that it is over; not before it has listened for so long', async () => {
    const explain = (gateway: string): Silence => ({
      reason: 'gateway_unreachable',
      text: `about ${gateway}`,
    });
    const at = await site(
      temporaryFolder(),
      rulesOf('rules: [{ name: quiet, from: { measurement: m }, alert: { silent: 10m } }]'),
      { explain },
    );
    await at.log.append(TOPIC_READINGS, [record([reading(1, T0, 1)])]);
    await idle(at);
    expect((await results(at.log)).newest.size).toBe(0);
    at.wall.ms += 11 * 60_000;
    const said = await settled(at, 1);
    expect([...said.values()][0]?.fields).toMatchObject({
      active_bool: true,
      reason_text: 'gateway_unreachable',
      message_text: 'about gw',
    });
    await at.log.append(TOPIC_READINGS, [record([reading(2, T0 + 1, 1)])]);
    const over = await settled(at, 2);
    expect([...over.values()].map(({ fields }) => fields['active_bool']).sort()).toEqual([
      false,
      true,
    ]);
    await at.close();
  });
});

describe.concurrent('why a sensor is silent', () => {
  it('is told from the ledger: out of reach, on its way, clock unsure, shed, or the sensor itself', async () => {
    const log = new EmbeddedLog(
      { folder: temporaryFolder(), cacheBytes: 1 << 20, topics: topics(Infinity), now: () => T0 },
      () => undefined,
    );
    await log.open();
    const ledger = new LedgerView(log);
    await ledger.start();
    const say = (key: string, value: object | string): Promise<void> =>
      log.append(TOPIC_LEDGER, [
        {
          key,
          headers: {},
          value: Buffer.from(typeof value === 'string' ? value : JSON.stringify(value)),
        },
      ]);
    const explain = explainSilence(ledger, () => T0 + 90_000);
    const reason = (): string => explain('gw', T0).reason;
    expect(explain('collector', T0).reason).toBe('sensor_silent');
    await say('link/gw', { connected: true, at: T0 });
    expect(reason()).toBe('sensor_silent');
    const epoch = { ranges: [[1, 10]], next: 21, statusMs: T0 };
    const loss = { from: 11, to: 20, cause: 'shed', reason: 'the buffer was full', since: T0 + 1 };
    await say('decoded/gw/e1', { ...epoch, lost: [loss] });
    expect(explain('gw', T0)).toEqual({
      reason: 'shed',
      text: 'gateway gw reports readings that it could not keep: the buffer was full',
    });
    await say('decoded/gw/e1', { ...epoch, lost: [{ ...loss, since: T0 - 1 }] });
    expect(reason()).toBe('sensor_silent');
    await say('held/gw/boot/e1/5', 'a frame');
    expect(reason()).toBe('clock_unsure');
    await say('decoded/gw/e1', { ...epoch, waiting: [[11, 20]] });
    expect(explain('gw', T0)).toEqual({
      reason: 'backlog',
      text: 'gateway gw is connected and holds 10 messages that are still on their way',
    });
    await say('link/gw', { connected: false, at: T0 + 30_000 });
    expect(explain('gw', T0)).toEqual({
      reason: 'gateway_unreachable',
      text: 'gateway gw has been out of reach for 60 s; what it holds is expected when it is back',
    });
    await ledger.close();
    await log.close();
  });
});

describe.concurrent("a user's function", () => {
  const SCORE = `interface State { n: number; mean: number }
export function step(state: State | undefined, reading: { fields: Record<string, number> }) {
  const before = state ?? { n: 0, mean: 0 };
  const value = reading.fields['value']!;
  const n = before.n + 1;
  return { state: { n, mean: before.mean + (value - before.mean) / n }, fields: { off: value - before.mean } };
}
`;
  const rule = 'rules: [{ name: off, from: { measurement: m }, function: off.ts }]';

  it('goes from reading to reading with its state, which survives a restart', async () => {
    const folder = temporaryFolder();
    mkdirSync(folder, { recursive: true });
    writeFileSync(join(folder, 'off.ts'), SCORE);
    const offs: number[] = [];
    for (const part of [
      [10, 20],
      [30, 40],
    ]) {
      const at = await site(
        folder,
        rulesOf(rule, () => SCORE),
      );
      await at.log.append(TOPIC_READINGS, [
        record(part.map((value) => reading(value, T0 + value * 1000, value))),
      ]);
      const newest = await settled(at, offs.length + 2);
      offs.splice(
        0,
        offs.length,
        ...[...newest.values()].map(({ fields }) => fields['off'] as number),
      );
      await at.close();
    }
    expect(offs).toEqual([10, 10, 15, 20]);
  });

  it('that throws or does not end is said so, and holds up nobody', async () => {
    const bad =
      'export function step(state, reading) { if (reading.fields.value > 1) for (;;); throw new Error("no"); }';
    const rules = rulesOf(
      'rules: [{ name: bad, from: { measurement: m }, function: bad.ts }, { name: good, from: { measurement: m }, derive: { twice: "value * 2" } }]',
      () => bad,
    );
    const at = await site(temporaryFolder(), rules);
    await at.log.append(TOPIC_READINGS, [record([reading(1, T0, 1), reading(2, T0 + 1, 2)])]);
    expect((await settled(at, 2)).size).toBe(2);
    await until(
      'it to be said',
      () => at.said.some((text) => text.includes('rule bad: bad.ts: Error: no')) || undefined,
    );
    await at.log.append(TOPIC_READINGS, [record([reading(3, T0 + 2, 3)])]);
    await until(
      'the endless one',
      () => at.said.some((text) => text.includes('took longer than 1000 ms')) || undefined,
      15_000,
    );
    expect((await settled(at, 3)).size).toBe(3);
    await at.close();
  });
});
