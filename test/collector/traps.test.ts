/** What goes wrong with real devices' payloads, one trap a test. Formats with a shipped mapping have more in `collector/mappings/`. */
import { beforeAll, describe, expect, it } from 'vitest';
import { Admission } from '../../collector/decode/admission.ts';
import { HashCounts, NAMES_MAX } from '../../collector/decode/hash-counts.ts';
import { CodecStates, FrozenState } from '../../collector/decode/codec-state.ts';
import type { Command } from '../../collector/decode/codecs/context.ts';
import { Script } from '../../collector/decode/codecs/script.ts';
import { loadEngine } from '../../collector/sandbox/sandbox.ts';
import { decodeSparkplugPayload } from '../../collector/decode/codecs/sparkplug-payload.ts';
import { parseMappings } from '../../collector/decode/mapping/mapping.ts';
import { Mappings } from '../../collector/decode/mapping/mappings.ts';
import { Undecodable } from '../../shared/codecs/codec.ts';
import type { Reading } from '../../shared/model/reading.ts';
import { encodeProperties } from '../../shared/mqtt/properties.ts';
import {
  RECEIVED,
  decodeAll,
  decodeMessage,
  freshState,
  mapped,
  shipped,
} from '../support/decode.ts';

const hex = (text: string): Buffer => Buffer.from(text.replaceAll(' ', ''), 'hex');
const fieldsOf = (topic: string, payload: string | Uint8Array, mappings?: Mappings) =>
  decodeMessage(topic, payload, mappings === undefined ? {} : { mappings })[0]?.fields;

describe('Tasmota', () => {
  const sensor = '{"Time":"2024-07-01T12:00:00","DS18B20":{"Temperature":20.6}}';
  it('a local time without zone is not believed until somebody says which zone it is', () => {
    const [unknown] = decodeMessage('tele/t/SENSOR', sensor, { mappings: shipped() });
    expect(unknown?.timeMs).toBe(RECEIVED);
    const [known] = decodeMessage('tele/t/SENSOR', sensor, { mappings: shipped('Europe/Berlin') });
    expect(known?.timeMs).toBe(Date.UTC(2024, 6, 1, 10));
  });
  it('a topic whose parts were put in another order is the same device', () => {
    const [reading] = decodeMessage('t/tele/SENSOR', sensor, { mappings: shipped() });
    expect(reading?.tags).toMatchObject({ device: 't', sensor: 'DS18B20' });
  });
  it('Celsius and Fahrenheit are never one series', () => {
    const of = (unit: string) =>
      decodeMessage('tele/t/SENSOR', `{"DHT":{"Temperature":70},"TempUnit":"${unit}"}`, {
        mappings: shipped(),
      })[0]?.tags;
    expect(of('C')).not.toEqual(of('F'));
  });
});

describe('Home Assistant discovery', () => {
  const state = freshState();
  const meta = (topic: string, payload: string) =>
    Object.fromEntries(
      decodeMessage(topic, payload, { state, mappings: shipped() })[0]?.meta ?? [],
    );
  const say = (topic: string, config: object | '') =>
    decodeMessage(topic, config === '' ? '' : JSON.stringify(config), {
      state,
      mappings: shipped(),
    });

  it('gives unit and name to the fields of a state topic, and makes no readings', () => {
    expect(
      say('homeassistant/sensor/0x1/temperature/config', {
        unit_of_measurement: '°C',
        device: { name: 'Window' },
        name: 'Temperature',
        state_topic: 'zigbee2mqtt/weather',
        value_template: '{{ value_json["temperature"] }}',
      }),
    ).toEqual([]);
    expect(meta('zigbee2mqtt/weather', '{"temperature":3}')).toEqual({
      temperature: { unit: '°C', name: 'Window Temperature' },
    });
  });
  it('understands abbreviations and ~', () => {
    say('homeassistant/sensor/x/config', {
      '~': 'cellar/pump',
      stat_t: '~/power',
      unit_of_meas: 'W',
    });
    expect(meta('cellar/pump/power', '12')).toEqual({ value: { unit: 'W' } });
  });
  it('understands one configuration for a device with components', () => {
    say('homeassistant/device/x/config', {
      dev: { name: 'Hut' },
      state_topic: 'hut/state',
      cmps: {
        a: { p: 'sensor', unit_of_measurement: '%', value_template: '{{ value_json.humidity }}' },
        b: {
          p: 'sensor',
          unit_of_measurement: 'lx',
          value_template: '{{ value_json.light.now | float }}',
        },
      },
    });
    expect(meta('hut/state', '{"humidity":50,"light":{"now":3}}')).toMatchObject({
      humidity: { unit: '%' },
      light_now: { unit: 'lx' },
    });
  });
  it('an empty payload takes it back', () => {
    say('homeassistant/sensor/x/config', '');
    expect(meta('cellar/pump/power', '12')).toEqual({});
  });
  it('does not change what series a reading belongs to', () => {
    const before = decodeMessage('z/s', '{"t":1}', { mappings: shipped() })[0];
    say('homeassistant/sensor/z/config', {
      state_topic: 'z/s',
      unit_of_measurement: 'K',
      value_template: '{{ value_json.t }}',
    });
    const after = decodeMessage('z/s', '{"t":1}', { state, mappings: shipped() })[0];
    expect(after?.tags).toEqual(before?.tags);
    expect(after?.meta?.get('t')).toEqual({ unit: 'K' });
  });
});

