import { describe, expect, it } from 'vitest';
import { Mappings } from '../../collector/decode/mapping/mappings.ts';
import { parseMappings } from '../../collector/decode/mapping/mapping.ts';
import type { Reading } from '../../shared/model/reading.ts';
import { decodeMessage } from '../support/decode.ts';
import { fromEpoch, fromText, isPlausible } from '../../shared/codecs/time.ts';

const RECEIVED = Date.UTC(2026, 5, 1, 12);

function decode(topic: string, payload: string | Buffer, mappings = new Mappings([])): Reading[] {
  return decodeMessage(topic, payload, { mappings, receivedMs: RECEIVED });
}
const only = (topic: string, payload: string, mappings?: Mappings): Reading => {
  const [first, ...rest] = decode(topic, payload, mappings);
  expect(rest).toEqual([]);
  return first as Reading;
};

describe('payloads without a mapping', () => {
  it('a JSON object is flattened: names joined with _, arrays by index, nulls left out', () => {
    expect(
      only('home/kitchen/climate', '{"t":21.5,"a":{"b":[1,2],"c":null},"ok":true,"s":"x"}'),
    ).toMatchObject({
      measurement: 'climate',
      tags: { topic: 'home/kitchen/climate', gateway: 'gw' },
      fields: { t: 21.5, a_b_0: 1, a_b_1: 2, ok_bool: true, s_text: 'x' },
      timeMs: RECEIVED,
    });
  });
  it.each([
    ['21.5', { value: 21.5 }],
    [' -3 ', { value: -3 }],
    ['1e3', { value: 1000 }],
    ['true', { value_bool: true }],
    ['on', { value_text: 'on' }],
    ['"quoted"', { value_text: 'quoted' }],
    ['nan', { value_text: 'nan' }],
    ['[1,"a"]', { 0: 1, '1_text': 'a' }],
  ])('%s becomes its own value', (payload, fields) => {
    expect(only('a/b', payload).fields).toEqual(fields);
  });
  it('line protocol names its own measurement, tags and time', () => {
    expect(
      only(
        'x',
        'airSensor,sensorId=A0100,station=Harbor humidity=35.0658,temperature=21i 1636729543000000123',
      ),
    ).toMatchObject({
      measurement: 'airSensor',
      tags: { sensorId: 'A0100', station: 'Harbor', topic: 'x', gateway: 'gw' },
      fields: { humidity: 35.0658, temperature: 21 },
      timeMs: 1636729543000,
      ns: 123,
    });
  });
  it('line protocol with escapes, quotes and several lines', () => {
    const readings = decode('x', 'm\\ 1,t\\,g=a\\=b f="a, \\"b\\" c",g=t\nm2 v=1 1700000000');
    expect(readings.map(({ measurement, fields }) => [measurement, fields])).toEqual([
      ['m 1', { f_text: 'a, "b" c', g_bool: true }],
      ['m2', { v: 1 }],
    ]);
    expect(readings[0]?.tags['t,g']).toBe('a=b');
    expect(readings[1]?.timeMs).toBe(1_700_000_000_000);
    expect(readings.map(({ index }) => index)).toEqual([0, 1]);
  });
  it.each([
    ['{"ts":1552176013,"v":1}', 1552176013000],
    ['{"time":1552176013000,"v":1}', 1552176013000],
    ['{"timestamp":"2019-03-10T00:00:13Z","v":1}', 1552176013000],
    ['{"timestamp":"20190310T000013Z","v":1}', 1552176013000],
    ['{"timestamp":"2019-03-10 01:00:13+01","v":1}', 1552176013000],
    ['{"timestamp":"1552176013.5","v":1}', 1552176013500],
    ['{"tst":1552176013,"v":1}', 1552176013000],
    ['{"datetime":"2019-03-10T00:00:13Z","v":1}', 1552176013000],
    ['{"dateTime":"2019-03-10T00:00:13Z","v":1}', 1552176013000],
    ['{"last_seen":1552176013000,"v":1}', 1552176013000],
    ['{"Time":"2019-03-10T01:00:13+01:00","v":1}', 1552176013000],
    ['{"ts":1552176013000000,"v":1}', 1552176013000],
  ])("%s: the time is the device's", (payload, ms) => {
    expect(only('a', payload)).toMatchObject({ timeMs: ms, fields: { v: 1 } });
  });
  it('a time that is not plausible stays a field', () => {
    expect(only('a', '{"ts":0,"v":1}')).toMatchObject({
      timeMs: RECEIVED,
      fields: { ts: 0, v: 1 },
    });
    expect(only('a', '{"time":"yesterday","v":1}')).toMatchObject({
      timeMs: RECEIVED,
      fields: { time_text: 'yesterday', v: 1 },
    });
    expect(only('a', '{"ts":4102444800,"v":1}').fields).toEqual({ ts: 4102444800, v: 1 });
  });
  it('nanoseconds keep their digits, and coarser times get those of the identity', () => {
    expect(only('a', '{"ts":1552176013000000123,"v":1}')).toMatchObject({
      timeMs: 1552176013000,
      ns: 123,
    });
    expect(only('a', '{"ts":1552176013000,"v":1}').ns).toBe(107);
  });
  it.each([
    ['{"temperature":', /not JSON/],
    ['{"a":{"b":1},"a_b":2}', /'a_b'/],
    ['{"a":9007199254740993}', /2\^53/],
    ['9007199254740993', /2\^53/],
    [`${'['.repeat(100_000)}${']'.repeat(100_000)}`, /nested|not JSON/],
    [Buffer.from([0xff, 0xfe, 0x00]), /UTF-8/],
  ])('%s is refused with its reason', (payload, reason) => {
    expect(() => decode('a', payload)).toThrow(reason);
  });
  it('a name of the language itself is a name', () => {
    const { fields } = only('a', '{"__proto__":1,"constructor":{"prototype":2}}');
    expect(Object.entries(fields)).toEqual([
      ['__proto__', 1],
      ['constructor_prototype', 2],
    ]);
    expect(({} as { polluted?: unknown }).polluted).toBeUndefined();
  });
  it('an empty message is no reading and no error', () => {
    expect(decode('a', '')).toEqual([]);
    expect(decode('a', '{"a":null}')).toEqual([]);
  });
  it('a topic that ends in / is named after its last word', () => {
    expect(only('a/b/', '1').measurement).toBe('b');
  });
});

