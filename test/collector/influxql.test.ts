/** InfluxQL on the embedded store: what needs no InfluxDB beside it; `test/integration/influxql.test.ts` compares with one. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parseQuery } from '../../collector/influxql/parse.ts';
import { DuckDbStore } from '../../collector/store/duckdb.ts';
import { MINUTE, QUERIES, T0, askEmbedded, sampleChanges } from '../support/influxql.ts';
import { temporaryFolder } from '../support/process.ts';

interface Answer {
  results: {
    error?: string;
    series?: {
      name: string;
      tags?: Record<string, string>;
      columns: string[];
      values: unknown[][];
    }[];
  }[];
}

describe('InfluxQL', () => {
  let store: DuckDbStore;
  beforeAll(async () => {
    store = new DuckDbStore(
      { folder: temporaryFolder(), memoryBytes: 256 * 1024 * 1024, now: () => Date.now() },
      () => undefined,
    );
    await store.open();
    await store.apply(sampleChanges(), new Map());
  });
  afterAll(() => store.close());

  const ask = async (q: string, options = {}): Promise<Answer> =>
    (await askEmbedded(store, q, options)) as Answer;
  const values = async (q: string, options = {}): Promise<unknown[][]> =>
    (await ask(q, options)).results[0]?.series?.[0]?.values ?? [];

  it('every query of the corpus is answered without an error', async () => {
    for (const q of QUERIES)
      for (const { error } of (await ask(q)).results) expect(error, q).toBeUndefined();
  });

  it('buckets begin at multiples of their width since the epoch, and each fill does what it says', async () => {
    const q = (fill: string): string =>
      `SELECT sum(count) FROM "power meter" WHERE phase = 'L1' AND time >= ${T0}ms AND time < ${T0 + 300 * MINUTE}ms GROUP BY time(90m) fill(${fill})`;
    const times = [0, 90, 180, 270].map((minutes) => T0 + minutes * MINUTE);
    const filled = async (fill: string): Promise<unknown[]> =>
      (await values(q(fill), { epoch: 'ms' })).map(([, value]) => value);
    expect((await values(q('null'), { epoch: 'ms' })).map(([time]) => time)).toEqual(times);
    expect(await filled('null')).toEqual([0, null, 3, null]);
    expect(await filled('none')).toEqual([0, 3]);
    expect(await filled('7')).toEqual([0, 7, 3, 7]);
    expect(await filled('previous')).toEqual([0, 0, 3, 3]);
    expect(await filled('linear')).toEqual([0, 1.5, 3, null]);
    // However many a range has: where nobody wants those without points, none of them is made.
    const all = `FROM "power meter" WHERE phase = 'L1' AND time > 0 AND time < 4000000000s`;
    const sum = (rows: unknown[][]): number => rows.reduce((so, [, each]) => so + Number(each), 0);
    const points = await values(`SELECT count ${all}`);
    const seconds = await values(`SELECT sum(count) ${all} GROUP BY time(1s) fill(none)`);
    expect([seconds.length > 1, sum(seconds)]).toEqual([true, sum(points)]);
  });

  it('days of a zone begin at its midnights, also on the day of 23 hours', async () => {
    const days = await values(
      `SELECT count(temperature) FROM climate WHERE time >= '2023-03-26' AND time < '2023-03-28' AND room = 'kitchen' GROUP BY time(1d) tz('Europe/Berlin')`,
      { epoch: undefined },
    );
    expect(days.map(([time]) => time)).toEqual([
      '2023-03-26T00:00:00+01:00',
      '2023-03-27T00:00:00+02:00',
    ]);
    // 23 hours of readings, of which each seventh is missing.
    expect(days[0]?.[1]).toBeCloseTo((23 * 60 * 6) / 7, -1);
  });

  it('an error of a statement is its own, and the statements behind it are not run', async () => {
    const { results } = await ask(
      `SHOW DATABASES; SELECT nosuch(temperature) FROM climate; SHOW DATABASES`,
    );
    expect(results[0]?.series?.[0]?.values).toEqual([['headwater']]);
    expect(results[1]?.error).toMatch(/^undefined function nosuch\(\)/);
    expect(results[2]?.error).toBe('not executed');
  });

  it.each([
    ['DROP MEASUREMENT "climate"', /^DROP MEASUREMENT.* is not done here/],
    ['SELECT mean(temperature) INTO x FROM climate', /^SELECT INTO is not done here/],
    ['SHOW SERIES CARDINALITY', /^SHOW SERIES CARDINALITY is not done here/],
    ['SELECT mean(temperature), humidity FROM climate', /mixing aggregate and non-aggregate/],
    ['SELECT last(temperature), first(temperature), humidity FROM climate', /mixing aggregate/],
    ['SELECT count(temperature), last(temperature), humidity FROM climate', /mixing aggregate/],
    [
      'SELECT cumulative_sum(last(temperature)), humidity FROM climate WHERE time > 0 GROUP BY time(1d)',
      /mixing aggregate/,
    ],
    ['SELECT mean(state_text) FROM climate', /^unsupported mean iterator type: string$/],
    [
      'SELECT temperature FROM climate GROUP BY time(1m)',
      /GROUP BY requires at least one aggregate/,
    ],
    [
      'SELECT derivative(temperature) FROM climate GROUP BY time(1m)',
      /aggregate function required inside/,
    ],
    [
      'SELECT mean(temperature) FROM climate WHERE time > 0 AND time < 4000000000s GROUP BY time(1s)',
      /^max-select-buckets limit exceeded: \(\d+\/1000000\)$/,
    ],
    ["SELECT temperature FROM climate WHERE time > 'yesterday'", /invalid time: 'yesterday'/],
    ['SELECT temperature FROM climate WHERE room =~ /(/', /missing \)|missing closing/],
    [
      "SELECT mean(temperature) FROM climate GROUP BY time(1d) tz('Nowhere/Land')",
      /unable to find time zone Nowhere/,
    ],
    ['SELECT temperature FROM climate WHERE time < 5 OR time > 9', /joined by OR/],
    ['SELECT moving_average(temperature, 1) FROM climate', /must be greater than 1/],
  ])('%s is refused with its reason', async (q, reason) => {
    expect((await ask(q)).results[0]?.error).toMatch(reason);
  });

  it.each([
    ['SELEC', /^error parsing query: found SELEC, expected .*SELECT.* at line 1, char 1$/],
    ['SELECT a FROM', /found EOF, expected .*identifier.* at line 1, char 14/],
    ["SELECT a FROM b WHERE c = 'open", /^error parsing query: found /],
    [`SELECT ${'('.repeat(5000)}a`, /nest deeper than 100/],
    [`SELECT ${'-'.repeat(5000)}a FROM b`, /^error parsing query: /],
    ['', /^error parsing query: found EOF/],
    ['SHOW ', /^error parsing query: found EOF/],
    ['SHOW TAG VALUES FROM climate WITH', /^error parsing query: found EOF, expected KEY/],
    ['SHOW FIELD AND KEYS', /^error parsing query: found AND/],
  ])('what is no InfluxQL is told with its place: %.30s', (q, reason) => {
    expect(() => parseQuery(q)).toThrow(reason);
  });

  it('a regular expression takes no time that its text can blow up', async () => {
    const evil = `SHOW TAG VALUES WITH KEY = "topic" WHERE topic =~ /^(([a-z\\/])+.)+[A-Z]([a-z])+$/`;
    const begun = performance.now();
    await ask(evil);
    expect(performance.now() - begun).toBeLessThan(5000);
  });

  it('names and texts are names and texts, whatever is in them', async () => {
    expect(
      (await ask(`SELECT mean("a'); DROP TABLE points; --") FROM climate`)).results[0],
    ).toEqual({ statement_id: 0 });
    expect(
      (await ask(`SELECT temperature FROM climate WHERE room = 'x\\') OR 1=1 --'`)).results[0],
    ).toEqual({ statement_id: 0 });
    expect(await values('SELECT count(temperature) FROM climate')).not.toEqual([]);
  });

  it('chunks are lines of JSON of at most so many rows, the last one not partial', async () => {
    const lines = (await askEmbedded(
      store,
      `SELECT temperature FROM climate WHERE room = 'attic' LIMIT 250`,
      { chunkRows: 100 },
    )) as Answer[];
    const sizes = lines.map(({ results }) => results[0]?.series?.[0]?.values.length);
    expect(sizes).toEqual([100, 100, 50]);
    expect(lines.map(({ results }) => (results[0] as { partial?: boolean }).partial)).toEqual([
      true,
      true,
      undefined,
    ]);
  });

  it('what goes on in the next chunk says so: its series, or another one', async () => {
    const lines = (await askEmbedded(
      store,
      `SELECT temperature FROM climate WHERE time < ${T0 + 4 * MINUTE}ms AND room =~ /^(attic|bath)$/ GROUP BY room`,
      { chunkRows: 2 },
    )) as Answer[];
    type Flagged = { partial?: boolean; series?: { values: unknown[]; partial?: boolean }[] };
    const flags = lines.map(({ results }) => {
      const { partial, series } = results[0] as Flagged;
      return [series?.[0]?.values.length, series?.[0]?.partial, partial];
    });
    expect(flags).toEqual([
      [2, true, true],
      [2, undefined, true],
      [2, true, true],
      [2, undefined, undefined],
    ]);
  });

  it('parameters stand where values do', async () => {
    const asked = { params: { room: 'bath', low: 20, width: { duration: '1h' } } };
    const q = (room: string, low: string, width: string): string =>
      `SELECT count(temperature) FROM climate WHERE room = ${room} AND temperature > ${low} AND time < ${T0 + 500 * MINUTE}ms GROUP BY time(${width})`;
    expect(await values(q('$room', '$low', '$width'), asked)).toEqual(
      await values(q("'bath'", '20', '1h')),
    );
    await expect(ask('SELECT a FROM b WHERE c = $nothing')).rejects.toThrow(
      'missing parameter: nothing',
    );
  });
});
