/** The step of decoding alone: raw records and a state give records and a state, without log, clock or disk. */
import { createHash } from 'node:crypto';
import { CounterBy } from '../../shared/telemetry/metrics.ts';
import { describe, expect, it } from 'vitest';
import { splitFrame } from '../../collector/log/fit.ts';
import { kindOfReason } from '../../collector/decode/reasons.ts';
import { DecodeState } from '../../collector/decode/state.ts';
import { DecodeStep } from '../../collector/decode/step.ts';
import {
  TOPIC_LEDGER,
  TOPIC_QUARANTINE,
  TOPIC_READINGS,
  type Produced,
  type StoredRecord,
} from '../../collector/log/log.ts';
import { FrameBuilder } from '../../shared/frame/builder.ts';
import {
  CLOCK_SYNCHRONISED,
  CLOCK_UNKNOWN,
  KIND_ANCHOR,
  KIND_LOSS,
  KIND_STATUS,
  KIND_SUMMARY,
} from '../../shared/frame/frame.ts';
import { noteFrame, type EpochHoldings, type Notes } from '../../shared/frame/notes.ts';
import { decodeQuarantined } from '../../shared/model/quarantine-record.ts';
import { decodeReadings } from '../../shared/model/readings-record.ts';
import { RECEIVED, mapped } from '../support/decode.ts';

const IDENTITY = { gateway: 'gw', epoch: Buffer.alloc(8, 1), bootId: Buffer.alloc(8) };

function recordOf(
  payloads: string[],
  firstSequence: number,
  clock = CLOCK_SYNCHRONISED,
): StoredRecord {
  const builder = new FrameBuilder();
  for (const payload of payloads)
    builder.add(
      { client: 'c', topic: 't', qos: 1, retain: false, dup: false, payload: Buffer.from(payload) },
      RECEIVED * 1000,
      1,
    );
  const value = builder.finish(IDENTITY, firstSequence, clock, true);
  return {
    key: 'gw',
    value,
    headers: { arrived: String(RECEIVED) },
    partition: 0,
    offset: firstSequence,
  };
}

const TIME = { wallUs: RECEIVED * 1000, monotonicUs: 5, clockQuality: CLOCK_SYNCHRONISED };
const digits = (number: number, bytes: number): string =>
  createHash('sha512')
    .update(`${number}`)
    .digest('hex')
    .slice(0, bytes * 2);
/** Of things that lie apart. */
const apart = (count: number, from = 1): [number, number][] =>
  Array.from({ length: count }, (_, at) => [from + at * at * 3, from + at * at * 3 + 1]);
const holdings = (number: number): EpochHoldings => ({
  epoch: digits(number, 8),
  next: 100_000,
  waiting: number % 2 === 0 ? apart(20, number * 7) : [],
  history: apart(20, 50_000 + number * 11),
  lost: apart(3, 90_000),
});
const NOTES: [what: string, kind: keyof Notes, note: Notes[keyof Notes]][] = [
  ['a loss', KIND_LOSS, { cause: 'dropped', where: 'b', reason: 'full', ranges: apart(900) }],
  [
    'a summary',
    KIND_SUMMARY,
    {
      epoch: digits(1, 8),
      replaces: apart(500),
      series: Array.from({ length: 60 }, (_, at) => ({
        ...{ client: digits(at, 8), topic: `t/${digits(at, 20)}`, constants: {} },
        numbers: { v: [20, at, at + 1, at + 0.5] as [number, number, number, number] },
        ...{ fromUs: RECEIVED * 1000, toUs: RECEIVED * 1000 + at },
      })),
    },
  ],
  ['a status', KIND_STATUS, { epochs: Array.from({ length: 24 }, (_, at) => holdings(at)) }],
];

const make = (yaml = 'mappings: []'): { step: DecodeStep; state: DecodeState } => ({
  step: new DecodeStep(mapped(yaml), { perClient: 1e6, perGateway: 1e6 }, () => undefined),
  state: new DecodeState(),
});
const fieldsOf = (produced: Produced[]): unknown[] =>
  produced
    .filter(({ topic }) => topic === TOPIC_READINGS)
    .flatMap(({ value }) => decodeReadings(value).readings.map(({ fields }) => fields));
