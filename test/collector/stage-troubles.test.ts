/** A stage between packages that fail in every way: it stays, says so, and goes on when they do. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Mappings } from '../../collector/decode/mapping/mappings.ts';
import { DecodeStage } from '../../collector/decode/stage.ts';
import { EmbeddedLog } from '../../collector/log/embedded.ts';
import {
  TOPIC_QUARANTINE,
  TOPIC_RAW,
  TOPIC_READINGS,
  type Log,
  type LogRecord,
} from '../../collector/log/log.ts';
import { topics } from '../../collector/log/topics.ts';
import type { Stage, StageOptions } from '../../collector/stage/options.ts';
import { runStage } from '../../collector/stage/stage.ts';
import { Trouble } from '../../collector/stage/state.ts';
import { DuckDbStore } from '../../collector/store/duckdb.ts';
import { gathered } from '../support/gathered.ts';
import { StoreStage } from '../../collector/store/stage.ts';
import type { TimeSeriesStore } from '../../collector/store/store.ts';
import { assert, HeadwaterError } from '../../shared/errors.ts';
import { FrameBuilder } from '../../shared/frame/builder.ts';
import { CLOCK_SYNCHRONISED } from '../../shared/frame/frame.ts';
import { decodeQuarantined } from '../../shared/model/quarantine-record.ts';
import type { Notice } from '../../shared/telemetry/log.ts';
import { fastTime } from '../support/fast-time.ts';
import { temporaryFolder, until } from '../support/process.ts';

/** A second passes in 100 ms, but in the log. */
const FAST = 10;
const fast = fastTime(FAST);

/** Of no class that anybody knows. */
class Foreign {
  readonly reason = 'of another world';
}

/** Everything that a package may throw. The contract's own words come without the contract's class. */
const KINDS: readonly (() => unknown)[] = [
  () => Object.assign(new Error('away'), { code: 'STORE_UNAVAILABLE', retryable: true }),
  () => Object.assign(new Error('broker away'), { code: 'LOG_UNAVAILABLE' }),
  () => Object.assign(new Error('taken over'), { code: 'LOG_FENCED', retryable: true }),
  () => Object.assign(new Error('never'), { code: 'CONFIG_INVALID', retryable: false }),
  () => new HeadwaterError('UNREACHABLE', 'nobody there'),
  () => new TypeError("Cannot read properties of undefined (reading 'x')"),
  () => new Foreign(),
  () => 'a string',
  () => undefined,
  () => null,
  () => 42,
  () => Object.assign(new Error('disk'), { code: 'EIO' }),
  () => Symbol('theirs'),
  () => {
    const { proxy, revoke } = Proxy.revocable({}, {});
    revoke();
    return proxy;
  },
];

/** A package whose every call fails while `bad.now`, with each kind in turn: as a rejection, or at once. */
function hostile<T extends object>(real: T, bad: { now: boolean; calls: number }): T {
  return new Proxy(real, {
    get(target, name) {
      const value: unknown = Reflect.get(target, name, target);
      if (typeof value !== 'function' || name === 'close') return value;
      return (...args: unknown[]): unknown => {
        if (!bad.now) {
          const answer: unknown = Reflect.apply(value, target, args);
          if (name !== 'consumer') return answer;
          // It is a promise of a consumer.
          return (answer as Promise<object>).then((consumer) => hostile(consumer, bad));
        }
        const kind = KINDS[bad.calls++ % KINDS.length] as () => unknown;
        const error = kind();
        // What answers at once throws at once.
        if (bad.calls % 2 === 0 || name === 'groups' || name === 'ended') throw error;
        return Promise.reject(error);
      };
    },
  });
}

let log: EmbeddedLog;
let notices: Notice[];
const notify = (notice: Notice): void => void notices.push(notice);

beforeEach(async () => {
  notices = [];
  log = new EmbeddedLog(
    {
      folder: temporaryFolder(),
      cacheBytes: 1 << 20,
      topics: topics(Infinity),
      now: () => Date.now(),
      reopenMs: 5,
    },
    () => undefined,
  );
  await log.open();
});

afterEach(async () => await log.close());

const record = (value: string): LogRecord => ({
  key: 'gw',
  value: Buffer.from(value),
  headers: { arrived: '1700000000000' },
});

const quarantine = async (): Promise<{ reason: string; payload: string }[]> => {
  const options = { topic: TOPIC_QUARANTINE, from: 'start', bytesMax: 1 << 24 } as const;
  const consumer = await log.consumer({ group: `look-${notices.length}`, ...options });
  const records = await consumer.poll(50);
  await consumer.close();
  return records.map(({ value }) => {
    const { reason, payload } = decodeQuarantined(value);
    return { reason, payload: payload.toString() };
  });
};

function follow(over: Partial<StageOptions> & Pick<StageOptions, 'step'>, from: Log = log): Stage {
  return runStage({
    name: 'trial',
    log: from,
    notify,
    time: fast,
    touches: 'elsewhere',
    consumer: { group: 'trial', topic: TOPIC_READINGS, from: 'start', bytesMax: 1 << 20 },
    ...over,
  });
}