describe('ChirpStack and The Things Stack', () => {
  const up = (id: string) =>
    JSON.stringify({
      deduplicationId: id,
      time: '2022-07-18T09:34:15.775023242+00:00',
      deviceInfo: { deviceName: 'd' },
      object: { t: 0 },
    });
  it('nanoseconds of the network are kept', () => {
    const [reading] = decodeMessage('application/a/device/b/event/up', up('1'), {
      mappings: shipped(),
    });
    expect([reading?.timeMs, reading?.ns]).toEqual([1_658_136_855_775, 23_242]);
  });
  it('the same deduplicationId again is the same event, but a replay of the message is not a repeat of itself', () => {
    const state = freshState();
    const at = (sequence: number, id = 'x', on = state) =>
      decodeMessage('application/a/device/b/event/up', up(id), {
        mappings: shipped(),
        state: on,
        sequence,
      }).length;
    expect([at(1), at(2), at(3, 'y')]).toEqual([1, 0, 1]);
    expect([at(1, 'x', new FrozenState(state)), at(2, 'x', new FrozenState(state))]).toEqual([
      1, 0,
    ]);
  });
  it('an uplink that the network has not decoded goes to quarantine and says what to do', () => {
    expect(() =>
      decodeMessage('v3/a@t/devices/d/up', '{"uplink_message":{"f_port":1,"frm_payload":"gkHe"}}', {
        mappings: shipped(),
      }),
    ).toThrow(/no decoded_payload.*script/);
  });
});