const reasonsOf = (produced: Produced[]): string[] =>
  produced
    .filter(({ topic }) => topic === TOPIC_QUARANTINE)
    .map(({ value }) => decodeQuarantined(value).reason);

/** What is left of twenty messages of a boot in 1970, thinned there, and sent once the clock was known. */
const thinnedIn1970 = (sequence: number): StoredRecord => ({
  ...recordOf(['1'], sequence),
  value: noteFrame(
    KIND_SUMMARY,
    {
      epoch: '0202020202020202',
      clock: { boot: IDENTITY.bootId.toString('hex'), wallUs: 40e6, monotonicUs: 30e6 },
      replaces: [[1, 20]],
      series: [
        {
          ...{ client: 'c', topic: 't', constants: {}, fromUs: 50e6, toUs: 70e6 },
          numbers: { value: [20, 1, 9, 5] },
        },
      ],
    },
    IDENTITY,
    sequence,
    TIME,
  ),
});

/** Raw records of a gateway whose clock is not known: an anchor that says how it stands to true time, and a frame. */
const anchorOf = (errorUs: number, offsetUs: number, sequence: number): StoredRecord => ({
  ...recordOf(['1'], sequence),
  value: noteFrame(
    KIND_ANCHOR,
    {
      boot: IDENTITY.bootId.toString('hex'),
      monotonicUs: 1,
      wallUs: RECEIVED * 1000 + offsetUs,
      errorUs,
      basis: 'collector',
    },
    IDENTITY,
    sequence,
    TIME,
  ),
});
const readingsOf = (produced: Produced[]): unknown[] =>
  produced
    .filter(({ topic }) => topic === TOPIC_READINGS)
    .flatMap(({ value }) =>
      decodeReadings(value).readings.map(({ fields, timeMs, was }) => [
        { ...fields },
        timeMs - RECEIVED,
        was && was.timeMs - RECEIVED,
      ]),
    );

