/**
 * `npm run influxql:try [-- --queries N] [--seed S]`: InfluxQL by its documented grammar, asked of a real InfluxDB 1.8 and of a
 * collector with the same points, over HTTP: columns, values (floats within 1e-9), names, tags, their order, errors, chunks,
 * units. A seed asks the same again. Ends with 1 when an answer differs that docs/influxql.md does not name.
 */
import { DuckDbStore } from '../../collector/store/duckdb.ts';
import { InfluxStore, parseInfluxAddress } from '../../collector/store/influxdb.ts';
import { MINUTE, T0, difference, merged, sampleChanges, type Result } from '../support/influxql.ts';
import { bring, startInflux1 } from '../services/servers.ts';
import { startCollector, temporaryFolder } from '../support/process.ts';
import { flagsOf } from '../../scripts/flags.mjs';

/** mulberry32. */
class Random {
  private state: number;
  constructor(seed: number) {
    this.state = seed >>> 0;
  }
  next(): number {
    this.state = (this.state + 0x6d2b79f5) >>> 0;
    let t = this.state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  }
  below(n: number): number {
    return Math.floor(this.next() * n);
  }
  chance(p: number): boolean {
    return this.next() < p;
  }
  one<T>(list: readonly T[]): T {
    return list[this.below(list.length)] as T; // Not empty.
  }
}

const NUMBERS = [
  'temperature',
  'humidity',
  '"temperature"',
  '"humidity"::field',
  'humidity::float',
];
const FIELDS = [...NUMBERS, 'open_bool', 'state_text', 'nothing'];
const TAGS = ['room', 'gateway', 'topic', '"room"::tag', 'nowhere'];
const AGGREGATES = [
  'count',
  'mean',
  'median',
  'spread',
  'stddev',
  'sum',
  'min',
  'max',
  'first',
  'last',
];
const RUNNING = [
  'derivative',
  'non_negative_derivative',
  'difference',
  'non_negative_difference',
  'cumulative_sum',
];
const MATH = [
  'abs',
  'ceil',
  'floor',
  'round',
  'sqrt',
  'exp',
  'ln',
  'log2',
  'log10',
  'sin',
  'cos',
  'tan',
  'atan',
];
const FILLS = ['null', 'none', 'previous', 'linear', '0', '7', '-1.5'];
const ZONES = ['Europe/Berlin', 'America/New_York', 'Asia/Kolkata', 'UTC', 'Australia/Lord_Howe'];
const WIDTHS = [
  '1m',
  '7m',
  '10m',
  '37m',
  '1h',
  '90m',
  '5h',
  '1d',
  '2d',
  '1w',
  '3600s',
  '600000ms',
  '1h30m',
];

export class Grammar {
  readonly random: Random;
  constructor(seed: number) {
    this.random = new Random(seed);
  }

  private range(): string {
    const { random } = this;
    const from = random.below(2900) - 50;
    const width = random.one([3, 20, 65, 200, 900, 3000]);
    const at = (minute: number): string => {
      const ms = T0 + minute * MINUTE;
      return random.one([
        `${ms}ms`,
        `${ms}000000`,
        `${ms / 1000}s`,
        `'${new Date(ms).toISOString()}'`,
        `'${new Date(ms).toISOString().slice(0, 19).replace('T', ' ')}'`,
        `'${new Date(ms).toISOString().slice(0, 19)}Z' + ${random.below(5)}m`,
      ]);
    };
    return `time ${random.one(['>=', '>'])} ${at(from)} ${random.one(['AND', 'and'])} time ${random.one(['<=', '<'])} ${at(from + width)}`;
  }

  private tagTest(): string {
    const { random } = this;
    const tag = random.one(TAGS);
    return random.one([
      `${tag} = '${random.one(['kitchen', 'bath', 'attic', 'g', 'h', 'home/bath', '', 'none'])}'`,
      `${tag} != '${random.one(['kitchen', 'g', '', 'none'])}'`,
      `${tag} =~ ${random.one(['/^(kitchen|bath)$/', '/a/', '/home\\/k/', '/.*/', '/^$/', '/(?i)KIT/'])}`,
      `${tag} !~ ${random.one(['/^k/', '/g/', '/./'])}`,
    ]);
  }

  private fieldTest(): string {
    const { random } = this;
    return random.one([
      `temperature ${random.one(['>', '>=', '<', '<=', '=', '!=', '<>'])} ${random.below(40)}${random.chance(0.3) ? '.5' : ''}`,
      `humidity > ${random.below(97)}`,
      `temperature - humidity > ${random.below(20)}`,
      `state_text = '${random.one(['on', 'off', ''])}'`,
      `state_text =~ /^o/`,
      `open_bool = ${random.one(['true', 'false'])}`,
      `humidity * 2 < temperature`,
      `${random.below(30)} < temperature`,
    ]);
  }