describe('Sparkplug B', () => {
  const text = (number: number, value: string): Buffer =>
    Buffer.concat([Buffer.from([(number << 3) | 2, value.length]), Buffer.from(value)]);
  const int = (number: number, value: bigint): Buffer => {
    const bytes = [number << 3];
    let rest = BigInt.asUintN(64, value);
    for (; rest >= 0x80n; rest >>= 7n) bytes.push(Number(rest & 0x7fn) | 0x80);
    return Buffer.from([...bytes, Number(rest)]);
  };
  const inside = (number: number, ...parts: Buffer[]): Buffer => {
    const body = Buffer.concat(parts);
    return Buffer.concat([Buffer.from([(number << 3) | 2, body.length]), body]);
  };
  const AT = BigInt(RECEIVED);
  const payload = (seq: number, ...metrics: Buffer[][]): Buffer =>
    Buffer.concat([int(1, AT), ...metrics.map((each) => inside(2, ...each)), int(3, BigInt(seq))]);
  const birth = payload(0, [
    text(1, 'Level'),
    int(2, 5n),
    int(4, 3n),
    int(10, 1n),
    inside(9, text(1, 'engUnit'), inside(2, int(1, 12n), text(8, 'mm'))),
  ]);
  const data = (seq: number): Buffer =>
    payload(seq, [int(2, 5n), int(10, BigInt.asUintN(32, -7n))]);
  const send = (type: string, body: Buffer, sequence: number, options: object = {}) =>
    decodeMessage(`spBv1.0/G/${type}/N`, body, { mappings: shipped(), sequence, ...options });

  it('an alias is the name of its BIRTH, whose type makes the integer signed again', () => {
    const state = freshState();
    send('NBIRTH', birth, 1, { state });
    const [reading] = send('NDATA', data(1), 2, { state });
    expect(reading).toMatchObject({
      measurement: 'sparkplug',
      tags: { group: 'G', node: 'N' },
      fields: { Level: -7 },
    });
    expect(reading?.meta?.get('Level')).toEqual({ unit: 'mm' });
  });
  it('an alias without BIRTH: quarantine, and the node is asked for a rebirth, once a minute', () => {
    const state = freshState();
    const commands: Command[] = [];
    for (let sequence = 1; sequence < 5; sequence++)
      expect(() => send('NDATA', data(sequence), sequence, { state, commands })).toThrow(/alias 5/);
    expect(commands).toHaveLength(1);
    expect(commands[0]?.topic).toBe('spBv1.0/G/NCMD/N');
    const asked = decodeSparkplugPayload(commands[0]?.payload as Buffer);
    expect(asked.metrics).toMatchObject([
      { name: 'Node Control/Rebirth', datatype: 11, values: [['', true]] },
    ]);
  });
  it('a gap in seq asks for a rebirth only where the gateway has every message between', () => {
    const gap = (hasAll: boolean): number => {
      const state = freshState();
      const commands: Command[] = [];
      send('NBIRTH', birth, 1, { state, commands });
      send('NDATA', data(1), 2, { state, commands });
      send('NDATA', data(9), 10, { state, commands, hasAll: () => hasAll });
      return commands.length;
    };
    expect([gap(false), gap(true)]).toEqual([0, 1]);
  });
  it('seq goes on after 255 with 0', () => {
    const state = freshState();
    const commands: Command[] = [];
    send('NBIRTH', birth, 1, { state, commands });
    for (let index = 1; index <= 300; index++)
      send('NDATA', data(index % 256), index + 1, { state, commands });
    expect(commands).toEqual([]);
  });
  it('a metric of the past says so', () => {
    const [reading] = send(
      'NDATA',
      payload(1, [text(1, 'x'), int(3, AT - 5000n), int(4, 4n), int(5, 1n), int(11, 3n)]),
      1,
    );
    expect(reading).toMatchObject({
      fields: { x: 3, historical_bool: true },
      timeMs: RECEIVED - 5000,
    });
  });
  it('a death certificate of an earlier session says nothing of this one', () => {
    const state = freshState();
    const bd = (value: bigint): Buffer[] => [text(1, 'bdSeq'), int(4, 8n), int(11, value)];
    send('NBIRTH', payload(0, bd(4n)), 1, { state });
    expect(send('NDEATH', payload(0, bd(3n)), 2, { state })).toEqual([]);
    expect(send('NDEATH', payload(0, bd(4n)), 3, { state })).toMatchObject([
      { measurement: 'sparkplug_state', fields: { online_bool: false } },
    ]);
  });
  it('integers beyond 2^53 go to quarantine; bytes that are no protobuf too', () => {
    expect(() =>
      send('NDATA', payload(0, [text(1, 'x'), int(4, 8n), int(11, 2n ** 63n + 1n)]), 1),
    ).toThrow(/2\^53/);
    expect(() => send('NDATA', hex('ffff'), 1)).toThrow(Undecodable);
  });
});

describe('Homie', () => {
  const homie = (topic: string, payload: string, state = freshState()) =>
    decodeMessage(topic, payload, { mappings: shipped(), state });
  it('a property declared a string stays text though it looks like a number; one declared a number must be one', () => {
    const state = freshState();
    homie(
      'homie/5/car/$description',
      '{"homie":"5.0","version":1,"nodes":{"e":{"properties":{"code":{"datatype":"string"},"t":{"datatype":"float","unit":"°C","name":"Heat"}}}}}',
      state,
    );
    expect(homie('homie/5/car/e/code', '007', state)[0]?.fields).toEqual({ code_text: '007' });
    expect(homie('homie/5/car/e/t', '21.5', state)[0]).toMatchObject({ fields: { t: 21.5 } });
    expect(homie('homie/5/car/e/t', '21.5', state)[0]?.meta?.get('t')).toEqual({
      unit: '°C',
      name: 'Heat',
    });
    expect(() => homie('homie/5/car/e/t', 'warm', state)).toThrow(/declared float/);
  });
  it('version 4 says data type and unit in topics of their own', () => {
    const state = freshState();
    expect(homie('homie/d/n/p/$datatype', 'string', state)).toEqual([]);
    homie('homie/d/n/p/$unit', 'V', state);
    const [reading] = homie('homie/d/n/p', '12', state);
    expect(reading).toMatchObject({ tags: { device: 'd', node: 'n' }, fields: { p_text: '12' } });
    expect(reading?.meta?.get('p')).toEqual({ unit: 'V' });
    expect(homie('homie/d/n/p/set', '3', state)).toEqual([]);
  });
  it('any domain is one after a device has described itself there', () => {
    const state = freshState();
    expect(homie('plant/5/press/main/force', '3', state)[0]?.measurement).toBe('force');
    homie('plant/5/press/$description', '{"homie":"5.0","version":1,"nodes":{}}', state);
    expect(homie('plant/5/press/main/force', '3', state)[0]).toMatchObject({
      measurement: 'homie',
      fields: { force: 3 },
    });
  });
});

