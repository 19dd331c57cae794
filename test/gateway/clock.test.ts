/** What the gateway makes of the time: trust, anchors, and boots that nobody could ask in. */
import { describe, expect, it } from 'vitest';
import type { Epoch } from '../../gateway/buffer/epochs.ts';
import { GatewayClock, anchorsOfEarlierBoots } from '../../gateway/buffer/clock.ts';
import { thin } from '../../gateway/buffer/thin.ts';
import { NOT_BEFORE_US } from '../../shared/env/build.ts';
import { Budget, Window } from '../../gateway/uplink/pace.ts';
import { realEnv, type Env } from '../../shared/env/env.ts';
import { FrameBuilder } from '../../shared/frame/builder.ts';
import { CLOCK_SYNCHRONISED, CLOCK_UNKNOWN } from '../../shared/frame/frame.ts';
import type { ClockAnchor } from '../../shared/frame/notes.ts';
import { RangeSet } from '../../shared/model/ranges.ts';

const NOW = 1_795_000_000_000_000;
const S = 1e6;

function fake(
  wallUs: number,
  monotonicUs: number,
): { env: Env; at: { wall: number; mono: number } } {
  const at = { wall: wallUs, mono: monotonicUs };
  const clock = { wallUs: () => at.wall, monotonicUs: () => at.mono };
  return { env: { ...realEnv(), clock }, at };
}

describe('clock', () => {
  it('is unknown until a collector was asked, synchronised while it agrees, unknown again when it was set wrong', () => {
    const { env, at } = fake(NOW, 100 * S);
    const clock = new GatewayClock(env, false);
    expect(clock.stamp()).toMatchObject({ clockQuality: 0, stepped: false });
    at.mono += 0.2 * S;
    at.wall += 0.2 * S;
    const anchor = clock.answered({ echoUs: 100 * S, wallUs: NOW + 0.1 * S });
    expect(anchor).toMatchObject({
      monotonicUs: 100.1 * S,
      wallUs: NOW + 0.1 * S,
      errorUs: 0.1 * S,
      basis: 'collector',
    });
    expect(clock.stamp()).toMatchObject({ clockQuality: 2, stepped: false });
    at.wall += 3600 * S;
    expect(clock.stamp()).toMatchObject({ clockQuality: 0, stepped: true });
    at.wall -= 3600 * S;
    expect(clock.stamp()).toMatchObject({ clockQuality: 2, stepped: true });
  });

  it('tells a second anchor only when it is much better, or the wall clock stays wrong', () => {
    const { env, at } = fake(0, 10 * S);
    const clock = new GatewayClock(env, false);
    at.mono += 4 * S;
    expect(clock.answered({ echoUs: 10 * S, wallUs: NOW })?.errorUs).toBe(2 * S);
    at.mono += 10 * S;
    expect(clock.answered({ echoUs: at.mono - 0.02 * S, wallUs: NOW + 12 * S })?.errorUs).toBe(
      0.01 * S,
    );
    at.mono += 600 * S;
    expect(clock.answered({ echoUs: at.mono - 0.001 * S, wallUs: NOW + 612 * S })).toBeUndefined();
    at.mono += 3600 * S;
    expect(clock.answered({ echoUs: at.mono, wallUs: NOW + 4212 * S })).toBeDefined();
  });

  it('a collector whose clock was set is believed at once: what cannot both be right makes a new anchor, however good the old', () => {
    const { env, at } = fake(NOW, 10 * S);
    const clock = new GatewayClock(env, false);
    at.mono += 0.002 * S;
    expect(clock.answered({ echoUs: 10 * S, wallUs: NOW - 400 * 86_400 * S })).toBeDefined();
    expect(clock.apartUs).toBeCloseTo(400 * 86_400 * S, -6);
    expect(clock.stamp().clockQuality).toBe(0);
    at.mono += 60 * S;
    at.wall += 60 * S;
    // A slower answer, so a larger error, and right.
    const anchor = clock.answered({ echoUs: at.mono - 3 * S, wallUs: at.wall - 1.5 * S });
    expect(anchor).toMatchObject({ errorUs: 1.5 * S, basis: 'collector' });
    expect(clock.stamp().clockQuality).toBe(2);
    expect(Math.abs(clock.apartUs ?? Infinity)).toBeLessThan(S);
  });

  it('an operator who answers for it is believed', () => {
    expect(new GatewayClock(fake(NOW, 1).env, true).stamp().clockQuality).toBe(1);
  });
});

const epoch = (ordinal: number, boot: string, wallUs: number, from: number, to: number): Epoch => ({
  ordinal,
  epoch: String(ordinal),
  boot,
  start: { wallUs, monotonicUs: from },
  last: { wallUs: wallUs + to - from, monotonicUs: to },
  offsetUs: undefined,
  next: 2,
  openEnd: false,
  released: new RangeSet(),
  gone: new RangeSet(),
  lost: new RangeSet(),
  messages: 0,
  bytes: 0,
});
const present: ClockAnchor = {
  boot: 'c',
  monotonicUs: 500 * S,
  wallUs: NOW,
  errorUs: 1000,
  basis: 'collector',
};