  private condition(depth = 0): string {
    const { random } = this;
    if (depth < 2 && random.chance(0.3))
      return `(${this.condition(depth + 1)} ${random.one(['AND', 'OR', 'or'])} ${this.condition(depth + 1)})`;
    return random.chance(0.65) ? this.tagTest() : this.fieldTest();
  }

  private where(hasRange: boolean): string {
    const { random } = this;
    const parts = [
      ...(hasRange ? [this.range()] : []),
      ...(random.chance(0.45) ? [this.condition()] : []),
    ];
    return parts.length === 0
      ? ''
      : ` WHERE ${(random.chance(0.5) ? parts : parts.toReversed()).join(' AND ')}`;
  }

  private call(): string {
    const { random } = this;
    const field = random.chance(0.8) ? random.one(NUMBERS) : random.one(FIELDS);
    return random.one([
      ...Array.from({ length: 5 }, () => `${random.one(AGGREGATES)}(${field})`),
      `percentile(${field}, ${random.one([0, 1, 5, 50, 75, 95, 99.9, 100])})`,
      `count(distinct(${field}))`,
      `integral(${field}${random.one(['', ', 1m'])})`,
    ]);
  }

  private columns(isBuckets: boolean): string {
    const { random } = this;
    const one = (): string => {
      const call = this.call();
      return random.one([
        call,
        call,
        call,
        `${call} AS "a b"`,
        `${call} ${random.one(['+', '-', '*', '/'])} ${random.one(['2', '0', this.call()])}`,
        `${random.one(MATH)}(${call})`,
        ...(isBuckets
          ? [
              `${random.one(RUNNING)}(${this.call()})`,
              `derivative(${this.call()}, ${random.one(['1s', '1m', '1h'])})`,
              `moving_average(${this.call()}, ${random.one([2, 3, 5])})`,
            ]
          : []),
      ]);
    };
    if (random.chance(0.07))
      return random.one(['count(*)', 'mean(*)', 'last(*)', 'max(/^t|^h/)', 'first(/_/)']);
    if (random.chance(0.06))
      return random.one([
        'top(temperature, 3)',
        'bottom(temperature, 2)',
        'distinct(state_text)',
        'distinct(humidity)',
      ]);
    if (random.chance(0.1))
      return `${random.one(['first', 'last', 'min', 'max'])}(temperature), ${random.one(['humidity', 'room', 'state_text', 'open_bool', 'humidity, topic'])}`;
    return Array.from({ length: random.one([1, 1, 1, 2, 2, 3]) }, one).join(', ');
  }

  private raw(): string {
    const { random } = this;
    return random.one([
      '*',
      'temperature',
      'temperature, humidity',
      'humidity, room',
      'state_text, open_bool',
      'temperature * 2 + humidity AS x',
      'temperature / humidity',
      'round(temperature), room',
      'difference(temperature)',
      'derivative(temperature, 1m)',
      'moving_average(temperature, 3)',
      'cumulative_sum(humidity)',
      'elapsed(temperature, 1s)',
      'elapsed(state_text, 1m)',
      'non_negative_derivative(humidity)',
      'temperature AS t, temperature AS t',
      'temperature, temperature',
      '*::field',
      '*::tag, temperature',
      '/temp/',
      'nothing, temperature',
      '-temperature',
      'temperature % 7',
    ]);
  }

  private tail(isSub = false): string {
    const { random } = this;
    const parts: string[] = [];
    if (random.chance(0.25))
      parts.push(
        random.one([
          'ORDER BY time DESC',
          'ORDER BY time',
          'order by time asc',
          'ORDER BY time DESC',
        ]),
      );
    // InfluxDB's documentation says that an offset without its limit has no sure answer.
    if (random.chance(0.3)) {
      parts.push(`LIMIT ${random.one([1, 2, 5, 20])}`);
      if (random.chance(0.3)) parts.push(`OFFSET ${random.one([1, 3, 100])}`);
    }
    if (random.chance(0.1)) {
      parts.push(`SLIMIT ${random.one([1, 2])}`);
      if (random.chance(0.4)) parts.push(`SOFFSET ${random.one([1, 2])}`);
    }
    if (!isSub && random.chance(0.12)) parts.push(`tz('${random.one(ZONES)}')`);
    return parts.length === 0 ? '' : ` ${parts.join(' ')}`;
  }

