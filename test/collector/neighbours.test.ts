/** More of the kinds that `told.test.ts` has examples of: what only looks right, and what stands beside what is wrong. */
import { describe, expect, it } from 'vitest';
import { encode as encodeCbor } from 'cborg';
import { Admission } from '../../collector/decode/admission.ts';
import { FrameDecoder } from '../../collector/decode/frame-decoder.ts';
import { FrameBuilder } from '../../shared/frame/builder.ts';
import { checkFrame } from '../../shared/frame/frame.ts';
import type { Quarantined, Reading } from '../../shared/model/reading.ts';
import { RECEIVED, decodeAll, decodeMessage, freshState, mapped } from '../support/decode.ts';

const fieldsOf = (payload: string | Uint8Array, yaml?: string) =>
  decodeMessage('d/x', payload, yaml === undefined ? {} : { mappings: mapped(yaml) })[0]?.fields;
const yaml = (rest: string): string => `mappings: [{topic: "#", ${rest}}]`;

describe('times that only look right', () => {
  it.each([
    '2026-06-01T11:60:00Z',
    '2026-06-01T11:00:61Z',
    '2026-06-01T24:00:00Z',
    '2026-06-01T25:00:00Z',
    '2026-06-31T11:00:00Z',
    '2026-06-01T11:00:00+99:99',
    '2026-06-01T11:00:00+15:00',
    '2026-06-01T11:00:00+01:60',
    '20260601T116000Z',
  ])('%s stays text', (time) => {
    expect(decodeMessage('d/x', JSON.stringify({ time, t: 1 }))[0]).toMatchObject({
      timeMs: RECEIVED,
      fields: { time_text: time, t: 1 },
    });
  });
  it.each([
    ['2026-06-01T11:00:00+14:00', '2026-05-31T21:00:00.000Z'],
    ['2026-06-01T11:00:00-1130', '2026-06-01T22:30:00.000Z'],
    ['2026-05-31T23:59:60Z', '2026-06-01T00:00:00.000Z'],
  ])('%s is %s', (time, utc) => {
    expect(decodeMessage('d/x', JSON.stringify({ time, t: 1 }))[0]).toMatchObject({
      timeMs: Date.parse(utc),
      fields: { t: 1 },
    });
  });
  it('an hour of twelve has its half of the day; one that is not there is no time', () => {
    const at = (text: string) =>
      decodeMessage('d/x', JSON.stringify({ at: text, x: 1 }), {
        mappings: mapped(
          yaml('time: {from: at, format: "MM/DD/YYYY hh:mm:ss A", zone: America/New_York}'),
        ),
      })[0];
    expect(at('05/25/2026 08:00:00 PM')?.timeMs).toBe(Date.UTC(2026, 4, 26));
    expect(at('05/25/2026 12:00:00 am')?.timeMs).toBe(Date.UTC(2026, 4, 25, 4));
    expect(at('05/25/2026 12:00:00 p.m.')?.timeMs).toBe(Date.UTC(2026, 4, 25, 16));
    for (const wrong of [
      '05/25/2026 13:00:00 PM',
      '05/25/2026 0:00:00 AM',
      '05/25/2026 08:60:00 PM',
    ])
      expect(at(wrong)).toMatchObject({ timeMs: RECEIVED, fields: { at_text: wrong, x: 1 } });
    expect(() => mapped(yaml('time: {from: at, format: "MM/DD/YYYY hh:mm"}'))).toThrow(/AM or PM/);
  });
  it('date and time in two fields are neither of them values', () => {
    const rest = 'time: {from: [date, clock], format: "DD.MM.YYYY HH:mm:ss", zone: Europe/Berlin}';
    expect(fieldsOf('{"date":"25.05.2026","clock":"20:00:00","t":1}', yaml(rest))).toEqual({
      t: 1,
    });
    expect(fieldsOf('{"date":"25.05.2026","clock":"20:61:00","t":1}', yaml(rest))).toEqual({
      date_text: '25.05.2026',
      clock_text: '20:61:00',
      t: 1,
    });
  });
});