describe('earlier boots', () => {
  it('one that woke in 1970 ended when the next began, within a bound that says how far that may be wrong', () => {
    const known = epoch(1, 'a', NOW - 9000 * S, 0, 1000 * S);
    known.offsetUs = NOW - 9000 * S;
    const [anchor] = anchorsOfEarlierBoots(
      [
        known,
        epoch(2, 'b', 30 * S, 5 * S, 605 * S),
        epoch(3, 'c', NOW - 400 * S, 100 * S, 500 * S),
      ],
      present,
    );
    // The present boot began its epoch 400 s ago; the one before lasted 600 s; the last known time is 8,000 s ago.
    expect(anchor).toEqual({
      boot: 'b',
      monotonicUs: 605 * S,
      wallUs: NOW - 400 * S,
      errorUs: (8000 - 400 - 600) * S,
      basis: 'order of boots',
    });
  });

  it('one whose own clock is plausible keeps it', () => {
    const [anchor] = anchorsOfEarlierBoots(
      [epoch(1, 'b', NOW - 5000 * S, 0, 600 * S), epoch(2, 'c', 0, 100 * S, 500 * S)],
      present,
    );
    expect(anchor).toMatchObject({ boot: 'b', wallUs: NOW - 4400 * S, basis: 'own clock' });
    expect(anchor?.errorUs).toBe(
      Math.max(NOW - 400 * S - (NOW - 4400 * S), NOW - 4400 * S - (NOT_BEFORE_US + 600 * S)),
    );
  });

  it('a boot that is known needs none', () => {
    const known = epoch(1, 'b', NOW - 5000 * S, 0, 600 * S);
    known.offsetUs = NOW - 5000 * S;
    expect(anchorsOfEarlierBoots([known, epoch(2, 'c', NOW, 100 * S, 500 * S)], present)).toEqual(
      [],
    );
  });
});

describe('pace', () => {
  it('the window grows on an empty link and shrinks when bytes queue', () => {
    const window = new Window(4 << 20);
    for (let i = 0; i < 40; i++) window.acknowledged(200_000, 5000, i * 10_000);
    expect(window.bytes).toBe(4 << 20);
    for (let i = 0; i < 40; i++) window.acknowledged(100_000, 2_000_000, 1e6 + i * 2_100_000);
    expect(window.bytes).toBeLessThan(64 * 1024);
  });

  it('a budget of bytes a second and a day, the last fifth of the day for live readings', () => {
    const budget = new Budget(1000, 10_000);
    const wall = 86_400e6 * 20_000;
    expect(budget.waitUs(true, wall, 0)).toBe(0);
    budget.sent(3000);
    expect(budget.waitUs(true, wall, 0)).toBeGreaterThan(1.9e6);
    expect(budget.waitUs(true, wall, 2.1e6)).toBe(0);
    budget.sent(5500);
    expect(budget.waitUs(false, wall, 60e6)).toBe(86_400e6);
    expect(budget.waitUs(true, wall, 60e6)).toBe(0);
    budget.sent(2000);
    expect(budget.waitUs(true, wall, 90e6)).toBe(86_400e6);
    expect(budget.waitUs(true, wall + 86_400e6, 95e6)).toBe(0);
    expect(new Budget(0, 10, { day: 20_000, used: 10 }).waitUs(true, wall, 0)).toBeGreaterThan(0);
  });
});

it('messages of an unknown time that are thinned say so, by one clock though that of their boot was set between them', () => {
  const identity = {
    gateway: 'gw',
    epoch: Buffer.alloc(8, 2),
    bootId: Buffer.alloc(8, 3),
  };
  /** Ten messages, one a second. */
  const stored = (first: number, wallUs: number, clock: number) => {
    const builder = new FrameBuilder();
    for (let at = 0; at < 10; at++)
      builder.add(
        {
          ...{ client: 'c', topic: 't', qos: 1, retain: false, dup: false },
          payload: Buffer.from(String(first + at)),
        },
        wallUs + at * S,
        (first + at) * S,
      );
    const place = Buffer.from([first]);
    return {
      ...{ position: place, end: place },
      frame: builder.finish(identity, first, clock, false),
    };
  };
  const frames = [
    stored(1, 40 * S, CLOCK_UNKNOWN),
    stored(11, 9000 * S, CLOCK_UNKNOWN),
    stored(21, NOW, CLOCK_SYNCHRONISED),
  ];
  const { summaries = [] } = thin(frames, false) ?? {};
  const boot = '03'.repeat(8);
  expect(
    summaries.map(({ clock, replaces, series }) => [
      clock,
      replaces,
      series.map(({ fromUs, toUs, numbers }) => [fromUs, toUs, numbers['value']?.[0]]),
    ]),
  ).toEqual([
    [{ boot, wallUs: 40 * S, monotonicUs: S }, [[1, 20]], [[40 * S, 59 * S, 20]]],
    [undefined, [[21, 30]], [[NOW, NOW + 9 * S, 10]]],
  ]);
});