describe('step', () => {
  it('a frame of many messages is decoded in portions, so that others have their turn, and to the same end', () => {
    const payloads = Array.from({ length: 100 }, (_, at) => `{"v":${at}}`);
    const portionsOf = (isDue: () => boolean): [number, unknown[]] => {
      const { step, state } = make();
      const portions = step.portions(state, [recordOf(payloads, 1)], isDue);
      let count = 0;
      let next = portions.next();
      for (; next.done !== true; next = portions.next()) count++;
      return [count, readingsOf(next.value.produced)];
    };
    const made = payloads.map((_, at) => [{ v: at }, 0, undefined]);
    expect(portionsOf(() => true)).toEqual([26, made]);
    expect(portionsOf(() => false)).toEqual([0, made]);
  });

  it('what a better anchor does not move is not said again: whoever counts would count it twice', () => {
    const OWN = RECEIVED - 7000;
    const { step, state } = make();
    const records = [
      anchorOf(400_000, 0, 1),
      recordOf(['{"v":1}', `{"v":2,"timestamp":${OWN}}`], 2, CLOCK_UNKNOWN),
    ];
    const { produced } = step.step(state, records);
    expect(readingsOf(produced)).toEqual([
      [{ v: 1 }, 0, undefined],
      [{ v: 2 }, -7000, undefined],
    ]);
    // It moves within a millisecond.
    expect(readingsOf(step.step(state, [anchorOf(99_000, 634, 4)]).produced)).toEqual([]);
    const other = make();
    other.step.step(other.state, records);
    // And what has a time of its own stays.
    const better = other.step.step(other.state, [anchorOf(99_000, 5634, 4)]);
    expect(readingsOf(better.produced)).toEqual([[{ v: 1 }, 5, 0]]);
  });
  it('what was put back into the log has been counted before, also where its clock is known later', () => {
    const { step, state } = make();
    const record = recordOf(['{"v":1}'], 1, CLOCK_UNKNOWN);
    const headers = { ...record.headers, 'from-lake': 'true' };
    expect(readingsOf(step.step(state, [{ ...record, headers }]).produced)).toEqual([]);
    const { produced } = step.step(state, [anchorOf(1000, 5000, 2)]);
    expect(readingsOf(produced)).toEqual([[{ v: 1 }, 5, undefined]]);
    const said = produced.find(({ topic }) => topic === TOPIC_READINGS);
    expect(said?.headers).toMatchObject({ again: 'true' });
  });
  it('what is left of thinned messages and was put back into the log has been counted before', () => {
    const [, , note] = NOTES.find(([, kind]) => kind === KIND_SUMMARY) ?? [];
    const value = noteFrame(KIND_SUMMARY, note as never, IDENTITY, 5, TIME);
    const headersOf = (more: Record<string, string>): unknown => {
      const { step, state } = make();
      const record = { ...recordOf(['1'], 5), value };
      const headers = { ...record.headers, ...more };
      return step
        .step(state, [{ ...record, headers }])
        .produced.find(({ topic }) => topic === TOPIC_READINGS)?.headers;
    };
    expect(headersOf({})).toEqual({});
    expect(headersOf({ 'from-lake': 'true' })).toEqual({ again: 'true' });
  });
  it('what is left of messages that were thinned in 1970 waits for the clock of their boot as they would have, over a restart, and moves with a better anchor', () => {
    const { step, state } = make();
    const { produced } = step.step(state, [thinnedIn1970(5)]);
    expect(readingsOf(produced)).toEqual([]);
    const next = make();
    next.state.of(0).load(produced.filter(({ topic }) => topic === TOPIC_LEDGER));
    expect(next.state.heldFrames).toBe(1);
    const said = (record: StoredRecord): unknown[] =>
      readingsOf(next.step.step(next.state, [record]).produced);
    const fields = { value_min: 1, value_max: 9, value_mean: 5, value_count: 20 };
    expect(said(anchorOf(400_000, 1, 6))).toEqual([[fields, 50_000, undefined]]);
    expect(said(anchorOf(99_000, 5001, 7))).toEqual([[fields, 50_005, 50_000]]);
    expect(next.state.keptFrames).toBe(0);
  });
  it('a frame that comes again gives nothing more, in the same step or a later one', () => {
    const { step, state } = make();
    const record = recordOf(['{"v":1}'], 1);
    expect(fieldsOf(step.step(state, [record, record]).produced)).toEqual([{ v: 1 }]);
    expect(fieldsOf(step.step(state, [record]).produced)).toEqual([]);
    expect(step.duplicateMessages).toBe(2);
  });
  it('of a frame that is known in part only what is new is given', () => {
    const { step, state } = make();
    const valuesOf = (from: number, to: number): string[] =>
      Array.from({ length: to - from + 1 }, (_, at) => `{"v":${from + at}}`);
    step.step(state, [recordOf(valuesOf(3, 4), 3)]);
    const { produced } = step.step(state, [recordOf(valuesOf(1, 6), 1)]);
    expect(fieldsOf(produced)).toEqual([{ v: 1 }, { v: 2 }, { v: 5 }, { v: 6 }]);
    expect(step.duplicateMessages).toBe(2);
    expect(fieldsOf(step.step(state, [recordOf(valuesOf(2, 6), 2)]).produced)).toEqual([]);
  });
  it('what is damaged goes to quarantine, and what stands beside it goes on', () => {
    const { step, state } = make();
    const broken = { ...recordOf(['{"v":1}'], 1), value: Buffer.from('no frame') };
    const { produced } = step.step(state, [broken, recordOf(['{"v":2}', '{"v":'], 2)]);
    expect(fieldsOf(produced)).toEqual([{ v: 2 }]);
    expect(reasonsOf(produced).map((reason) => reason.split(':')[0])).toEqual([
      'frame refused',
      'not JSON',
    ]);
  });
  it.each([
    ["number 9007199254740993 ('a.b') is beyond 2^53", 'number … (…) is beyond 2^53'],
    [`not JSON: token 'x', "{"a":12"... is none`, 'not JSON: token …, …... is none'],
    ['it has control characters (0x1f at byte 12)', 'it has control characters (… at byte …)'],
    ["the sender doesn't say 'when'", "the sender doesn't say …"],
  ])('of %s the kind is told', (reason, kind) => {
    expect(kindOfReason(reason, 160)).toBe(kind);
  });
  it('reasons are counted without what the payload says, and at most 200 of them apart', () => {
    const { step, state } = make();
    step.step(state, [recordOf(['{"a":bad1}', '{"b":worse}', '{"c":"x', '{"d":"y'], 1)]);
    expect(step.quarantinedBy.read().map(({ value }) => value)).toEqual([2, 2]);
    const counter = new CounterBy('reason');
    for (let i = 0; i < 300; i++) counter.add(`reason ${i}`);
    expect(counter.read()).toHaveLength(201);
    expect(counter.read().at(-1)).toEqual({ labels: { reason: 'other' }, value: 100 });
  });
  it('what a mapping leaves over is told once for a topic and its names, and counted each time', () => {
    const { step, state } = make(
      'mappings: [{name: mine, topic: t, points: [{each: "s{n}", is: object}]}]',
    );
    const payloads = ['{"s1":{"v":1},"x":1}', '{"s1":{"v":2},"x":2}', '{"s1":{"v":3},"y":2}'];
    const { produced } = step.step(state, [recordOf(payloads, 1)]);
    expect(fieldsOf(produced)).toEqual([{ v: 1 }, { v: 2 }, { v: 3 }]);
    expect(reasonsOf(produced)).toEqual([
      expect.stringMatching(/mapping 'mine' leaves out x .* the rest of the message is stored/),
      expect.stringMatching(/mapping 'mine' leaves out y /),
    ]);
    expect(step.decoder.leftOverMessages).toBe(3);
  });
  it('readings say when their frame came, unless they were said before or the collector doubted its clock', () => {
    const headersOf = (more: Record<string, string>): Record<string, string>[] => {
      const { step, state } = make();
      const record = recordOf(['{"v":1}'], 1);
      const headers = { ...record.headers, ...more };
      return step
        .step(state, [{ ...record, headers }])
        .produced.filter(({ topic }) => topic === TOPIC_READINGS)
        .map((each) => each.headers);
    };
    expect(headersOf({})).toEqual([{ arrived: String(RECEIVED) }]);
    expect(headersOf({ 'from-lake': 'true' })).toEqual([{ again: 'true' }]);
    expect(headersOf({ unsettled: 'true' })).toEqual([{}]);
  });
  it('numbers that are none are counted and nothing else is said of them', () => {
    const { step, state } = make();
    const { produced } = step.step(state, [
      recordOf(['{"a":NaN,"b":1}', '{"a":Infinity,"b":2}'], 1),
    ]);
    expect([fieldsOf(produced), reasonsOf(produced), step.decoder.omittedValues]).toEqual([
      [{ b: 1 }, { b: 2 }],
      [],
      2,
    ]);
  });
  it.each(
    NOTES,
  )('%s that is larger than raw takes says in parts what it says whole, also when they come again', (_, kind, note) => {
    const value = noteFrame(kind, note as never, IDENTITY, kind === KIND_STATUS ? 0 : 5, TIME);
    const record = { topic: 'raw', key: 'gw', headers: { arrived: String(RECEIVED) }, value };
    const taken = (frames: readonly Buffer[]): { ledger: unknown[]; readings: unknown[] } => {
      const { step, state } = make();
      const stored = (frame: Buffer, offset: number): StoredRecord => ({
        ...{ key: 'gw', headers: record.headers, value: frame },
        ...{ partition: 0, offset },
      });
      // The gateway had told of this one before, and holds nothing of it any more.
      const gone = { epochs: [holdings(77)] };
      const before = noteFrame(KIND_STATUS, gone, IDENTITY, 0, TIME);
      const { produced } = step.step(state, [before, ...frames].map(stored));
      const ledger = state
        .of(0)
        .epochsOf('gw')
        .map((each) => each.record);
      const readings = produced
        .filter(({ topic }) => topic === TOPIC_READINGS)
        .flatMap((each) => decodeReadings(each.value).readings);
      return { ledger: ledger.sort((a, b) => (a.epoch < b.epoch ? -1 : 1)), readings };
    };
    const parts = splitFrame(record, 1500).map((part) => part.value);
    expect(parts.length).toBeGreaterThan(2);
    expect(Math.max(...parts.map((part) => part.length))).toBeLessThan(1500);
    const whole = taken([value]);
    expect(taken(parts)).toEqual(whole);
    expect(taken([...parts, ...parts])).toEqual(whole);
    // Its sender was killed before the last part, and says all of it once more.
    expect(taken([...parts.slice(0, -1), ...parts])).toMatchObject({ ledger: whole.ledger });
  });
});
