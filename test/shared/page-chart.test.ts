/** What the page's charts say of time and numbers: where a line ends, and what stands beside it; and what a sensor is called. */
import { describe, expect, it } from 'vitest';
import { axisText, spread } from '../../dashboards/page/src/axis.ts';
import { gapText, rhythmOf, rhythmOfStates, silencesOf } from '../../dashboards/page/src/gaps.ts';
import { sorted } from '../../dashboards/page/src/order.ts';
import { sensorOf, type Series } from '../../dashboards/page/src/series.ts';

const MINUTE = 60_000;
const each = (count: number, apartMs: number, fromMs = 0): number[] =>
  Array.from({ length: count }, (_, at) => fromMs + at * apartMs);
const silent = (times: number[], everyMs = 0): [number, number][] =>
  silencesOf(times, rhythmOf(times, everyMs));

describe('a line ends', () => {
  it('where nothing came for more than four times the usual, whatever that is', () => {
    for (const apart of [10, 1000, MINUTE, 3600_000, 86_400_000]) {
      const times = [...each(30, apart), ...each(30, apart, apart * 100)];
      expect(silent(times)).toEqual([[29 * apart, 100 * apart]]);
      expect(silent(each(60, apart))).toEqual([]);
    }
  });

  it('not where a few readings got lost, or come unevenly', () => {
    const lost = each(100, MINUTE).filter((_, at) => at % 10 > 2);
    expect(silent(lost)).toEqual([]);
    expect(silent(each(100, MINUTE).map((time, at) => time + ((at * 7919) % 50_000)))).toEqual([]);
  });

  it('around a lone reading, and between batches', () => {
    const times = [...each(30, MINUTE), 100 * MINUTE, ...each(30, MINUTE, 200 * MINUTE)];
    expect(silent(times)).toHaveLength(2);
    expect(silent(each(10, 3600_000).flatMap((from) => each(10, 1000, from)))).toHaveLength(9);
  });

  it('of means at each bucket without a reading, also where series are rarer than buckets', () => {
    const buckets = each(50, MINUTE).filter((time) => time !== 20 * MINUTE);
    expect(silent(buckets, MINUTE)).toEqual([[19 * MINUTE, 21 * MINUTE]]);
    expect(silent(each(50, 3 * MINUTE), MINUTE)).toEqual([]);
  });

  it('nowhere while nobody knows how often it comes', () => {
    for (const times of [[], [1], [1, 2], [1, 2, 10_000], [0, 0, 0, 0, 0, 0, 9]])
      expect(silent(times)).toEqual([]);
  });

  it('and says why', () => {
    const rhythm = rhythmOf(each(9, 90_000));
    expect(rhythm && gapText(rhythm, 1)).toBe(
      'one gap: nothing for more than 6 min, where usually one comes every 1.5 min',
    );
  });

  it('of states only where most readings repeat what holds', () => {
    const door = [0, 10, 300, 310, 5000, 5010, 90_000].map((time, at): [number, unknown] => [
      time * 1000,
      at % 2 === 0,
    ]);
    expect(rhythmOfStates(door)).toBeUndefined();
    const told = each(40, MINUTE).map((time): [number, unknown] => [time, 'idle']);
    expect(rhythmOfStates(told)?.usualMs).toBe(MINUTE);
  });
});

describe('numbers beside a chart', () => {
  it('tell two ticks apart, whatever their size, in at most eighteen characters', () => {
    for (const magnitude of each(32, 1).map((at) => 10 ** (at - 14)))
      for (const step of [1, 2, 2.5, 5].map((of) => of * magnitude))
        for (const base of [0, -7, 400, 123_456]) {
          const [one, two] = [base * step, (base + 1) * step].map((at) => axisText(at, step));
          expect(one).not.toBe(two);
          expect(Math.max(one?.length ?? 0, two?.length ?? 0)).toBeLessThanOrEqual(18);
        }
    expect([0.25, 0.5, 1].map((at) => axisText(at, 0.25))).toEqual(['0.25', '0.5', '1']);
    expect([3.4e38, -1.5e-12, 1_000_003].map((at) => axisText(at, Math.abs(at) / 10))).toEqual([
      '3.4e38',
      '-1.5e-12',
      '1,000,003',
    ]);
  });

  it('have a range that is one, for any two numbers', () => {
    const numbers = [
      0,
      5e-324,
      1e-12,
      21.5,
      -40,
      1e12,
      3.4e38,
      Number.MAX_VALUE,
      -Number.MAX_VALUE,
    ];
    for (const min of numbers)
      for (const max of numbers.filter((each) => each >= min)) {
        const [from, to] = spread(undefined as never, min, max);
        expect(to - from, `${min} ${max}`).toBeGreaterThan(0);
        expect(to - from, `${min} ${max}`).toBeLessThan(Infinity);
      }
  });
});

it('a sensor is called by its one tag, and a number by the name of that tag too', () => {
  const name = (tags: Record<string, string>): string =>
    sensorOf({ name: '', tags: { gateway: 'g', ...tags } });
  expect(name({ topic: 'home/kitchen' })).toBe('home/kitchen');
  expect(name({ sensor_id: '15093' })).toBe('sensor_id=15093');
  expect(name({ room: 'k', slot: '2' })).toBe('room=k slot=2');
  expect(name({})).toBe('g');
});

it('new first: what is new and of now, then what is new and of the past, then what is fresh', () => {
  const nowMs = Date.UTC(2026, 4, 1);
  const make = (key: string, appeared: number, time: number): Series => ({
    ...{ key, measurement: 'm', field: 't', tags: { topic: key }, unit: '', name: '' },
    ...{ time, value: 1, appeared, heardMs: 0, text: key },
  });
  const all = [
    make('result', 3, nowMs),
    make('there', 0, nowMs),
    make('mine', 1, nowMs - 1000),
    make('sample', 2, nowMs - 4 * 86_400_000),
    make('stale', 0, nowMs - 2 * 86_400_000),
  ];
  const isResult = ({ key }: Series): boolean => key === 'result';
  expect(sorted(all, 'new', nowMs, isResult).map(({ key }) => key)).toEqual([
    ...['mine', 'sample', 'there', 'stale', 'result'],
  ]);
});