describe('SenML', () => {
  it('a time below 2^28 is relative to now', () => {
    const [reading] = decodeMessage('x', '[{"n":"a","v":1,"t":-60}]');
    expect(reading?.timeMs).toBe(RECEIVED - 60_000);
  });
  it('base value and base sum are added; a label that must be understood is not passed over', () => {
    expect(fieldsOf('x', '[{"bn":"a","bv":20,"v":1.5},{"n":"b","bs":2,"s":3}]')).toEqual({
      value: 21.5,
    });
    expect(() =>
      decodeMessage('x', '[{"n":"a","v":1,"x_":2}]', {
        mappings: mapped('mappings: [{topic: x, codec: senml}]'),
      }),
    ).toThrow(/'x_'/);
  });
  it('a name that could not be one, and text where a number belongs: quarantine', () => {
    expect(() => decodeMessage('x', '[{"n":"a b","v":1}]')).toThrow(/no name/);
    expect(() => decodeMessage('x', '[{"bn":"a","v":"1"}]')).toThrow(/'v'/);
    // With labels that others have too, it is a list of names and their values.
    expect(decodeMessage('x', '[{"n":"a","v":"1"}]')[0]).toMatchObject({
      tags: { n: 'a' },
      fields: { v_text: '1' },
    });
  });
});

describe('Cayenne LPP', () => {
  const mappings = mapped('mappings: [{topic: lpp, codec: cayenne-lpp}]');
  it('the channel becomes part of the name', () => {
    const [reading] = decodeMessage('lpp', hex('03670110056700FF'), { mappings });
    expect(reading).toMatchObject({ fields: { temperature_3: 27.2, temperature_5: 25.5 } });
    expect(reading?.meta?.get('temperature_3')).toEqual({ unit: '°C' });
  });
  it('negative values, three axes and positions', () => {
    expect(fieldsOf('lpp', hex('0167FFD7'), mappings)).toEqual({ temperature_1: -4.1 });
    expect(fieldsOf('lpp', hex('067104D2FB2E0000'), mappings)).toEqual({
      accelerometer_6_x: 1.234,
      accelerometer_6_y: -1.234,
      accelerometer_6_z: 0,
    });
    expect(fieldsOf('lpp', hex('018806765FF2960A0003E8'), mappings)).toEqual({
      gps_1_latitude: 42.3519,
      gps_1_longitude: -87.9094,
      gps_1_altitude: 10,
    });
  });
  it('an unknown type or an end within a value: quarantine, all of it', () => {
    expect(() => fieldsOf('lpp', hex('0367011003FF'), mappings)).toThrow(/type 255/);
    expect(() => fieldsOf('lpp', hex('036701'), mappings)).toThrow(/ends within/);
  });
});

