/** Packages of others behind their guards: whatever one throws, gives or keeps to itself is an operating error in one sentence. */
import { describe, expect, it } from 'vitest';
import { made } from '../../collector/guard.ts';
import { GuardedObjects } from '../../collector/lake/guarded.ts';
import type { ObjectStore } from '../../collector/lake/object-store.ts';
import { GuardedLog } from '../../collector/log/guarded.ts';
import type { ConsumerOptions, Log, LogConsumer, LogRecord } from '../../collector/log/log.ts';
import { GuardedStore } from '../../collector/store/guarded.ts';
import type { Change, PointsPart, TimeSeriesStore } from '../../collector/store/store.ts';
import { HeadwaterError, assert } from '../../shared/errors.ts';
import { fastTime } from '../support/fast-time.ts';
import { gathered } from '../support/gathered.ts';

/** Five minutes in 60 ms. */
const fast = fastTime(5000);
const SUPPORTS = { progress: true, remove: 'rows', aggregates: true } as const;
const METHODS = {
  log: ['open', 'append', 'consumer', 'state', 'watch', 'forget', 'close', 'first', 'next'],
  store: ['open', 'identity', 'apply', 'marks', 'series', 'latest', 'query', 'scan', 'close'],
  lake: ['open', 'put', 'get', 'list', 'remove', 'close'],
} as const;
const AT_ONCE = ['groups', 'health', 'warnings', 'hasLost', 'keepsFromMs', 'path'];
type Part = keyof typeof METHODS;
type Call = (...args: unknown[]) => unknown;

/** A package all of whose methods do this. */
function all(part: Part, act: Call): Record<string, Call> {
  const names = [...METHODS[part], ...AT_ONCE, 'committedBy', 'groupNames'];
  return { ...Object.fromEntries(names.map((name) => [name, act])), kind: act, partitions: act };
}

/** Its guard. Any shape is what the test is about. */
function guarded(part: Part, theirs: unknown): Record<string, Call> {
  if (part === 'log') return new GuardedLog(theirs as Log, 'x', () => undefined, fast) as never;
  if (part === 'store')
    return new GuardedStore(theirs as TimeSeriesStore, 'x', SUPPORTS, fast) as never;
  return new GuardedObjects(theirs as ObjectStore, 'x', fast) as never;
}

const ARGUMENTS: Record<string, unknown[]> = {
  consumer: [{ group: 'g', topic: 't', from: 'start', bytesMax: 1 }],
  apply: [[], new Map()],
  query: [{}],
  latest: [{}],
};

async function asked(adapter: Record<string, Call>, name: string): Promise<unknown> {
  const answer = adapter[name]?.(...(ARGUMENTS[name] ?? ['raw/', 0, '']));
  return await (['query', 'scan'].includes(name)
    ? gathered(answer as AsyncIterable<PointsPart>)
    : answer);
}

function revoked(): object {
  const { proxy, revoke } = Proxy.revocable({}, {});
  revoke();
  return proxy;
}

function cyclic(): Error {
  const [outer, inner] = [new Error('outer'), new Error('inner')];
  return Object.assign(outer, { cause: Object.assign(inner, { cause: outer }) });
}

const lookAway = (): never => {
  throw new Error('do not look');
};
const coded = (code: unknown, more: object = {}): Error =>
  Object.assign(new Error('theirs'), { code, ...more });
const marked = { [Symbol.for('headwater.operating-error')]: true, retryable: true };
const CODES = { log: 'LOG_UNAVAILABLE', store: 'STORE_UNAVAILABLE', lake: 'LAKE_UNAVAILABLE' };

const THROWN: [string, unknown, string?][] = [
  ['an error without a code', new TypeError('undefined is no function')],
  ['a string', 'broken'],
  ['nothing', undefined],
  ['null', null],
  ['a number', 42],
  ['a bigint', 42n],
  ['a symbol', Symbol('theirs')],
  ['a function', () => undefined],
  ['a frozen object', Object.freeze({ message: 'frozen' })],
  ['an object without a prototype', Object.create(null)],
  ['an error that is its cause’s cause', cyclic()],
  [
    'what throws when it is looked at',
    Object.defineProperties({}, { message: { get: lookAway }, code: { get: lookAway } }),
  ],
  ['a proxy that was revoked', revoked()],
  ['five megabytes of words', new Error('x'.repeat(5_000_000))],
  ['a code that is a number', coded(5)],
  ['a code of an object’s own', coded('__proto__')],
  ['a code of the system', coded('ECONNREFUSED')],
  ['a marked one of a later version', coded('LOG_MOVED', marked)],
  ['what calls itself a bug of ours', coded('x', { [Symbol.for('headwater.bug')]: true })],
  ['a code of ours, without our class', coded('LOG_FENCED'), 'LOG_FENCED'],
  ['a code of ours that does not pass', coded('LOG_TOO_LARGE'), 'LOG_TOO_LARGE'],
];