  private groupBy(isBuckets: boolean): string {
    const { random } = this;
    const offset = random.chance(0.2) ? `, ${random.one(['15m', '-10m', '1h', '-3d', '6h'])}` : '';
    const parts = [
      ...(isBuckets ? [`time(${random.one(WIDTHS)}${offset})`] : []),
      ...(random.chance(0.4)
        ? [
            random.one([
              'room',
              '"gateway"',
              'gateway, room',
              '*',
              '/^r/',
              'topic',
              'nowhere',
              '"room"::tag',
            ]),
          ]
        : []),
    ];
    return parts.length === 0
      ? ''
      : ` GROUP BY ${(random.chance(0.8) ? parts : parts.toReversed()).join(', ')}`;
  }

  private from(): string {
    return this.random.one([
      'climate',
      'climate',
      'climate',
      '"climate"',
      '"autogen"."climate"',
      '"headwater"."autogen"."climate"',
      'headwater..climate',
      '/clim/',
      '/.*/',
      '"power meter"',
      'nowhere',
      'climate, "power meter"',
    ]);
  }

  select(): string {
    const { random } = this;
    if (random.chance(0.25))
      return `SELECT ${this.raw()} FROM ${this.from()}${this.where(true)}${this.groupBy(false)}${this.tail()}`;
    const isBuckets = random.chance(0.65);
    const fill = isBuckets && random.chance(0.6) ? ` fill(${random.one(FILLS)})` : '';
    return `SELECT ${this.columns(isBuckets)} FROM ${this.from()}${this.where(isBuckets || random.chance(0.7))}${this.groupBy(isBuckets)}${fill}${this.tail()}`;
  }