describe('Ruuvi', () => {
  const mappings = mapped('mappings: [{topic: tag, codec: ruuvi}]');
  it('RAWv2: the values of the specification', () => {
    const [reading] = decodeMessage(
      'tag',
      hex('0512FC5394C37C0004FFFC040CAC364200CDCBB8334C884F'),
      { mappings },
    );
    expect(reading).toMatchObject({
      tags: { mac: 'CB:B8:33:4C:88:4F' },
      fields: {
        temperature: 24.3,
        humidity: 53.49,
        pressure: 100_044,
        voltage: 2.977,
        tx_power: 4,
        movement_counter: 66,
      },
    });
  });
  it('what is marked as not available is left out', () => {
    expect(
      fieldsOf('tag', hex('058000FFFFFFFF800080008000FFFFFFFFFFFFFFFFFFFFFF'), mappings),
    ).toBeUndefined();
    expect(
      fieldsOf('tag', hex('0512FCFFFFFFFF800080008000FFFFFFFFFFFFFFFFFFFFFF'), mappings),
    ).toEqual({ temperature: 24.3 });
  });
  it('RAWv1 has its sign in a bit, and texts of hexadecimal digits are read too', () => {
    expect(fieldsOf('tag', '03291A1ECE1EFC18F94202CA0B53', mappings)).toMatchObject({
      humidity: 20.5,
      temperature: 26.3,
      pressure: 102_766,
      voltage: 2.899,
    });
    expect(fieldsOf('tag', '03298145CE1EFC18F94202CA0B53', mappings)).toMatchObject({
      temperature: -1.69,
    });
  });
});

describe('CBOR and MessagePack', () => {
  it('integer keys are their digits, integers beyond 2^53 are exact or in quarantine', () => {
    const mappings = mapped('mappings: [{topic: b, codec: cbor, types: { "260": text }}]');
    // {258: "002-2.1.x", 259: 14, 260: 2^53 + 1}
    const bytes = hex('A3 190102 69 3030322D322E312E78 190103 0E 190104 1B 0020000000000001');
    expect(fieldsOf('b', bytes, mappings)).toEqual({
      '258_text': '002-2.1.x',
      259: 14,
      '260_text': '9007199254740993',
    });
    const without = decodeAll('b', bytes, {
      mappings: mapped('mappings: [{topic: b, codec: cbor}]'),
    });
    expect(without.problems).toEqual([
      { reason: expect.stringContaining('9007199254740993') as unknown },
    ]);
    expect(without.readings[0]?.fields).toEqual({ '258_text': '002-2.1.x', 259: 14 });
  });
  it('tag 1 is a time, bytes are hexadecimal text', () => {
    const mappings = mapped('mappings: [{topic: b, codec: cbor, time: at}]');
    const [reading] = decodeMessage('b', hex('A2 626174 C1 1A514B67B0 6178 430102FF'), {
      mappings,
    });
    expect(reading).toMatchObject({ timeMs: 1_363_896_240_000, fields: { x_text: '0102ff' } });
  });
  it('a key twice has no value, its neighbours have theirs; alone it is quarantine', () => {
    // {a: 1, a: 2, b: 3, c: [{d: 1, d: 2, e: {f: 4}}]}, of any length and of a length that is told at its end.
    for (const [codec, bytes] of [
      ['cbor', 'A4 6161 01 6161 02 6162 03 6163 81 A3 6164 01 6164 02 6165 A1 6166 04'],
      ['cbor', 'BF 6161 01 6161 02 6162 03 6163 9F BF 6164 01 6164 02 6165 A1 6166 04 FF FF FF'],
      ['msgpack', '84 A161 01 A161 02 A162 03 A163 91 83 A164 01 A164 02 A165 81 A166 04'],
    ]) {
      const { readings, problems } = decodeAll('b', hex(bytes as string), {
        mappings: mapped(`mappings: [{topic: b, codec: ${codec}}]`),
      });
      expect(readings.map(({ fields }) => fields)).toEqual([{ b: 3, c_0_e_f: 4 }]);
      expect(problems.map(({ reason }) => reason)).toEqual([
        "a map has two keys 'a'",
        "a map has two keys 'd'",
      ]);
    }
    for (const [codec, bytes] of [
      ['cbor', 'A2 6161 01 6161 02'],
      ['msgpack', '82 A161 01 A161 02'],
    ])
      expect(() =>
        fieldsOf('b', hex(bytes as string), mapped(`mappings: [{topic: b, codec: ${codec}}]`)),
      ).toThrow(/two keys 'a'/);
    expect(() => fieldsOf('b', '{"a":1,"a":2}')).toThrow(/two members named 'a'/);
  });
  it('NaN and infinity are no numbers: quarantine', () => {
    for (const bytes of ['A1 6161 F97E00', 'A1 6161 F97C00'])
      expect(() =>
        fieldsOf('b', hex(bytes), mapped('mappings: [{topic: b, codec: cbor}]')),
      ).toThrow(/finite/);
  });
  it('MessagePack is recognised without a mapping where all of it is a map', () => {
    const telegraf = hex(
      '84a161a86120737472696e67a162cb400921cac083126fa163cb4045000000000000a164c3',
    );
    expect(fieldsOf('b', telegraf)).toEqual({
      a_text: 'a string',
      b: 31_415 / 10_000,
      c: 42,
      d_bool: true,
    });
  });
  it("MessagePack's timestamp is a time to the nanosecond", () => {
    const mappings = mapped('mappings: [{topic: b, codec: msgpack, time: t}]');
    // {t: timestamp 64 of 2017-07-14T02:40:00.123456789Z, v: 1}
    const stamp = Buffer.alloc(8);
    stamp.writeBigUInt64BE((123_456_789n << 34n) | 1_500_000_000n);
    const [reading] = decodeMessage(
      'b',
      Buffer.concat([hex('82 A174 D7FF'), stamp, hex('A176 01')]),
      { mappings },
    );
    expect([reading?.timeMs, reading?.ns, reading?.fields]).toEqual([
      1_500_000_000_123,
      456_789,
      { v: 1 },
    ]);
  });
  it('CBOR that says so, and a SenML pack with integer labels, are recognised too', () => {
    expect(fieldsOf('b', hex('D9D9F7 A1 6174 18 2A'))).toEqual({ t: 42 });
    expect(decodeMessage('b', hex('81 A2 00 6161 02 18 2A'))[0]).toMatchObject({
      tags: { name: 'a' },
      fields: { value: 42 },
    });
  });
  it('bytes of nobody knows what: quarantine', () => {
    for (const bytes of ['0512FC5394C37C0004FFFC', '00', 'ff01', '82FF'])
      expect(() => fieldsOf('b', hex(bytes))).toThrow(/no mapping names a codec/);
  });
  it('nesting without end is refused, not followed', () => {
    for (const bytes of [
      Buffer.alloc(100_000, 0x81),
      Buffer.concat([hex('A161 61'), Buffer.alloc(50_000, 0x91)]),
    ])
      for (const codec of ['cbor', 'msgpack'])
        expect(() =>
          fieldsOf('b', bytes, mapped(`mappings: [{topic: b, codec: ${codec}}]`)),
        ).toThrow(Undecodable);
  });
});