describe.each(Object.keys(METHODS) as Part[])('a package as %s', (part) => {
  it.each(THROWN)('that throws %s at every call', async (_, thrown, code = CODES[part]) => {
    const fail = (): never => {
      throw thrown;
    };
    for (const act of [fail, () => Promise.resolve().then(fail)]) {
      const adapter = guarded(part, all(part, act));
      for (const name of METHODS[part]) {
        const error: unknown = await asked(adapter, name).catch((caught: unknown) => caught);
        expect(error, name).toBeInstanceOf(HeadwaterError);
        expect(error, name).toMatchObject({ code });
        expect((error as Error).message).toMatch(new RegExp(`^${part} x: .{2,2100}$`));
      }
    }
  });

  it.each([
    ...[undefined, null, 42, 'text', {}, [null], [undefined, {}], [{ key: 1 }], new Map([[1, {}]])],
    ...[new Array<unknown>(3), Buffer.from('x'), true, () => 1, new Date(), Object.freeze([{}])],
  ])('that gives %s is told what it should have given, or that is what it may give', async (value) => {
    const adapter = guarded(
      part,
      all(part, () => Promise.resolve(value)),
    );
    for (const name of METHODS[part]) {
      const error: unknown = await asked(adapter, name).catch((caught: unknown) => caught);
      if (!(error instanceof Error)) continue;
      expect(error, name).toMatchObject({ code: CODES[part] });
      expect(error.message).toMatch(/^(log|store|lake) x: (\w+ gave .* which is not |it says no)/);
    }
  });

  it('that never answers has failed after a while, also to close', async () => {
    const adapter = guarded(
      part,
      all(part, () => new Promise(() => undefined)),
    );
    for (const name of METHODS[part])
      await expect(asked(adapter, name), name).rejects.toThrow(
        new RegExp(`^${part} x: ${name} has given no answer for \\d+ s$`),
      );
  });

  it('that gives anything where it is asked for a page or a metric is no 500', () => {
    for (const value of [undefined, null, 42, {}, [null], 'x', Promise.resolve([])]) {
      const adapter = guarded(
        part,
        all(part, () => value),
      );
      for (const name of AT_ONCE) adapter[name]?.('raw/x');
      const warnings = adapter['warnings']?.();
      if (part !== 'lake')
        expect(warnings).toEqual([expect.stringMatching(/^\w+ x: warnings gave .* sentences$/)]);
      if (part === 'log') expect(adapter['health']?.()).toMatchObject({ up: false });
    }
  });
});

it('what our own code threw, and the package handed on, stays what it is', async () => {
  const ours = new HeadwaterError('STORE_RESET', 'begin again');
  const adapter = guarded(
    'log',
    all('log', () => Promise.reject(ours)),
  );
  await expect(asked(adapter, 'append')).rejects.toBe(ours);
  const bug = guarded(
    'log',
    all('log', () => assert(false, 'never')),
  );
  await expect(asked(bug, 'append')).rejects.toThrow(/^bug: never$/);
});

describe('a log', () => {
  const record: LogRecord = { key: 'k', value: Buffer.from('v'), headers: {} };
  const options: ConsumerOptions = { group: 'g', topic: 't', from: 'start', bytesMax: 1 };

  it('whose consumer has not answered is not asked again, and its late words are nobody’s', async () => {
    let polls = 0;
    let theirs: ConsumerOptions = options;
    const consumer: Partial<LogConsumer> = {
      poll: () => {
        polls++;
        return new Promise(() => undefined);
      },
      commit: () => Promise.resolve(),
      close: () => Promise.resolve(),
    };
    const log = {
      consumer: (given: ConsumerOptions) => {
        theirs = given;
        return Promise.resolve(consumer);
      },
    };
    const assigned: number[] = [];
    const guard = new GuardedLog(log as unknown as Log, 'x', () => undefined, fast);
    const own = await guard.consumer({
      ...options,
      onAssign: (partition) => Promise.resolve(void assigned.push(partition)),
    });
    await expect(own.poll(0)).rejects.toThrow('poll has given no answer for 300 s');
    await expect(own.poll(0)).rejects.toThrow('this consumer has given no answer');
    await expect(own.commit({ produce: [], offsets: new Map() })).rejects.toThrow('is left');
    expect(polls).toBe(1);
    await theirs.onAssign?.(1, undefined);
    await expect(theirs.onAssign?.('0' as never, undefined)).rejects.toThrow('no partition');
    await own.close();
    await theirs.onAssign?.(2, undefined);
    expect(assigned).toEqual([1]);
  });

  it('that calls a watch back after it was closed, or with what are no records, is not listened to', async () => {
    let call: (records: unknown) => void = () => undefined;
    const log = {
      watch: (_: string, take: typeof call) => {
        call = take;
        return Promise.resolve({ close: () => Promise.resolve() });
      },
    };
    const said: string[] = [];
    const seen: unknown[] = [];
    const notify = ({ text }: { text: string }): void => void said.push(text);
    const guard = new GuardedLog(log as unknown as Log, 'x', notify, fast);
    const watch = await guard.watch('state', (records) => seen.push(...records));
    call([record]);
    for (let time = 0; time < 50; time++) call([{ ...record, value: 'no bytes' }]);
    await watch.close();
    call([record]);
    expect(seen).toEqual([record]);
    expect(said).toEqual(['log x: a watch of state gives what are no records']);
  });
});

