/** The step of decoding alone: raw records and a state give records and a state, without log, clock or disk. */
import { describe, expect, it } from 'vitest';
import { DecodeState } from '../../collector/decode/state.ts';
import { DecodeStep } from '../../collector/decode/step.ts';
import {
  TOPIC_QUARANTINE,
  TOPIC_READINGS,
  type Produced,
  type StoredRecord,
} from '../../collector/log/log.ts';
import { FrameBuilder } from '../../shared/frame/builder.ts';
import { CLOCK_SYNCHRONISED } from '../../shared/frame/frame.ts';
import { decodeQuarantined } from '../../shared/model/quarantine-record.ts';
import { decodeReadings } from '../../shared/model/readings-record.ts';
import { RECEIVED, mapped } from '../support/decode.ts';

const IDENTITY = { gateway: 'gw', epoch: Buffer.alloc(8, 1), bootId: Buffer.alloc(8) };

function recordOf(payloads: string[], firstSequence: number): StoredRecord {
  const builder = new FrameBuilder();
  for (const payload of payloads)
    builder.add(
      { client: 'c', topic: 't', qos: 1, retain: false, dup: false, payload: Buffer.from(payload) },
      RECEIVED * 1000,
      1,
    );
  const value = builder.finish(IDENTITY, firstSequence, CLOCK_SYNCHRONISED, true);
  return {
    key: 'gw',
    value,
    headers: { arrived: String(RECEIVED) },
    partition: 0,
    offset: firstSequence,
  };
}

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

describe('step', () => {
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
});