describe('numbers', () => {
  it('texts that are numbers become numbers only where a mapping says so, exactly', () => {
    const mappings = mapped('mappings: [{topic: n, types: { a: number }}]');
    expect(fieldsOf('n', '{"a":"44.30","b":"44.30"}', mappings)).toEqual({
      a: 44.3,
      b_text: '44.30',
    });
    expect(() => fieldsOf('n', '{"a":"9007199254740993"}', mappings)).toThrow(/2\^53/);
    expect(() => fieldsOf('n', '{"a":"44,30"}', mappings)).toThrow(
      /'a' is to be a number and is '44,30'/,
    );
  });
  it('a long number within a string, and a long fraction, are no reason for quarantine', () => {
    expect(fieldsOf('n', '{"id":"12345678901234567890","f":0.12345678901234567890}')).toEqual({
      id_text: '12345678901234567890',
      f: 0.123_456_789_012_345_68,
    });
  });
});

describe('content types', () => {
  it('what a sender says of its payload decides where no mapping does', () => {
    const properties = encodeProperties({ contentType: 'application/cbor; q=1', user: [] });
    expect(decodeMessage('c', hex('A1 6161 01'), { properties })[0]?.fields).toEqual({ a: 1 });
    const line = encodeProperties({
      contentType: 'application/vnd.influx.line-protocol',
      user: [['precision', 's']],
    });
    expect(decodeMessage('c', 'm v=1 1700000000', { properties: line })[0]).toMatchObject({
      measurement: 'm',
      timeMs: 1_700_000_000_000,
    });
  });
});