describe('one bad value, good neighbours', () => {
  it('a member twice goes to quarantine alone, at any depth, with and without a mapping', () => {
    for (const rest of [undefined, yaml('tags: {a: b}')]) {
      const { readings, problems } = decodeAll(
        'd/x',
        '{"a":1,"a":2,"b":3,"in":{"c":1,"c":{"d":1},"e":4},"l":[{"f":1,"f":1,"g":5}]}',
        rest === undefined ? {} : { mappings: mapped(rest) },
      );
      expect(readings[0]?.fields).toEqual({ b: 3, in_e: 4, l_0_g: 5 });
      expect(problems.map(({ reason }) => reason)).toEqual(
        ['a', 'c', 'f'].map((name) => `an object has two members named '${name}'`),
      );
    }
    const cbor = encodeCbor(
      new Map<unknown, unknown>([
        ['1', 1],
        [1, 2],
        ['b', 3],
      ]),
    );
    expect(fieldsOf(cbor, yaml('codec: cbor'))).toEqual({ b: 3 });
  });
  it('a value that nobody can tell is no tag and no time', () => {
    expect(
      decodeAll('d/x', '{"id":"a","id":"b","ts":1,"ts":2,"v":3}', {
        mappings: mapped(yaml('tags: {id: {from: id}}, time: ts')),
      }).readings[0],
    ).toMatchObject({ timeMs: RECEIVED, tags: { gateway: 'gw' }, fields: { v: 3 } });
  });
  it('a line of JSON that is wrong goes to quarantine alone', () => {
    const { readings, problems } = decodeAll('d/x', '{"t":1}\n{bad\n\n{"u":NaN,"v":2}\n', {
      mappings: mapped(yaml('codec: ndjson, each: "*"')),
    });
    expect(readings.map(({ fields }) => fields)).toEqual([{ t: 1 }, { v: 2 }]);
    expect(problems.map(({ part }) => [part?.index, String(part?.payload)])).toEqual([[1, '{bad']]);
  });
  it('JSON lines are recognised where each of several lines is one', () => {
    expect(fieldsOf('{"t":1}\n{"u":2}\n')).toEqual({ '0_t': 1, '1_u': 2 });
    expect(() => fieldsOf('{"t":1}\n{"u":')).toThrow(/not JSON/);
    expect(fieldsOf('{"t":1}{"u":2}')).toEqual({ t: 1, u: 2 });
    // Not as long as a document is: the reason is that of the whole, and found at once.
    expect(() => fieldsOf('{\n'.repeat(100_000))).toThrow(/not JSON/);
    expect(() => fieldsOf('{"t":1}\n'.repeat(20_001))).toThrow(/not JSON/);
  });
  it('CSV, key=value and query strings say NaN too', () => {
    for (const [codec, payload] of [
      ['key-value', 't=NaN h=45 u=-inf'],
      ['query-string', 't=nan&h=45&u=Infinity'],
    ]) {
      const decoded = decodeAll('d/x', payload as string, {
        mappings: mapped(yaml(`codec: ${codec}`)),
      });
      expect([decoded.readings[0]?.fields, decoded.omitted]).toEqual([{ h: 45 }, 2]);
    }
    expect(fieldsOf('t,h\nNaN,45\n', yaml('codec: csv, each: "*"'))).toEqual({ h: 45 });
  });
  it('a field without a name goes aside alone, since InfluxDB would refuse all of its point', () => {
    const [reading] = decodeMessage('d/x', '{"":1,"b":2}');
    const given = reading as Reading;
    const admission = new Admission({ perClient: 9, perGateway: 9 });
    expect(admission.admit(freshState(), 'c', 'd/x', given)).toEqual([
      expect.stringMatching(/^a field has no name.*rename/),
    ]);
    expect(given.fields).toEqual({ b: 2 });
    expect(fieldsOf('{"":1,"b":2}', yaml('rename: {"": a}'))).toEqual({ a: 1, b: 2 });
  });
});

