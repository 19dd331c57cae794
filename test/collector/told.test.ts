/** Nothing of a message vanishes without a word, and one bad value takes no neighbour along: each kind, with its neighbours. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync, deflateSync } from 'node:zlib';
import { encode as encodeCbor } from 'cborg';
import { encode as encodeMsgpack } from '@msgpack/msgpack';
import { beforeAll, describe, expect, it } from 'vitest';
import type { Command } from '../../collector/decode/codecs/context.ts';
import { parseMappings } from '../../collector/decode/mapping/mapping.ts';
import { Mappings } from '../../collector/decode/mapping/mappings.ts';
import { loadEngine } from '../../collector/sandbox/sandbox.ts';
import { encodeProperties } from '../../shared/mqtt/properties.ts';
import {
  RECEIVED,
  decodeAll,
  decodeMessage,
  freshState,
  mapped,
  shipped,
} from '../support/decode.ts';
import { ROOT } from '../support/process.ts';
import { sparkplug } from '../support/sparkplug.ts';

const fieldsOf = (topic: string, payload: string | Uint8Array, mappings?: Mappings) =>
  decodeMessage(topic, payload, mappings === undefined ? {} : { mappings })[0]?.fields;
const latin1 = (text: string): Buffer => Buffer.from(text, 'latin1');

beforeAll(async () => await loadEngine());

describe('what a mapping does not take', () => {
  it('a mapping that takes a message and makes nothing of it: quarantine, with its name', () => {
    const nothing = [
      'mappings: [{name: mine, topic: a, points: [{each: nope.*}]}]',
      'mappings: [{name: mine, topic: a, fields: {t: nope.x}}]',
      'mappings: [{name: mine, topic: a, fields: [nope]}]',
      'mappings: [{name: mine, topic: a, points: [{each: "{sensor}", is: object}]}]',
      'mappings: [{name: mine, topic: a, points: [{each: ".", when: {kind: x}}]}]',
      'mappings: [{name: mine, topic: a, pairs: {from: nope, name: n, value: v}}]',
    ];
    for (const yaml of nothing)
      expect(() => decodeMessage('a', '{"temperature":21.5}', { mappings: mapped(yaml) })).toThrow(
        /mapping 'mine' .* makes no reading/,
      );
  });
  it('what the user drops by name, what may be empty, and nulls, are nothing that vanished', () => {
    const cases: [string, string][] = [
      ['mappings: [{topic: a, drop: [t]}]', '{"t":1}'],
      ['mappings: [{topic: a, types: {t: skip}}]', '{"t":1}'],
      ['mappings: [{topic: a, empty: true, points: [{each: nope}]}]', '{"t":1}'],
      ['mappings: [{topic: a, points: [{each: nope}]}]', '{"t":null,"l":[]}'],
    ];
    for (const [yaml, payload] of cases)
      expect(decodeAll('a', payload, { mappings: mapped(yaml) })).toMatchObject({
        readings: [],
        problems: [],
        left: undefined,
      });
  });
  it('siblings that no point leads to are named; times, tags and conditions are not', () => {
    const left = (yaml: string, payload: string): readonly string[] | undefined =>
      decodeAll('a', payload, { mappings: mapped(yaml) }).left?.paths;
    const objects =
      'mappings: [{topic: a, time: ^.Time, points: [{each: "{sensor}", is: object, tags: {u: {from: ^.Unit}}}]}]';
    expect(
      left(
        objects,
        '{"Time":"2026-05-01T00:00:00Z","Unit":"C","A":{"t":1},"Switch1":"ON","Epoch":7}',
      ),
    ).toEqual(['Switch1', 'Epoch']);
    expect(left(objects, '{"A":{"t":1},"n":null}')).toBeUndefined();
    const list = 'mappings: [{topic: a, points: [{each: sensors.*}]}]';
    expect(left(list, '{"sensors":[{"t":1}],"battery":3.1,"meta":{"fw":"1"}}')).toEqual([
      'battery',
      'meta',
    ]);
    expect(
      left(
        'mappings: [{topic: a, rest: false, points: [{each: sensors.*}]}]',
        '{"sensors":[{"t":1}],"x":1}',
      ),
    ).toBeUndefined();
    expect(
      left(
        'mappings: [{topic: a, points: [{each: "s{n}"}, {each: ".", nested: false}]}]',
        '{"s1":{"t":1},"b":2}',
      ),
    ).toBeUndefined();
    expect(
      left('mappings: [{topic: a, points: [{each: "s{n}"}]}]', '{"s1":{"t":1},"b":2,"c":{"d":1}}'),
    ).toEqual(['b', 'c']);
  });
  it('an empty level of a topic, and an empty value, is no tag', () => {
    const mappings = mapped(
      'mappings: [{topic: "a/{b}/{c}", tagFields: [room], tags: {x: {from: y}}}]',
    );
    expect(decodeMessage('a//d', '{"v":1,"room":"","y":""}', { mappings })[0]?.tags).toEqual({
      c: 'd',
      gateway: 'gw',
    });
  });
});

describe('Sparkplug', () => {
  const { birth, metric, payload } = sparkplug;
  const send = (type: string, body: Buffer, options: object = {}) =>
    decodeAll(`spBv1.0/G/${type}/N`, body, { mappings: shipped(), ...options });
  const good = payload(1, [metric({ name: 'Temp', double: 21.5 })]);

  it.each([
    ['GZIP', gzipSync(good)],
    ['DEFLATE', deflateSync(good)],
    [undefined, deflateSync(good)],
  ])('a compressed payload (%s) is opened', (algorithm, body) => {
    const { readings } = send('NDATA', sparkplug.compressed(body, algorithm));
    expect(readings.map(({ fields }) => fields)).toEqual([{ Temp: 21.5 }]);
  });
  it('an algorithm that nobody knows, a bomb, and what is compressed twice: quarantine', () => {
    const { compressed } = sparkplug;
    expect(() => send('NDATA', compressed(gzipSync(good), 'LZ4'))).toThrow(/'LZ4'; known are GZIP/);
    expect(() => send('NDATA', compressed(gzipSync(Buffer.alloc(64 << 20)), 'GZIP'))).toThrow(
      /cannot be opened/,
    );
    const twice = compressed(gzipSync(compressed(gzipSync(good), 'GZIP')), 'GZIP');
    expect(() => send('NDATA', twice)).toThrow(/twice/);
  });
  it('one alias of two metrics in a birth: quarantine, and the node is asked for another', () => {
    const commands: Command[] = [];
    const state = freshState();
    const twice = birth(
      metric({ name: 'A', alias: 1, double: 1 }),
      metric({ name: 'B', alias: 1, double: 2 }),
    );
    expect(() => send('NBIRTH', twice, { state, commands })).toThrow(/alias 1 .*'A' and 'B'/);
    expect(commands.map(({ topic }) => topic)).toEqual(['spBv1.0/G/NCMD/N']);
  });
  it('a template definition is no reading, an instance is', () => {
    const definition = metric({ name: '_types_/pump', template: { isDefinition: true } });
    const instance = metric({ name: 'pump1', template: { isDefinition: false } });
    const { readings } = send('NBIRTH', birth(definition, instance));
    expect(readings.map(({ fields }) => fields)).toEqual([
      { online_bool: true },
      { 'pump1/speed': 7 },
    ]);
  });
  it('a quality that is not good stands beside the value; good is not said', () => {
    const body = payload(
      1,
      [metric({ name: 'bad', double: 1, quality: 0 })],
      [metric({ name: 'stale', double: 2, quality: 500 })],
      [metric({ name: 'good', double: 3, quality: 192 })],
    );
    expect(send('NDATA', body).readings[0]?.fields).toEqual({
      bad: 1,
      bad_quality: 0,
      stale: 2,
      stale_quality: 500,
      good: 3,
    });
  });
  it('NaN, an integer beyond 2^53, a date beyond all dates and a text that is none take no neighbour along', () => {
    const body = payload(
      1,
      [metric({ name: 'a', double: Number.NaN })],
      [metric({ name: 'b', long: 2n ** 63n + 1n })],
      [metric({ name: 'c', long: 2n ** 53n - 1n, datatype: 13 })],
      [metric({ name: 'd', bytes: Buffer.from([0xff, 0xfe]) })],
      [metric({ name: 'e', double: 5 })],
    );
    const { readings, problems, omitted } = send('NDATA', body);
    expect(readings[0]?.fields).toEqual({ e: 5 });
    expect(omitted).toBe(1);
    expect(problems.map(({ reason }) => reason).join('\n')).toMatch(
      /'c'.*date[^]*'d'.*UTF-8[^]*'b'/,
    );
  });
  it('an integer beyond 2^53 is kept as text where a mapping says so', () => {
    const mappings = mapped('mappings: [{topic: spBv1.0/#, codec: sparkplug, types: {b: text}}]');
    const body = payload(1, [metric({ name: 'b', long: 2n ** 60n + 1n, datatype: 8 })]);
    expect(decodeMessage('spBv1.0/G/NDATA/N', body, { mappings })[0]?.fields).toEqual({
      b_text: '1152921504606846977',
    });
  });
  it('templates within templates without end are refused, not followed', () => {
    expect(() => send('NDATA', payload(1, [sparkplug.nested(500)]))).toThrow(/nested more than/);
  });
});

describe('line protocol', () => {
  const declared = encodeProperties({
    contentType: 'application/vnd.influx.line-protocol',
    user: [],
  });
  const lines = (text: string) => decodeAll('l', text, { properties: declared });

  it('the good lines are taken, each bad one goes to quarantine alone', () => {
    const { readings, problems } = lines(
      'm v=1\nm,a=1,a=2 v=2\nm,a= v=3\nm v=x\nm f="open\nm v=4\n# note\n\nn v=5 12x\nm v=6\r\nm,=x v=1\nm v\nm v=1i,w=1.5u',
    );
    expect(readings.map(({ fields }) => fields)).toEqual([{ v: 1 }, { v: 4 }, { v: 6 }]);
    expect(problems.map(({ part }) => part?.payload.toString())).toEqual([
      'm,a=1,a=2 v=2',
      'm,a= v=3',
      'm v=x',
      'm f="open',
      'n v=5 12x',
      'm,=x v=1',
      'm v',
      'm v=1i,w=1.5u',
    ]);
    expect(problems.map(({ reason }) => reason).slice(0, 4)).toEqual([
      "line protocol: tag 'a' is there twice",
      "line protocol: tag 'a' is empty",
      "line protocol: 'x' is no value",
      'line protocol: a quotation mark is not closed',
    ]);
  });
  it('a text may hold line ends, quotes and separators', () => {
    expect(lines('m f="a\nb, \\"c\\" d=1",g=2 1700000000').readings[0]).toMatchObject({
      fields: { f_text: 'a\nb, "c" d=1', g: 2 },
      timeMs: 1_700_000_000_000,
    });
  });
  it('a comment before the first line changes nothing', () => {
    expect(decodeMessage('l', '# made by hand\n\n# more\nm,a=1 v=2')[0]).toMatchObject({
      measurement: 'm',
      fields: { v: 2 },
    });
  });
  it('NaN and infinities beside good values are left out and counted', () => {
    const { readings, omitted } = lines('m a=NaN,b=2,c=-inf,d=+Infinity,e=nan');
    expect([readings[0]?.fields, omitted]).toEqual([{ b: 2 }, 4]);
  });
  it('what was only guessed and does not parse is text', () => {
    for (const text of [
      'Motion detected in zone=3',
      '<sensor id="3" value="7"/>',
      'm f="open',
      '2026-05-01 12:00:00 INFO took=3ms',
      '[12:00:01] door open',
      '[D][sensor:094]: Sending state 21.5',
      '"quoted" and more',
      '\u001b[0;36m[D][sensor:094]: state 21.5\u001b[0m',
    ])
      expect(fieldsOf('log', text)).toEqual({ value_text: text });
  });
  it('a batch of lines that was only guessed is one while most of them are lines', () => {
    const { readings, problems } = decodeAll('l', 'm v=1\nm v=2\nm,a= v=3');
    expect([readings.length, problems.length]).toEqual([2, 1]);
  });
  it('history with its precision is as old as it says', () => {
    const properties = encodeProperties({
      contentType: 'application/vnd.influx.line-protocol',
      user: [['precision', 's']],
    });
    expect(decodeMessage('l', 'm v=1 631152000', { properties })[0]?.timeMs).toBe(631_152_000_000);
  });
});

describe('one bad value, good neighbours', () => {
  it('JSON as Python and C write it', () => {
    for (const bad of [
      'NaN',
      'nan',
      '-nan',
      'Infinity',
      '-Infinity',
      'inf',
      '-inf',
      '1e999',
      '1.#QNAN',
      '-1.#IND00',
      'nan(ind)',
    ]) {
      const { readings, omitted } = decodeAll(
        'j',
        `{"t":${bad}, "list":[1,${bad} ],"s":"NaN, \\"inf","h":3}`,
      );
      expect([bad, readings[0]?.fields, omitted]).toEqual([
        bad,
        { list_0: 1, s_text: 'NaN, "inf', h: 3 },
        2,
      ]);
    }
  });
  it('CBOR, MessagePack, scripts and declared numbers', () => {
    const given = { t: Number.NaN, u: Number.POSITIVE_INFINITY, h: 3 };
    const by = (codec: string) => mapped(`mappings: [{topic: b, codec: ${codec}}]`);
    expect(fieldsOf('b', encodeCbor(given), by('cbor'))).toEqual({ h: 3 });
    expect(fieldsOf('b', encodeMsgpack(given), by('msgpack'))).toEqual({ h: 3 });
    const script = new Mappings(
      parseMappings(
        'mappings: [{topic: b, script: s.js}]',
        't',
        () => 'function decodeUplink() { return { data: { t: NaN, l: [1/0, 2], h: 3 } }; }',
      ),
    );
    expect(fieldsOf('b', 'x', script)).toEqual({ l_1: 2, h: 3 });
    const number = mapped('mappings: [{topic: b, types: {"*": number}}]');
    expect(fieldsOf('b', '{"t":"nan","h":"3.5"}', number)).toEqual({ h: 3.5 });
  });
  it('a message of nothing else is one that cannot be read', () => {
    expect(() => decodeAll('j', '{"t":NaN}')).toThrow(/'t' is not a finite number/);
  });
  it('a conversion that fails, two values of one name, an integer too large: the others are stored', () => {
    const mappings = mapped('mappings: [{topic: j, types: {a: number}}]');
    const { readings, problems } = decodeAll(
      'j',
      '{"a":"44,30","b":1,"c":{"d":1},"c_d":2,"e":9007199254740993,"f":true}',
      { mappings },
    );
    expect(readings[0]?.fields).toEqual({ b: 1, f_bool: true });
    expect(problems.map(({ reason }) => reason)).toEqual([
      "'a' is to be a number and is '44,30'",
      "two values have the name 'c_d'",
      expect.stringMatching(/9007199254740993 .*types: \{ e: text \}/),
    ]);
  });
  it('SenML: a record that is wrong in itself goes aside alone', () => {
    const { readings, problems } = decodeAll(
      's',
      '[{"bn":"urn:d:","n":"t","v":1},{"n":"h","v":"x"},{"n":"p","v":3},{"n":"a b","v":1}]',
    );
    expect(readings.map(({ fields }) => fields)).toEqual([{ value: 1 }, { value: 3 }]);
    expect(problems.map(({ part }) => part?.index)).toEqual([1, 3]);
  });
  it('sensor.community with GPS: the date is a text among numbers', () => {
    expect(
      fieldsOf(
        'air',
        '{"esp8266id":"1","sensordatavalues":[{"value_type":"SDS_P1","value":"44.30"},{"value_type":"GPS_lat","value":"48.1"},{"value_type":"GPS_timestamp","value":"2026-05-01T10:00:00.000"},{"value_type":"GPS_date","value":"05/01/2026"}]}',
        shipped(),
      ),
    ).toEqual({
      SDS_P1: 44.3,
      GPS_lat: 48.1,
      GPS_timestamp_text: '2026-05-01T10:00:00.000',
      GPS_date_text: '05/01/2026',
    });
  });
});

describe('one pipeline after every codec', () => {
  const rule =
    'drop: [gone], rename: {old: new}, types: {n: text, b: bool}, units: {new: V}, scale: {s: 0.1}, values: {v: {OPEN: 1}}, tags: {site: x}, tagFields: [room]';
  it.each([
    ['json', '{"gone":1,"old":2,"n":3,"b":1,"s":215,"v":"OPEN","room":"a"}', {}],
    ['line-protocol', 'm gone=1,old=2,n=3,b=1,s=215,v="OPEN",room="a"', {}],
  ])('%s: drop, rename, types, units, scale, values, tags', (codec, payload) => {
    const mappings = mapped(`mappings: [{topic: p, codec: ${codec}, measurement: mine, ${rule}}]`);
    const [reading] = decodeMessage('p', payload, { mappings });
    expect(reading).toMatchObject({
      measurement: 'mine',
      tags: { site: 'x', room: 'a', gateway: 'gw' },
    });
    expect(reading?.fields).toEqual({ new: 2, n_text: '3', b_bool: true, s: 21.5, v: 1 });
    expect(reading?.meta?.get('new')).toEqual({ unit: 'V' });
  });
  it('SenML, Cayenne, Ruuvi, Homie and Sparkplug heed them too', () => {
    const of = (topic: string, payload: string | Buffer, keys: string) =>
      decodeMessage(topic, payload, {
        mappings: mapped(`mappings: [{topic: "${topic}", ${keys}}]`),
      })[0];
    expect(
      of('s', '[{"n":"a","v":1}]', 'codec: senml, rename: {value: t}, units: {t: K}')?.fields,
    ).toEqual({ t: 1 });
    expect(
      of(
        'c',
        Buffer.from('03670110', 'hex'),
        'codec: cayenne-lpp, rename: {temperature_3: air}',
      )?.meta?.get('air'),
    ).toEqual({ unit: '°C' });
    expect(
      of(
        'r',
        Buffer.from('0512FC5394C37C0004FFFC040CAC364200CDCBB8334C884F', 'hex'),
        'codec: ruuvi, fields: [temperature, humidity], scale: {temperature: {by: 1.8, add: 32}}',
      )?.fields,
    ).toEqual({ temperature: 75.74, humidity: 53.49 });
    expect(of('homie/5/d/n/p', '7', 'codec: homie, types: {p: text}')?.fields).toEqual({
      p_text: '7',
    });
    const body = sparkplug.payload(1, [sparkplug.metric({ name: 'a', double: 2 })]);
    expect(
      of('spBv1.0/G/NDATA/N', body, 'codec: sparkplug, drop: [x], rename: {a: b}, time: false')
        ?.fields,
    ).toEqual({ b: 2 });
  });
  it("a codec's own time stays unless the mapping says another, or none", () => {
    const at = (keys: string): number | undefined =>
      decodeMessage('p', 'm v=1,t=1770000000 1760000000', {
        mappings: mapped(`mappings: [{topic: p, codec: line-protocol, ${keys}}]`),
      })[0]?.timeMs;
    expect([at('types: {v: number}'), at('time: {from: t, unit: s}'), at('time: false')]).toEqual([
      1_760_000_000_000,
      1_770_000_000_000,
      RECEIVED,
    ]);
  });
  it('a key that a codec could not heed is refused, with its place', () => {
    for (const [keys, key] of [
      ['codec: none, types: {a: text}', 'types'],
      ['codec: line-protocol, each: a', 'each'],
      ['codec: sparkplug, when: {a: 1}', 'when'],
      ['codec: homie, inner: {from: a}', 'inner'],
      ['codec: senml, pairs: {from: a, name: b, value: c}', 'pairs'],
      ['codec: ruuvi, idempotency: id', 'idempotency'],
    ])
      expect(() => parseMappings(`mappings: [{topic: a, ${keys}}]`, 'm.yaml')).toThrow(
        new RegExp(`m\\.yaml: mappings\\[0\\]: '${key}': codec .* no effect`),
      );
  });
  it('conditions hold for messages that are to give nothing as well', () => {
    const mappings = mapped('mappings: [{topic: a, codec: none, when: {debug: true}}]');
    expect(decodeMessage('a', '{"debug":1}', { mappings })).toEqual([]);
    expect(fieldsOf('a', '{"t":1}', mappings)).toEqual({ t: 1 });
  });
});

describe('time', () => {
  const at = (payload: string, mappings?: Mappings) =>
    decodeMessage('t', payload, mappings === undefined ? {} : { mappings })[0];
  const local = '{"time":"2026-05-01T12:00:00","v":1}';

  it('a text without zone is a time of the site, with and without a mapping; without a site it is none, and stays', () => {
    const own = parseMappings('mappings: [{topic: t, time: time}]', 't');
    const berlin = [new Mappings([], 'Europe/Berlin'), new Mappings(own, 'Europe/Berlin')];
    for (const mappings of berlin)
      expect(at(local, mappings)).toMatchObject({
        timeMs: Date.UTC(2026, 4, 1, 10),
        fields: { v: 1 },
      });
    for (const mappings of [new Mappings([]), new Mappings(own)])
      expect(at(local, mappings)).toMatchObject({
        timeMs: RECEIVED,
        fields: { v: 1, time_text: '2026-05-01T12:00:00' },
      });
  });
  it('a clock that was never set and a counter of milliseconds are no times, and stay', () => {
    for (const [payload, fields] of [
      ['{"time":"2000-01-01T00:03:00Z","v":1}', { time_text: '2000-01-01T00:03:00Z', v: 1 }],
      ['{"timestamp":987654321,"v":1}', { timestamp: 987_654_321, v: 1 }],
      ['{"last_seen":35,"v":1}', { last_seen: 35, v: 1 }],
      ['{"ts":1970,"v":1}', { ts: 1970, v: 1 }],
    ] as const)
      expect(at(payload)).toMatchObject({ timeMs: RECEIVED, fields });
  });
  it('how old a time may be is configured; a mapping says what is history', () => {
    const old = '{"ts":1700000000,"v":1}';
    expect(at(old, new Mappings([], undefined, 30))).toMatchObject({ timeMs: RECEIVED });
    const history = mapped('mappings: [{topic: t, time: {from: ts, unit: s, history: true}}]');
    expect(at('{"ts":315532800,"v":1}', history)).toMatchObject({ timeMs: 315_532_800_000 });
  });
});

describe('lists', () => {
  it('objects that each have a time of their own are a point each; others are one', () => {
    const readings = decodeMessage('l', '[{"ts":1779000000,"t":1},{"ts":1779000060,"t":2}]');
    expect(readings.map(({ timeMs, fields }) => [timeMs, fields])).toEqual([
      [1_779_000_000_000, { t: 1 }],
      [1_779_000_060_000, { t: 2 }],
    ]);
    // One without a time has its receipt, one with a wrong one too: it stays a field.
    const some = decodeMessage('l', '[{"ts":1779000000,"t":1},{"t":2},{"ts":5,"t":3}]');
    expect(some.map(({ timeMs, fields }) => [timeMs, fields])).toEqual([
      [1_779_000_000_000, { t: 1 }],
      [RECEIVED, { t: 2 }],
      [RECEIVED, { ts: 5, t: 3 }],
    ]);
    expect(fieldsOf('l', '[{"t":1},{"t":2}]')).toEqual({ '0_t': 1, '1_t': 2 });
    expect(fieldsOf('l', '[{"ts":1779000000,"t":1},2]')).toEqual({
      '0_ts': 1_779_000_000,
      '0_t': 1,
      '1': 2,
    });
  });
  it('a member that is such a list gives its points beside the others, under its name', () => {
    const readings = decodeMessage(
      'l',
      '{"ts":1779000300,"battery":3.6,"log":[{"ts":1779000000,"t":1,"in":{"h":2}},{"time":"2026-05-17T06:41:00Z","t":2}],"set":[{"a":1}]}',
    );
    expect(readings.map(({ timeMs, fields }) => [timeMs, fields])).toEqual([
      [1_779_000_300_000, { battery: 3.6, set_0_a: 1 }],
      [1_779_000_000_000, { log_t: 1, log_in_h: 2 }],
      [1_779_000_060_000, { log_t: 2 }],
    ]);
    expect(decodeMessage('l', '{"log":[{"ts":1779000000,"t":1}]}')).toHaveLength(1);
    const many = `{"log":[${Array.from({ length: 20_001 }, () => '{"ts":1779000000,"t":1}').join(',')}]}`;
    expect(() => decodeMessage('l', many)).toThrow(/more than/);
  });
  it('a mapping makes points of what is earlier with timed: lists of objects and rows in brackets', () => {
    const mappings = mapped(
      'mappings: [{topic: l, timed: {zone: UTC}, tags: {id: {from: id}}, units: {t: K}}]',
    );
    const readings = decodeMessage(
      'l',
      '{"id":"a","t":3,"old":[{"timestamp":1779000000,"t":1},{"t":9}],"DATALOG":"[1,ON,2026-05-17 06:41:00],[2,OFF,2026-05-17 06:42:00],"}',
      { mappings },
    );
    expect(readings.map(({ timeMs, tags, fields }) => [timeMs, tags['id'], fields])).toEqual([
      [RECEIVED, 'a', { id_text: 'a', t: 3 }],
      [1_779_000_000_000, 'a', { t: 1 }],
      [RECEIVED, 'a', { t: 9 }],
      [1_779_000_060_000, 'a', { DATALOG_0: 1, DATALOG_1_text: 'ON' }],
      [1_779_000_120_000, 'a', { DATALOG_0: 2, DATALOG_1_text: 'OFF' }],
    ]);
    expect(readings[1]?.meta?.get('t')).toEqual({ unit: 'K' });
    // A text that only looks like it: no row without a time, none with two.
    for (const text of [
      '[1,2]',
      '[1,2026-05-17 06:41:00],[2]',
      '[2026-05-17 06:41:00,2026-05-17 06:42:00]',
    ])
      expect(fieldsOf('l', JSON.stringify({ DATALOG: text }), mappings)).toEqual({
        DATALOG_text: text,
      });
    expect(() => mapped('mappings: [{topic: l, timed: {zone: Mars}}]')).toThrow(/no time zone/);
    expect(() => mapped('mappings: [{topic: l, codec: line-protocol, timed: true}]')).toThrow(
      /no effect/,
    );
  });
});

describe('the mapping language', () => {
  const one = (keys: string, payload: string, options: object = {}) =>
    decodeMessage('d', payload, {
      mappings: mapped(`mappings: [{topic: d, ${keys}}]`),
      ...options,
    })[0];
  it.each([
    [
      'time: {from: at, format: "DD.MM.YYYY HH:mm:ss", zone: Europe/Berlin}',
      '{"at":"25.05.2026 20:00:00","v":1}',
      Date.UTC(2026, 4, 25, 18),
    ],
    [
      'time: {from: at, format: "YYMMDDHHmmss?", zone: UTC}',
      '{"at":"260525132257W","v":1}',
      Date.UTC(2026, 4, 25, 13, 22, 57),
    ],
    [
      'time: {from: [day, hour], format: "DD/MM/YYYY HH:mm", zone: UTC}',
      '{"day":"25/05/2026","hour":"13:22","v":1}',
      Date.UTC(2026, 4, 25, 13, 22),
    ],
    [
      'time: {from: [day, hour], zone: UTC}',
      '{"day":"2026-05-25","hour":"13:22:57","v":1}',
      Date.UTC(2026, 4, 25, 13, 22, 57),
    ],
    [
      'time: {from: at, format: "DD MMM YYYY HH:mm:ss Z"}',
      '{"at":"25 May 2026 13:22:57 +02:00","v":1}',
      Date.UTC(2026, 4, 25, 11, 22, 57),
    ],
    ['time: {from: at, format: "DD.MM.YYYY HH:mm"}', '{"at":"31.02.2026 20:00","v":1}', RECEIVED],
    ['time: {from: at, format: "DD.MM.YYYY HH:mm"}', '{"at":"25.05.2026 20:00","v":1}', RECEIVED],
  ])('%s', (keys, payload, ms) => {
    expect(one(keys, payload)?.timeMs).toBe(ms);
  });
  it('a format that cannot be one is refused with its place', () => {
    for (const format of ['HH:mm', 'YYYY YYYY MM DD'])
      expect(() => mapped(`mappings: [{topic: d, time: {from: a, format: "${format}"}}]`)).toThrow(
        /'format'/,
      );
  });
  it('quantities with their unit, numbers where they are, JSON inside a text, value maps and scales', () => {
    const reading = one(
      'types: {u: quantity, t: quantity, n: "number?", m: "number?", j: json}, values: {door: {OPEN: 1, CLOSED: 0}}, scale: {raw: 0.1, temp: {by: 0.1, add: -40}}',
      '{"u":"239 V","t":"21,5 °C","n":"12","m":"off","j":"{\\"a\\":1,\\"b\\":{\\"c\\":true}}","door":"OPEN","raw":239,"temp":615}',
    );
    expect(reading?.fields).toEqual({
      u: 239,
      t: 21.5,
      n: 12,
      m_text: 'off',
      j_a: 1,
      j_b_c_bool: true,
      door: 1,
      raw: 23.9,
      temp: 21.5,
    });
    expect(Object.fromEntries(reading?.meta ?? [])).toEqual({
      u: { unit: 'V' },
      t: { unit: '°C' },
    });
  });
  it('field from the document, names with several parts, user properties', () => {
    expect(
      one('points: [{each: v, field: {from: ^.name}}]', '{"name":"temp","v":3}')?.fields,
    ).toEqual({ temp: 3 });
    const mappings = mapped(
      'mappings: [{topic: "x/{a}/{b}/{_c}", measurement: "{a}_{b}", tags: {z: "{_c}!"}}]',
    );
    expect(decodeMessage('x/1/2/3', '{"v":1}', { mappings })[0]).toMatchObject({
      measurement: '1_2',
      tags: { a: '1', b: '2', z: '3!' },
    });
    const properties = encodeProperties({ contentType: undefined, user: [['site', 'leeds']] });
    expect(one('tags: {site: {property: site}}', '{"v":1}', { properties })?.tags['site']).toBe(
      'leeds',
    );
  });
  it('lines of JSON, key=value and query strings', () => {
    expect(one('codec: key-value', 'temp=21.5 hum=45;state="on, ok" id=007')?.fields).toEqual({
      temp: 21.5,
      hum: 45,
      state_text: 'on, ok',
      id_text: '007',
    });
    expect(
      one('codec: query-string', 'PASSKEY=A1&tempf=68.5&dateutc=2026-05-01+12%3A00%3A00'),
    ).toMatchObject({
      fields: { PASSKEY_text: 'A1', tempf: 68.5 },
      timeMs: Date.UTC(2026, 4, 1, 12),
    });
    expect(
      decodeMessage('d', '{"t":1}\n{"t":2}\n', {
        mappings: mapped('mappings: [{topic: d, codec: ndjson, points: [{each: "*"}]}]'),
      }).map(({ fields }) => fields),
    ).toEqual([{ t: 1 }, { t: 2 }]);
  });
  it('CSV, with names and without, in any separator', () => {
    const csv = (keys: string, payload: string) =>
      decodeMessage('d', payload, {
        mappings: mapped(`mappings: [{topic: d, codec: csv, ${keys}}]`),
      }).map(({ fields, timeMs }) => [fields, timeMs]);
    expect(
      csv(
        'points: [{each: "*"}]',
        'time;temp;place\n2026-05-01T00:00:00Z;21.5;"a;b"\n2026-05-01T01:00:00Z;;c\n',
      ),
    ).toEqual([
      [{ temp: 21.5, place_text: 'a;b' }, Date.UTC(2026, 4, 1)],
      [{ place_text: 'c' }, Date.UTC(2026, 4, 1, 1)],
    ]);
    expect(csv('points: [{each: "*", fields: {temp: "0", hum: "1"}}]', '21.5,45')).toEqual([
      [{ temp: 21.5, hum: 45 }, RECEIVED],
    ]);
    expect(() => csv('points: [{each: "*"}]', 'a,b\n"1,2')).toThrow(/not CSV/);
  });
  it("a script's text that looks like one of our own marks is the text that it is", () => {
    const script =
      'function decodeUplink({ bytes }) { return JSON.parse(String.fromCharCode(...bytes)); }';
    const mappings = parseMappings('mappings: [{ topic: x, script: s.js }]', 'm', () => script);
    const [reading] = decodeMessage('x', '{"data":{"a":"\\u0000int:abc","b":1}}', {
      mappings: new Mappings(mappings),
    });
    expect(reading?.fields).toEqual({ a_text: '\u0000int:abc', b: 1 });
  });

  it('a script has a console, helpers for text, the topic and the properties', () => {
    const script = `function decodeUplink({ bytes, topic, properties }) {
      console.log('seen', bytes); console.warn('x');
      return { data: { text: new TextDecoder().decode(bytes), back: btoa(atob('SGk=')), topic, site: properties.site } };
    }`;
    const mappings = new Mappings(
      parseMappings('mappings: [{topic: d, script: s.js}]', 't', () => script),
    );
    const properties = encodeProperties({ contentType: undefined, user: [['site', 'leeds']] });
    expect(decodeMessage('d', 'Köln', { mappings, properties })[0]?.fields).toEqual({
      text_text: 'Köln',
      back_text: 'SGk=',
      topic_text: 'd',
      site_text: 'leeds',
    });
  });
});

describe('bare text', () => {
  it.each([
    ['0012345678', { value_text: '0012345678' }],
    ['04e5', { value_text: '04e5' }],
    ['-007', { value_text: '-007' }],
    ['.5', { value_text: '.5' }],
    ['0.5', { value: 0.5 }],
    ['+5', { value: 5 }],
    ['-0.5e2', { value: -50 }],
    ['0', { value: 0 }],
    ['\uFEFF21.5', { value: 21.5 }],
    ['21.5\0\0', { value: 21.5 }],
    ['on\0', { value_text: 'on' }],
    ['\uFEFF{"t":1}\0', { t: 1 }],
  ])('%j', (payload, fields) => {
    expect(fieldsOf('b', payload)).toEqual(fields);
  });
  it('null is none', () => {
    expect(decodeAll('b', 'null')).toMatchObject({ readings: [], problems: [] });
  });
  it('a declared number may begin with zeros', () => {
    expect(fieldsOf('b', '007', mapped('mappings: [{topic: b, types: {value: number}}]'))).toEqual({
      value: 7,
    });
  });
  it('another encoding where it is declared, by a mapping or the content type', () => {
    const mappings = mapped('mappings: [{topic: b, charset: latin1}]');
    expect(fieldsOf('b', latin1('{"ort":"Köln","t":1}'), mappings)).toEqual({
      ort_text: 'Köln',
      t: 1,
    });
    const properties = encodeProperties({
      contentType: 'text/plain; charset=iso-8859-1',
      user: [],
    });
    expect(decodeMessage('b', latin1('Köln'), { properties })[0]?.fields).toEqual({
      value_text: 'Köln',
    });
    expect(() => mapped('mappings: [{topic: b, charset: klingon}]')).toThrow(
      /'klingon' is no encoding/,
    );
  });
  it('a reason names what it sees', () => {
    for (const [bytes, what] of [
      [gzipSync('{"t":1}'), /gzip.*compression: gzip/],
      [deflateSync('{"t":1}'), /zlib/],
      [Buffer.from('ffd8ffe000104a46', 'hex'), /JPEG/],
      [Buffer.from('89504e470d0a1a0a', 'hex'), /PNG/],
      [latin1('Außentemperatur: 5 Grad'), /Latin-1.*charset: latin1/],
      [Buffer.from([0x61, 0x02, 0x03]), /control characters \(0x02 at byte 1\)/],
    ] as const)
      expect(() => decodeMessage('b', bytes)).toThrow(what);
  });
  it('what is compressed is opened where a mapping says so, within bounds', () => {
    const mappings = mapped('mappings: [{topic: b, compression: gzip}]');
    expect(fieldsOf('b', gzipSync('{"t":1}'), mappings)).toEqual({ t: 1 });
    expect(() => fieldsOf('b', gzipSync(Buffer.alloc(32 << 20)), mappings)).toThrow(/more than/);
    expect(() => fieldsOf('b', '{"t":1}', mappings)).toThrow(/not gzip/);
  });
});

describe('more than a point holds', () => {
  it('more than 1,000 values: the reason says what to do', () => {
    const many = JSON.stringify(
      Object.fromEntries(Array.from({ length: 1001 }, (_, i) => [`f${i}`, i])),
    );
    expect(() => decodeMessage('w', many)).toThrow(/more than 1000 values.*each: PATH.*step/);
  });
  it('the examples of the page are real ones', () => {
    const page = readFileSync(join(ROOT, 'docs/mappings.md'), 'utf8');
    const [yaml = ''] = [...page.matchAll(/```yml\n([^]*?)```/g)].map(([, body]) => body as string);
    const mappings = mapped(yaml);
    const wave = decodeMessage(
      'press/p1/vibration',
      `{"start":${RECEIVED - 1000},"dt":0.5,"samples":[0.1,0.3,0.2]}`,
      { mappings },
    );
    expect(wave.map(({ timeMs, fields }) => [timeMs - RECEIVED, fields])).toEqual([
      [-1000, { acceleration: 0.1 }],
      [-500, { acceleration: 0.3 }],
      [0, { acceleration: 0.2 }],
      [0, { dt: 0.5 }],
    ]);
    const hourly = decodeMessage(
      'weather/s/hourly',
      '{"hourly":{"at":["2026-05-01T00:00Z","2026-05-01T01:00Z"],"t":[12.1,11],"rh":[80,null]}}',
      { mappings },
    );
    expect(hourly.map(({ timeMs, fields }) => [timeMs, fields])).toEqual([
      [Date.UTC(2026, 4, 1), { temperature: 12.1, humidity: 80 }],
      [Date.UTC(2026, 4, 1, 1), { temperature: 11 }],
    ]);
  });
  it('a waveform: 1,024 samples at their rate are a point each', () => {
    const wave = JSON.stringify({
      start: RECEIVED,
      rate: 0.000_25,
      samples: Array.from({ length: 1024 }, (_, i) => i / 4),
    });
    const mappings = mapped(
      'mappings: [{topic: w, points: [{each: samples.*, measurement: wave, field: g, time: {from: $.start, unit: ms, step: $.rate}}]}]',
    );
    const readings = decodeMessage('w', wave, { mappings });
    expect(readings).toHaveLength(1024);
    expect([readings[5]?.timeMs, readings[5]?.ns, readings[5]?.fields]).toEqual([
      RECEIVED + 1,
      250_000,
      { g: 1.25 },
    ]);
  });
});