describe('a stage', () => {
  it('outlasts log and store packages that throw everything at every call, and writes all of it once when they stop', async () => {
    const store = new DuckDbStore(
      { folder: temporaryFolder(), memoryBytes: 128 << 20, now: () => Date.now() },
      () => undefined,
    );
    await store.open();
    const badLog = { now: false, calls: 0 };
    const badStore = { now: false, calls: 0 };
    const hostileLog: Log = hostile(log, badLog);
    const hostileStore: TimeSeriesStore = hostile(store, badStore);
    const limits = { perClient: 1e6, perGateway: 1e6 };
    const decode = new DecodeStage(hostileLog, new Mappings([]), limits, notify, fast);
    const storing = new StoreStage({
      log: hostileLog,
      store: hostileStore,
      notify,
      time: fast,
      fillRate: 1e6,
    });
    badLog.now = true;
    badStore.now = true;
    decode.start();
    storing.start();
    let sequence = 1;
    const send = async (count: number): Promise<void> => {
      const builder = new FrameBuilder();
      for (let i = 0; i < count; i++)
        builder.add(
          {
            client: 'c',
            topic: 'hall/1/n',
            qos: 1,
            retain: false,
            dup: false,
            payload: Buffer.from(`{"n":${sequence + i}}`),
          },
          1.7e15,
          1,
        );
      const identity = { gateway: 'gw', epoch: Buffer.alloc(8, 1), bootId: Buffer.alloc(8) };
      const value = builder.finish(identity, sequence, CLOCK_SYNCHRONISED, true);
      sequence += count;
      await log.append(TOPIC_RAW, [{ key: 'gw', value, headers: { arrived: '1700000000000' } }]);
    };
    for (let i = 0; i < 30; i++) await send(10);
    // Both fail for a while, and then the store alone.
    await until('the log to be asked in vain', () => badLog.calls > KINDS.length || undefined);
    badLog.now = false;
    await until('the store to be', () => badStore.calls > KINDS.length * 2 || undefined, 20_000);
    const waiting = storing
      .running()
      .map((stage) => stage.state())
      .find(({ state }) => state === 'waits');
    expect(waiting?.reason).not.toBe('');
    badLog.now = false;
    badStore.now = false;
    await until(
      'everything stored',
      async () => {
        const [count] = await gathered(store.query({ measurement: 'n', fn: 'count' }));
        return count?.points[0]?.[1] === 300 || undefined;
      },
      20_000,
    );
    expect(await quarantine()).toEqual([]);
    const said = new Set(notices.map(({ event }) => event));
    for (const event of ['decode_waits', 'decode_resumed', 'store_waits', 'store_resumed'])
      expect(said).toContain(event);
    const states = () => [...decode.running(), ...storing.running()].map((stage) => stage.state());
    await until('all to work', () => states().every(({ state }) => state === 'works') || undefined);
    await decode.close();
    await storing.close();
    await store.close();
  });

  it.each([
    ['a bug', () => assert(false, 'no such record')],
    ['a TypeError', () => (undefined as unknown as string[]).length],
    [
      'a text',
      () => {
        // eslint-disable-next-line @typescript-eslint/only-throw-error
        throw 'not this one';
      },
    ],
  ] as const)('sets the one record aside that ends its step with %s, whether it asks others or not, and the rest goes on', async (_, fail) => {
    for (const touches of ['nothing', 'elsewhere'] as const) {
      const seen: string[] = [];
      const stage = follow({
        touches,
        consumer: { group: touches, topic: TOPIC_READINGS, from: 'start', bytesMax: 1 << 20 },
        step: async (records) => {
          for (const { value } of records) if (value.toString() === 'poison') fail();
          for (const { value } of records) seen.push(value.toString());
          return await Promise.resolve([]);
        },
      });
      const values = Array.from({ length: 200 }, (__, at) => (at === 77 ? 'poison' : `v${at}`));
      if (touches === 'nothing') await log.append(TOPIC_READINGS, values.map(record));
      await until('the last record', () => seen.includes('v199') || undefined, 10_000);
      expect(new Set(seen)).toEqual(new Set(values.filter((value) => value !== 'poison')));
      await until('its commit', () => stage.state().waitingRecords === 0 || undefined);
      expect(stage.state()).toMatchObject({ state: 'works', asideRecords: 1 });
      await stage.close();
    }
    const aside = await quarantine();
    expect(aside.map(({ payload }) => payload)).toEqual(['poison', 'poison']);
    expect(aside[0]?.reason).toMatch(
      /^stage 'trial' cannot take this record \(readings\/0, offset 77\)/,
    );
  });

  it('says once that the log cannot be read, though it finishes meanwhile what it has gathered', async () => {
    let polls = 0;
    const deaf = new Proxy(log, {
      get: (target, name) => {
        if (name !== 'consumer') return Reflect.get(target, name, target) as unknown;
        return async (options: Parameters<Log['consumer']>[0]) => ({
          ...(await target.consumer(options)),
          ended: () => new Set(),
          close: () => Promise.resolve(),
          commit: () => Promise.resolve(),
          poll: () => {
            polls++;
            return Promise.reject(Object.assign(new Error('deaf'), { code: 'LOG_UNAVAILABLE' }));
          },
        });
      },
    });
    const step = (): Promise<[]> => Promise.resolve([]);
    const stage = follow({ step, idle: step }, deaf);
    await until('many polls', () => polls > 8 || undefined, 20_000);
    await stage.close();
    expect(notices.map(({ event }) => event)).toEqual(['trial_waits']);
  });

  it('sets nothing aside while nobody passes: what is away is waited for, whatever it says', async () => {
    let isAway = true;
    let tries = 0;
    const seen: string[] = [];
    const stage = follow({
      step: async (records) => {
        tries++;
        if (isAway) throw new Error('a word that no table knows');
        for (const { value } of records) seen.push(value.toString());
        return await Promise.resolve([]);
      },
      // What it does beside its records works.
      idle: () => Promise.resolve([]),
    });
    await log.append(TOPIC_READINGS, ['a', 'b', 'c'].map(record));
    await until('many tries', () => tries > 40 || undefined, 10_000);
    expect(notices.map(({ event }) => event)).not.toContain('trial_resumed');
    expect(stage.state()).toMatchObject({
      state: 'waits',
      waitsFor: 'working',
      reason: 'a word that no table knows',
      waitingRecords: 3,
    });
    isAway = false;
    await until('all of them', () => seen.length >= 3 || undefined);
    expect(seen).toEqual(['a', 'b', 'c']);
    expect(await quarantine()).toEqual([]);
    await stage.close();
  });

  it('sets a record aside at whose step the log itself is too small, and commits the others', async () => {
    const seen: string[] = [];
    const small: Log = new Proxy(log, {
      get(target, name) {
        const value: unknown = Reflect.get(target, name, target);
        if (name !== 'consumer')
          return typeof value === 'function' ? (value.bind(target) as unknown) : value;
        return async (options: Parameters<Log['consumer']>[0]) => {
          const consumer = await target.consumer(options);
          const commit = consumer.commit.bind(consumer);
          consumer.commit = async (step) => {
            if (step.produce.some((each) => each.topic === TOPIC_RAW && each.value.length > 100))
              throw new HeadwaterError('LOG_TOO_LARGE', 'a record of 101 bytes is over 100');
            await commit(step);
            for (const { value } of step.produce) seen.push(value.toString());
          };
          return consumer;
        };
      },
    });
    const stage = follow(
      {
        touches: 'nothing',
        step: (records) =>
          Promise.resolve(
            records.map(({ key, value }) => ({ topic: TOPIC_RAW, key, headers: {}, value })),
          ),
      },
      small,
    );
    await log.append(TOPIC_READINGS, ['a', 'x'.repeat(101), 'b'].map(record));
    await until('what is behind it', () => seen.includes('b') || undefined, 10_000);
    expect(stage.state().asideRecords).toBe(1);
    expect((await quarantine()).map(({ payload }) => payload)).toEqual(['x'.repeat(101)]);
    await stage.close();
  });

  it('says within ten seconds that something gives no answer, and what for', async () => {
    let answer = (): void => undefined;
    const stage = follow({
      step: async () => {
        await new Promise<void>((resolve) => (answer = resolve));
        return [];
      },
    });
    await log.append(TOPIC_READINGS, [record('a')]);
    const asked = performance.now();
    await until(
      'a warning',
      () => notices.some(({ text }) => text === 'working: no answer for 8 s') || undefined,
    );
    expect((performance.now() - asked) * FAST).toBeLessThan(15_000);
    expect(stage.state()).toMatchObject({ state: 'waits', waitsFor: 'working' });
    answer();
    await until('it to go on', () => stage.state().state === 'works' || undefined);
    await stage.close();
  });

  it('tells a trouble at once, once a minute with what waits, a changed reason soon, and that it is over', () => {
    let now = 0;
    const trouble = new Trouble({
      name: 'trial',
      notify,
      wallMs: () => 1.7e12 + now,
      monotonicMs: () => now,
      waitingRecords: () => 12,
    });
    const minute = (reason: string): void => {
      for (let second = 0; second < 60; second++) {
        now += 1000;
        trouble.failed('working', new Error(`${reason} ${second}`));
        trouble.look();
      }
    };
    trouble.failed('working', new Error('away'));
    expect(notices.map(({ text }) => text)).toEqual(['working: away']);
    minute('away, try');
    // One for the other words, and it is the same trouble whatever number it has.
    expect(notices).toHaveLength(2);
    minute('away, try');
    expect(notices).toHaveLength(3);
    expect(notices[2]?.text).toContain('12 records wait');
    minute('refused, try');
    expect(notices).toHaveLength(4);
    expect(trouble.state).toMatchObject({ state: 'waits', reason: 'refused, try 59' });
    trouble.passed();
    expect(notices.at(-1)).toMatchObject({ event: 'trial_resumed', level: 'info' });
    expect(trouble.state).toMatchObject({ state: 'works', succeededMs: 1.7e12 + now });
  });
});