describe("a user's codec", () => {
  beforeAll(async () => await loadEngine());
  const run = (source: string, bytes: number[] = [1]) =>
    new Script('test.js', source, () => performance.now()).decode(
      Uint8Array.from(bytes),
      1,
      RECEIVED,
    );
  it('cannot run on for ever, take all memory, or leave its sandbox', () => {
    expect(() => run('function decodeUplink() { for (;;) {} }')).toThrow(/longer than 100 ms/);
    expect(() =>
      run('function decodeUplink() { return { data: { n: new Uint8Array(1e9).length } }; }'),
    ).toThrow(/codec test\.js: .*memory/i);
    expect(() =>
      run('function decodeUplink() { const f = () => f() + 1; return { data: f() }; }'),
    ).toThrow(/codec test\.js/);
    for (const name of ['process', 'require', 'fetch', 'setTimeout', 'WebAssembly'])
      expect(run(`function decodeUplink() { return { data: { kind: typeof ${name} } }; }`)).toEqual(
        { kind: 'undefined' },
      );
    expect(() => run('function decodeUplink() { return import("node:fs"); }')).toThrow(
      /codec test\.js/,
    );
  });
  it('gives the same at every replay: the time is the receipt, chance begins anew', () => {
    const script = new Script(
      'test.js',
      `function decodeUplink({ recvTime }) {
        return { data: { now: Date.now(), made: new Date().getTime(), given: recvTime.getTime(), text: Date().length > 20,
          other: new Date(2020, 1, 2) instanceof Date && Date.UTC(2020, 0, 1), chance: Math.random(), performance: typeof performance } };
      }`,
      () => performance.now(),
    );
    const first = script.decode(Uint8Array.of(1), 1, RECEIVED) as Record<string, unknown>;
    expect(first).toMatchObject({
      now: RECEIVED,
      made: RECEIVED,
      given: RECEIVED,
      text: true,
      other: Date.UTC(2020, 0, 1),
      performance: 'undefined',
    });
    expect(first['chance']).toBeGreaterThan(0);
    expect(script.decode(Uint8Array.of(1), 1, RECEIVED)).toEqual(first);
  });
  it('after an error the next message is decoded as if nothing had been', () => {
    const script = new Script(
      'test.js',
      'function decodeUplink({ bytes }) { if (bytes[0] === 0) for (;;) {} return { data: { n: bytes[0] } }; }',
      () => performance.now(),
    );
    expect(() => script.decode(Uint8Array.of(0), 1, 0)).toThrow(/longer/);
    expect(script.decode(Uint8Array.of(7), 1, 0)).toEqual({ n: 7 });
  });
  it('nothing, and too much, are errors; a BigInt is exact; NaN is left to the decoder, which counts it', () => {
    expect(run('function decodeUplink() { return { data: { t: 0 / 0 } }; }')).toEqual({
      t: Number.NaN,
    });
    expect(() => run('function decodeUplink() {}')).toThrow(/returned nothing/);
    expect(() =>
      run('function decodeUplink() { return { data: { t: "x".repeat(2e6) } }; }'),
    ).toThrow(/returned more/);
    expect(run('function decodeUplink() { return { data: { t: 2n ** 60n + 1n } }; }')).toEqual({
      t: 2n ** 60n + 1n,
    });
  });
  it('one that does not load is refused when the mappings are, with its name', () => {
    const load = (source: string) => {
      for (const { script } of parseMappings(
        'mappings: [{topic: a, script: my.js}]',
        'm.yaml',
        () => source,
      ))
        script?.script.check();
    };
    expect(() => load('function (')).toThrow(/my\.js: SyntaxError/);
    expect(() => load('var x = 1')).toThrow(/my\.js: has no function decodeUplink/);
  });
});