  subquery(): string {
    const { random } = this;
    const inner = random.one([
      `SELECT ${random.one(['mean', 'max', 'last', 'count', 'sum'])}(temperature) AS v FROM climate${this.where(random.chance(0.5))}${random.one(['', ' GROUP BY room', ' GROUP BY time(10m)', ' GROUP BY time(10m), room', ' GROUP BY *', ' GROUP BY time(1h), gateway'])}${random.one(['', ' fill(0)', ' fill(previous)', ''])}`,
      `SELECT temperature AS v FROM climate${this.where(false)}${random.one(['', ' GROUP BY room', ' LIMIT 40'])}`,
      `SELECT difference(temperature) AS v FROM climate${random.one(['', ' GROUP BY room'])}`,
      `SELECT temperature AS v, humidity AS w FROM climate`,
      `SELECT derivative(mean(temperature), 1m) AS v FROM climate WHERE ${this.range()} GROUP BY time(10m), room`,
    ]);
    const outer = random.one([
      'mean(v)',
      'max(v)',
      'sum(v)',
      'count(v)',
      'last(v)',
      'v',
      'percentile(v, 50)',
      'min(v), max(v)',
      'v * 2',
      '*',
      'spread(v)',
      'first(v), room',
      'moving_average(v, 2)',
      'distinct(v)',
    ]);
    const isBuckets = /\(/.test(outer) && random.chance(0.5) && !/moving|room/.test(outer);
    return `SELECT ${outer} FROM (${inner}) WHERE ${this.range()}${random.chance(0.15) ? ` AND v > ${random.below(25)}` : ''}${random.chance(0.1) ? ` AND ${this.tagTest()}` : ''}${this.groupBy(isBuckets)}${isBuckets ? random.one(['', ' fill(none)', ' fill(0)', ' fill(previous)']) : ''}${this.tail()}`;
  }

  show(): string {
    const { random } = this;
    const tail = `${random.chance(0.3) ? ` WHERE ${this.tagTest()}` : ''}${random.chance(0.3) ? ` LIMIT ${random.one([1, 2, 5])}` : ''}${random.chance(0.2) ? ` OFFSET ${random.one([1, 2])}` : ''}`;
    const on = random.chance(0.3) ? ' ON headwater' : '';
    const from = random.chance(0.5)
      ? ` FROM ${random.one(['climate', '"power meter"', '/.*/', '/cl/', 'nowhere', 'climate, "power meter"', '"autogen"."climate"'])}`
      : '';
    return random.one([
      `SHOW MEASUREMENTS${on}${random.one(['', ' WITH MEASUREMENT = climate', ' WITH MEASUREMENT =~ /(?i)CLI/', ' WITH MEASUREMENT =~ /x/'])}${tail}`,
      `SHOW TAG KEYS${on}${from}${tail}`,
      `SHOW TAG VALUES${on}${from} WITH KEY ${random.one(['= "room"', '= room', 'IN ("room", "topic")', '=~ /o/', '!~ /o/', '!= "room"', '= "nowhere"'])}${tail}`,
      `SHOW FIELD KEYS${on}${from}${random.chance(0.3) ? ' LIMIT 2' : ''}`,
      `SHOW SERIES${on}${from}${tail}`,
    ]);
  }

  /** Not InfluxQL, or not quite. */
  broken(): string {
    const { random } = this;
    const words =
      random
        .one([() => this.select(), () => this.show()])()
        .match(/\s+|\w+|'[^']*'|"[^"]*"|./g) ?? [];
    const at = random.below(words.length);
    const how = random.below(4);
    if (how === 0) words.splice(at, 1);
    else if (how === 1)
      words.splice(
        at,
        0,
        random.one([
          ' FROM ',
          ' 7 ',
          ',',
          '(',
          ')',
          ' WHERE ',
          " 'x' ",
          ' AND ',
          ';',
          '"',
          '/',
          ' group ',
        ]),
      );
    else if (how === 2) words.length = at;
    else words[at] = random.one(['SELECT', 'x', '=', '==', '1h', '"y"', 'BY', '*']);
    return words.join('');
  }

  statement(): string {
    const { random } = this;
    const kind = random.next();
    if (kind < 0.55) return this.select();
    if (kind < 0.75) return this.subquery();
    if (kind < 0.88) return this.show();
    if (kind < 0.93) return `${this.select()}; ${this.show()}`;
    return this.broken();
  }

  parameters(): Record<string, string> {
    const { random } = this;
    return {
      ...(random.chance(0.8) ? { epoch: random.one(['ns', 'u', 'ms', 's', 'm', 'h']) } : {}),
      ...(random.chance(0.1) ? { chunked: 'true', chunk_size: random.one(['1', '7', '100']) } : {}),
    };
  }
}

interface Answer {
  status: number;
  lines: unknown[];
}

async function ask(base: string, q: string, parameters: Record<string, string>): Promise<Answer> {
  const address = new URLSearchParams({ db: 'headwater', q, ...parameters });
  const response = await fetch(`${base}/query?${address}`);
  const text = await response.text();
  const lines = text
    .trim()
    .split('\n')
    .map((line) => {
      try {
        return JSON.parse(line) as unknown;
      } catch {
        return line;
      }
    });
  return { status: response.status, lines };
}

interface Told extends Result {
  error?: string;
}
const resultsOf = ({ lines }: Answer): Told[] =>
  lines.flatMap((line) => (line as { results?: Told[] }).results ?? []);
const errorOf = (answer: Answer): string | undefined =>
  (answer.lines[0] as { error?: string } | undefined)?.error ??
  resultsOf(answer).find(({ error }) => error !== undefined)?.error;

/** Undefined: the same. */
export function differs(ours: Answer, theirs: Answer, isChunked: boolean): string | undefined {
  const [a, b] = [errorOf(ours), errorOf(theirs)];
  if (a !== undefined || b !== undefined) {
    if (a === undefined) return `error only there: ${b}`;
    if (b === undefined) return `error only here: ${a}`;
    if (ours.status !== theirs.status) return `status ${ours.status} and ${theirs.status}`;
    return undefined; // In words of our own, docs/influxql.md.
  }
  if (ours.status !== theirs.status) return `status ${ours.status} and ${theirs.status}`;
  return isChunked
    ? difference(ours.lines, theirs.lines)
    : difference(merged(resultsOf(ours)), merged(resultsOf(theirs)));
}

const RUNS =
  'derivative|non_negative_derivative|difference|non_negative_difference|moving_average|cumulative_sum';
const INNER = /FROM \((SELECT .*)\) WHERE/;
/** Rows of an answer, of all series. */
const rowsOf = (answer: Answer): number =>
  resultsOf(answer)
    .flatMap(({ series = [] }) => series)
    .reduce((sum, { values }) => sum + values.length, 0);

/** What docs/influxql.md names, by its first words there: where a difference may come from it. */
export const REASONS: Readonly<
  Record<string, (q: string, found: string, ours: Answer, theirs: Answer) => boolean>
> = {
  integral: (q) => /integral\(/.test(q) && /GROUP BY|DESC/i.test(q),
  'percentile of too few points': (q, _found, ours, theirs) =>
    /percentile\([^)]*, (?:0|1|5)\)/.test(q) && rowsOf(theirs) < rowsOf(ours),
  'equal values': (q, found) =>
    /percentile\(|mode\(/.test(q) && /\.values\.\d+\.0: /.test(found) && !/GROUP BY time/.test(q),
  '`top` and `bottom` beside LIMIT': (q) => /(?:top|bottom)\(.* LIMIT/.test(q),
  'a wildcard over several measurements': (q) =>
    /\((?:\*|\/[^/]*\/)\)|SELECT \*/.test(q) && /FROM (?:\/|climate, )/.test(q),
  'SHOW with a condition': (q) => /SHOW .* WHERE/.test(q),
  'clocks that change within the range': (q) =>
    /tz\('(?!UTC|Asia)/.test(q) && /GROUP BY .*time\(/.test(q),
  'a range that ends before it begins': (q, found, ours) =>
    rowsOf(ours) === 0 &&
    (found.startsWith('error only there: unsupported') ||
      (new RegExp(`(?:${RUNS})\\(`).test(q) && /tz\(/.test(q))),
  'no number': (_q, found) => found.startsWith('error only there: json: unsupported value'),
  'not quite InfluxQL': (_q, found) =>
    /^status 400 and 200|^error only (?:there|here): (?:error parsing query|invalid time condition|tags are compared)/.test(
      found,
    ),
  'SLIMIT beside a condition on fields': (q) =>
    /WHERE .*(?:state_text|open_bool|humidity|temperature) (?:[-<>=!*]).* SLIMIT/.test(q),
  'SLIMIT around a subquery': (q) => INNER.test(q) && / SLIMIT/.test(q),
  'an aggregate over buckets of a subquery': (q, _found, ours, theirs) =>
    /GROUP BY .*time\(/.test(INNER.exec(q)?.[1] ?? '') && rowsOf(theirs) < rowsOf(ours),
  'running functions in a subquery': (q) =>
    new RegExp(`(?:${RUNS})\\(`).test(INNER.exec(q)?.[1] ?? ''),
  'LIMIT in a subquery': (q) => /LIMIT/.test(INNER.exec(q)?.[1] ?? ''),
  'tz() around a subquery': (q) => INNER.test(q) && /tz\(/.test(q),
  'empty buckets of a subquery': (q) =>
    /fill\(|GROUP BY .*time\(/.test(INNER.exec(q)?.[1] ?? '') && !/ fill\(none/.test(q),
};

async function main(): Promise<void> {
  const { values } = flagsOf(import.meta.url, {
    options: {
      queries: { type: 'integer', default: 2000, min: 1 },
      seed: { type: 'integer', default: Date.now() % 1_000_000 },
      examples: { type: 'integer', default: 400, about: 'printed at most' },
    },
  });
  const { queries: count, seed } = values;
  bring('influxdb1');
  const influx = await startInflux1();
  const folder = temporaryFolder();
  const store = new DuckDbStore(
    { folder, memoryBytes: 256 * 1024 * 1024, now: () => Date.now() },
    () => undefined,
  );
  await store.open();
  const peer = new InfluxStore(
    { ...parseInfluxAddress(influx.store), token: () => influx.token, caFile: '' },
    () => undefined,
  );
  await peer.open();
  const changes = sampleChanges();
  await store.apply(changes, new Map());
  await peer.apply(changes);
  await peer.close();
  await store.close();
  const collector = await startCollector(['--data', folder, '--lake', 'none']);
  const grammar = new Grammar(seed);
  const named = new Map<string, number>();
  let differing = 0;
  let errors = 0;
  for (let at = 0; at < count; at++) {
    const q = grammar.statement();
    const parameters = grammar.parameters();
    const [ours, theirs] = await Promise.all([
      ask(`http://${collector.address['http']}`, q, parameters),
      ask(`http://${influx.address}`, q, parameters),
    ]);
    if (errorOf(theirs) !== undefined) errors++;
    const found = differs(ours, theirs, parameters['chunked'] !== undefined);
    if (found === undefined) continue;
    const reason = Object.keys(REASONS).find((each) => REASONS[each]?.(q, found, ours, theirs));
    if (reason !== undefined) {
      named.set(reason, (named.get(reason) ?? 0) + 1);
      continue;
    }
    if (++differing <= values.examples)
      process.stdout.write(`${q}  ${JSON.stringify(parameters)}\n  ${found}\n`);
  }
  for (const [reason, times] of named)
    process.stdout.write(`named in the docs: ${reason}: ${times}\n`);
  process.stdout.write(
    `${count} statements (seed ${seed}), ${errors} of them errors in InfluxDB 1.8: ${differing} differ without a reason\n`,
  );
  await collector.kill();
  await influx.stop();
  process.exitCode = differing > 0 ? 1 : 0;
}

await main();