describe('quarantine', () => {
  it('a first line and the message itself are two items: neither takes the place of the other', () => {
    const builder = new FrameBuilder();
    const payload = Buffer.from('m v=\nm v=99999999999999999999i,w=1');
    builder.add(
      { client: 'c', topic: 'l', qos: 1, retain: false, dup: false, payload },
      RECEIVED * 1000,
      1,
    );
    const origin = { gateway: 'gw', epoch: Buffer.alloc(8, 1), bootId: Buffer.alloc(8) };
    const frame = builder.finish(origin, 1, 2, true);
    const items: Quarantined[] = [];
    const decoder = new FrameDecoder(
      mapped(yaml('codec: line-protocol')),
      { perClient: 9, perGateway: 9 },
      (item) => {
        items.push(item);
        return { topic: 'quarantine', key: 'gw', headers: {}, value: Buffer.alloc(0) };
      },
    );
    decoder.readings({
      frame,
      header: checkFrame(frame),
      arrivedMs: RECEIVED,
      offsetUs: 0,
      isFresh: () => true,
      state: freshState(),
      partition: 0,
      hasAll: () => true,
    });
    expect(items.map(({ reason }) => reason)).toEqual([
      "line protocol: '' is no value",
      expect.stringMatching(/beyond 2\^53/),
    ]);
    expect(new Set(items.map(({ sequence, index }) => `${sequence}/${index}`)).size).toBe(2);
  });
});

describe('text that looks like something else', () => {
  it('dates, clocks and numbers in groups are no quantities', () => {
    for (const text of [
      '2026-06-01',
      '12:30',
      '1.234,5 kWh',
      '1.2.3',
      '5/3',
      '10.0.0.1',
      '7,',
      '3;4',
    ])
      expect(
        decodeAll('d/x', JSON.stringify({ q: text, n: 1 }), {
          mappings: mapped(yaml('types: {q: quantity}')),
        }),
      ).toMatchObject({ readings: [{ fields: { n: 1 } }], problems: [{}] });
    for (const [text, number, unit] of [
      ['239V', 239, 'V'],
      ['−5,5 °C', -5.5, '°C'],
      ['45 %', 45, '%'],
      ['3.2 m³/h', 3.2, 'm³/h'],
      ['1e3 W', 1000, 'W'],
      ['12 km/h', 12, 'km/h'],
      ['5.1 µg/m3', 5.1, 'µg/m3'],
    ] as const) {
      const [reading] = decodeMessage('d/x', JSON.stringify({ q: text }), {
        mappings: mapped(yaml('types: {q: quantity}')),
      });
      expect([text, reading?.fields, reading?.meta?.get('q')]).toEqual([
        text,
        { q: number },
        { unit },
      ]);
    }
  });
  it('a log line may begin with a time in brackets', () => {
    for (const text of [
      '[09:00:00]',
      '[09:00:00][D][sensor:094]: x=3',
      '[2026-06-01 09:00] door',
      '[1/2] done',
    ])
      expect(fieldsOf(text)).toEqual({ value_text: text });
    for (const text of ['[1,2', '[abc', '{not json'])
      expect(() => fieldsOf(text)).toThrow(/not JSON/);
  });
  it('what is no value says so', () => {
    const { problems } = decodeAll('d/x', 'm w=tru,x=1\nm v=1', {
      mappings: mapped(yaml('codec: line-protocol')),
    });
    expect(problems[0]?.reason).toBe("line protocol: 'tru' is no value");
  });
});

describe('settings', () => {
  it("'field' beside 'fields' or 'pairs' would have no effect, and is refused", () => {
    for (const rest of ['field: x, fields: [v]', 'field: x, pairs: {from: l, name: n, value: v}'])
      expect(() => mapped(yaml(rest))).toThrow(/'field': names a bare value/);
    expect(fieldsOf('[{"name":"t","v":1}]', yaml('each: "*.v", field: {from: ^.name}'))).toEqual({
      t: 1,
    });
  });
});