describe('cardinality', () => {
  const reading = (
    tags: Record<string, string>,
    fields: Reading['fields'] = { v: 1 },
  ): Reading => ({
    measurement: 'm',
    tags,
    fields,
    sequence: 1,
    index: 0,
    timeMs: RECEIVED,
    ns: 0,
  });
  it('a device that makes a new series with every message is stopped at its limit, others are not', () => {
    const states = new CodecStates();
    const admission = new Admission({ perClient: 100, perGateway: 150 });
    const admit = (client: string, id: number, on = admission, state = states) =>
      on.admit(state.of('gw'), client, 'm', reading({ id: String(id) }));
    for (let id = 0; id < 100; id++) admit('bad', id);
    expect(() => admit('bad', 100)).toThrow(/seriesPerClientMax/);
    admit('bad', 5);
    for (let id = 0; id < 50; id++) admit('good', 1000 + id);
    expect(() => admit('good', 2000)).toThrow(/seriesPerGatewayMax/);
    // What has been counted survives a restart.
    const reloaded = new CodecStates();
    for (const { key, value } of states.takeChanges()) reloaded.load(key, value);
    const again = new Admission({ perClient: 100, perGateway: 1000 });
    admit('bad', 99, again, reloaded);
    expect(() => admit('bad', 3000, again, reloaded)).toThrow(/seriesPerClientMax/);
  });
  it('clients that have another name with each connection bring one series once: nothing is counted, kept or held for them', () => {
    const states = new CodecStates();
    const admission = new Admission({ perClient: 100, perGateway: 10 });
    const admit = (client: string, id: number, on = admission, all = states) =>
      on.admit(all.of('gw'), client, 'm', reading({ id: String(id) }));
    for (let at = 0; at < 2000; at++) admit(`random-${at}`, at % 10);
    expect(() => admit('random', 10)).toThrow(/seriesPerGatewayMax/);
    const kept = states.takeChanges();
    expect(kept).toHaveLength(10);
    // After a restart as well, whoever comes first then.
    const reloaded = new CodecStates();
    for (const { key, value } of kept) reloaded.load(key, value);
    const again = new Admission({ perClient: 100, perGateway: 10 });
    for (let at = 0; at < 2000; at++) admit(`other-${at}`, at % 10, again, reloaded);
    expect(reloaded.takeChanges()).toEqual([]);
  });
  it('what an earlier version kept of such clients, the same series again and again, is counted once and deleted', () => {
    const states = new CodecStates();
    const kept = new HashCounts(states.of('gw'), 'series', 0);
    kept.add('random-0', 8);
    for (let at = 0; at < 50; at++) kept.add(`random-${at}`, 7);
    states.takeChanges();
    expect(new HashCounts(states.of('gw'), 'series', 0).all()).toEqual(new Set([7, 8]));
    const changes = states.takeChanges();
    expect(changes).toHaveLength(49);
    expect(changes.every(({ value }) => value.length === 0)).toBe(true);
  });
  it('of names without number those that were used last are in memory, the others are read again or begin anew', () => {
    const states = new CodecStates();
    const counts = new HashCounts(states.of('gw'), 'series', 0);
    for (let at = 0; at < NAMES_MAX + 50; at++) counts.add(`c${at}`, at);
    expect(counts.size).toBe(NAMES_MAX);
    expect(counts.of('c0')).toEqual(new Set([0]));
    counts.add('c0', 9);
    expect(counts.of('c0')).toEqual(new Set([0, 9]));
    expect(counts.size).toBe(NAMES_MAX);
  });
  it('names of fields are bounded by topic, gateway and in all: the fresh name alone is refused, and the reason names the cure', () => {
    const limits = { perClient: 1e6, perGateway: 1e6 };
    const own = { fieldsPerTopic: 100, fieldsPerGateway: 150, fieldsInAll: 180 };
    const states = new CodecStates();
    const admission = new Admission({ ...limits, ...own });
    const admit = (gateway: string, topic: string, name: string, on = admission, all = states) => {
      const given = reading({ topic, gateway }, { known: 1, [name]: 2 });
      return { problems: on.admit(all.of(gateway), 'c', topic, given), fields: given.fields };
    };
    for (let id = 0; id < 99; id++) expect(admit('a', 't', `f${id}`).problems).toBeUndefined();
    const refused = admit('a', 't', 'one-more');
    expect(refused.fields).toEqual({ known: 1 });
    expect(refused.problems?.[0]).toMatch(/fieldsPerTopicMax.*each: "\{id\}"/);
    for (let id = 0; id < 50; id++) expect(admit('a', 'u', `g${id}`).problems).toBeUndefined();
    expect(admit('a', 'u', 'more').problems?.[0]).toMatch(/fieldsPerGatewayMax/);
    expect(admit('a', 'u', 'f7').problems).toBeUndefined();
    for (let id = 0; id < 30; id++) expect(admit('b', 'u', `h${id}`).problems).toBeUndefined();
    expect(admit('b', 'u', 'more').problems?.[0]).toMatch(/decode\.fieldsMax/);
    // A topic with many names is remembered through a restart.
    const reloaded = new CodecStates();
    for (const { key, value } of states.takeChanges()) reloaded.load(key, value);
    const again = new Admission({ ...limits, ...own });
    expect(admit('a', 't', 'fresh', again, reloaded).problems).toHaveLength(1);
    expect(admit('a', 't', 'f98', again, reloaded).problems).toBeUndefined();
  });
});