describe('a store', () => {
  const change = (sequence: number): Change => ({
    identity: { gateway: 'g', epoch: 'e', sequence, index: 0 },
    put: undefined,
  });
  const part = { measurement: 'm', field: 'f', tags: {}, points: [[1, 2]], cursor: 'c' };
  const store = (theirs: object): GuardedStore =>
    new GuardedStore(theirs as TimeSeriesStore, 'x', SUPPORTS, fast);

  it('refuses what it was given, if only by its identity, and nothing else', async () => {
    const given = change(1);
    const refusing = (changes: unknown[]): Promise<unknown> =>
      store({ apply: () => Promise.resolve([{ reason: 'no', changes }]) }).apply(
        [given],
        new Map(),
      );
    const [refused] = (await refusing([structuredClone(given)])) as { changes: Change[] }[];
    expect(refused?.changes[0]).toBe(given);
    await expect(refusing([change(2)])).rejects.toThrow('apply refused what it was not given');
    await expect(refusing([{}])).rejects.toThrow('apply gave a list of 1');
  });

  it.each([
    ['throws in return()', () => Promise.reject(new Error('never enough'))],
    ['does not answer return()', () => new Promise(() => undefined)],
    ['gives nothing in return()', () => undefined],
  ])('whose parts never end and %s can be left', async (_, end) => {
    const next = (): unknown => Promise.resolve({ done: false, value: part });
    const query = (): unknown => ({ [Symbol.asyncIterator]: () => ({ next, return: end }) });
    let count = 0;
    for await (const each of store({ query }).query({})) {
      expect(each).toEqual(part);
      if (++count === 3) break;
    }
    expect(count).toBe(3);
  });

  it.each([
    ['a part without a cursor', { ...part, cursor: undefined }],
    ['a point without a time', { ...part, points: [[Number.NaN, 1]] }],
    ['a value that is none', { ...part, points: [[1, {}]] }],
    ['tags that are no texts', { ...part, tags: { a: 1 } }],
  ])('that gives %s has failed there', async (_, wrong) => {
    const query = async function* (): AsyncGenerator {
      yield await Promise.resolve(part);
      yield wrong;
    };
    await expect(gathered(store({ query }).query({}))).rejects.toThrow(
      'store x: query gave an object, which is not points of a series with a cursor',
    );
  });
});

it('an object store that lists what was not asked for, twice or out of order has failed', async () => {
  const info = (key: string): object => ({ key, bytes: 1, version: 'v' });
  for (const keys of [['results/a'], ['raw/a', 'raw/a'], ['raw/b', 'raw/a']]) {
    const objects = guarded('lake', { list: () => Promise.resolve(keys.map(info)) });
    await expect(objects['list']?.('raw/')).rejects.toThrow(
      /^lake x: list gave a list of \d, which is not/,
    );
  }
});

it.each([
  [undefined, 'its create() gave undefined, no adapter'],
  [{ open: 1 }, 'what its create() gave has no open()'],
  [
    Promise.resolve({}),
    'what its create() gave has no open() (a promise: open() does what takes time)',
  ],
])('create() that gives %s is one sentence at the start', (value, why) => {
  expect(() => made('--store x', () => value as unknown as { open(): void }, ['open'])).toThrow(
    `--store x: ${why}`,
  );
});

it('create() that throws is one sentence at the start', () => {
  const create = (): never => {
    throw revoked() as Error;
  };
  expect(() => made('--log x', create, [])).toThrow(
    '--log x: its create() has failed: it gave no reason',
  );
});