describe('mappings', () => {
  const mappings = new Mappings(
    parseMappings(
      `
mappings:
  - topic: factory/{line}/{device}/{measurement}
    tags: { site: leeds }
    tagFields: [room]
    time: at
  - topic: bare/{device}/{field}
    measurement: sensors
  - topic: deep/+/#
    measurement: other
`,
      'test.yaml',
    ),
  );
  it('levels become tags, measurement and field; the first match decides', () => {
    expect(
      only('factory/l1/d9/climate', '{"t":1,"room":"A","at":1552176013}', mappings),
    ).toMatchObject({
      measurement: 'climate',
      tags: { line: 'l1', device: 'd9', site: 'leeds', room: 'A', gateway: 'gw' },
      fields: { t: 1 },
      timeMs: 1552176013000,
    });
    expect(only('bare/d1/temp', '390', mappings)).toMatchObject({
      measurement: 'sensors',
      tags: { device: 'd1' },
      fields: { temp: 390 },
    });
    expect(only('deep/x/y/z', '1', mappings).measurement).toBe('other');
    expect(only('factory/l1/d9', '1', mappings).measurement).toBe('d9');
  });
  it.each([
    ['mappings: 1', /list/],
    ['mappings: [{}]', /mappings\[0\].*topic/],
    ['mappings: [{topic: "a/{x}/{x}"}]', /twice/],
    ['mappings: [{topic: "a/#/b"}]', /last/],
    ['mappings: [{topic: a, mesurement: b}]', /unknown key 'mesurement'/],
    ['mappings: [', /YAML/],
  ])('%s is refused with its place', (text, reason) => {
    expect(() => parseMappings(text, 'bad.yaml')).toThrow(reason);
    expect(() => parseMappings(text, 'bad.yaml')).toThrow(/bad\.yaml/);
  });
});

describe('time', () => {
  it('knows units by magnitude and keeps what is exact', () => {
    expect(fromEpoch(1552176013.25, undefined)).toMatchObject({ ms: 1552176013250 });
    expect(fromText('2019-03-10T00:00:13.123456789Z')).toEqual({
      ms: 1552176013123,
      ns: 456789,
      fine: true,
    });
    expect(fromText('2019-02-30T00:00:00')).toBeUndefined();
    expect(isPlausible(Date.UTC(2019, 0), RECEIVED)).toBe(true);
    expect(isPlausible(Date.UTC(1999, 0), RECEIVED)).toBe(false);
  });
});
