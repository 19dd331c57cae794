/** Other people's test vectors decode to their expected output: SenML, Sparkplug, Telegraf's parsers, LoRaWAN codecs. */
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { beforeAll, describe, expect, it } from 'vitest';
import { decodeSparkplugPayload } from '../../collector/decode/codecs/sparkplug-payload.ts';
import { loadEngine } from '../../collector/sandbox/sandbox.ts';
import type { DecodedReading } from '../../collector/decode/decoder.ts';
import { parseMappings } from '../../collector/decode/mapping/mapping.ts';
import { Mappings } from '../../collector/decode/mapping/mappings.ts';
import { Undecodable } from '../../shared/codecs/codec.ts';
import { decodeLineProtocol } from '../../shared/codecs/line-protocol.ts';
import type { FieldValue } from '../../shared/model/reading.ts';
import { decodeAll, decodeMessage, freshState, shipped } from '../support/decode.ts';
import { ROOT } from '../support/process.ts';

const FOLDER = join(ROOT, 'test/vectors/payloads');
const SCRIPTS = join(ROOT, 'test/vectors/codecs');
const bytes = (path: string): Buffer => readFileSync(join(FOLDER, path));
const json = (path: string): unknown => JSON.parse(bytes(path).toString());
const withScripts = (yaml: string): Mappings =>
  new Mappings(
    parseMappings(yaml, 'test.yaml', (file) => readFileSync(join(SCRIPTS, file), 'utf8')),
  );

beforeAll(async () => await loadEngine());

describe('SenML, RFC 8428', () => {
  interface Resolved {
    n: string;
    u?: string;
    t: number;
    v?: number;
    vs?: string;
    vb?: boolean;
    vd?: string;
  }
  const RECEIVED = Date.UTC(2026, 0, 1);
  const resolve = (reading: DecodedReading): Partial<Resolved> => ({
    n: reading.tags['name'] as string,
    ...(reading.tags['unit'] === undefined ? {} : { u: reading.tags['unit'] }),
    ...Object.fromEntries(
      Object.entries(reading.fields).map(([name, value]) => [
        { value: 'v', value_text: 'vs', value_bool: 'vb', data_text: 'vd' }[name] ?? name,
        value,
      ]),
    ),
  });
  /** The resolved examples took the time of their making where a pack gives none. */
  const isNow = (t: number): boolean => t === 1_498_780_179 || t === 1_499_109_309;
  const names = ['ex1', 'ex2', 'ex3', 'ex5', 'ex7', 'ex9', 'ex11'];
  const files = names.flatMap((name) => [`${name}.json`, `${name}.gen.json`]);

  it.each([...files, 'ex3.gen.cbor', 'ex5.gen.cbor'])('%s is its resolved form', (file) => {
    const name = file.split('.')[0] as string;
    const expected = json(`senml/${name}.gen.resolved.json`) as Resolved[];
    const decoded = decodeMessage('a/pack', bytes(`senml/${file}`), { receivedMs: RECEIVED });
    // The library that made the resolved form of example 7 leaves its data value out.
    const valued = decoded.filter((each) => !('data_text' in each.fields));
    expect(valued.map(resolve)).toEqual(
      expected.map(({ t: _t, ...rest }) => expect.objectContaining(rest) as unknown),
    );
    for (const [index, { t }] of expected.entries())
      expect(valued[index]?.timeMs).toBe(isNow(t) ? RECEIVED : Math.round(t * 1000));
  });

  it('ex7: a data value is kept as it was sent', () => {
    const decoded = decodeMessage('a/pack', bytes('senml/ex7.json'));
    expect(decoded.at(-1)?.fields).toEqual({ data_text: 'aGkgCg' });
  });

  it.each([
    'ex13.json',
    'ex13.gen.json',
  ])('%s: base time in fractions, and names that begin with a digit', (file) => {
    const decoded = decodeMessage('a/pack', bytes(`senml/${file}`), { receivedMs: RECEIVED });
    expect(
      decoded.map(({ tags, fields, timeMs }) => [
        tags['name'],
        tags['unit'],
        fields['value'],
        timeMs,
      ]),
    ).toEqual([
      ['2001:db8::3', '/', 0.5, 1_320_078_429_000],
      ['2001:db8::4', '/', 0.5, 1_320_078_429_000],
      ['2001:db8::3', '/', 0, 1_320_078_429_100],
      ['2001:db8::4', '/', 0, 1_320_078_429_100],
    ]);
  });
});

describe('Sparkplug 3.0', () => {
  const TYPES: Record<string, number> = { Int64: 4, UInt64: 8, Float: 9, Boolean: 11, String: 12 };
  interface Vector {
    topic: string;
    file: string;
    spec: {
      timestamp: number;
      seq?: number;
      metrics: { name: string; timestamp: number; dataType: string; value: unknown }[];
    };
  }
  const vectors = json('sparkplug/index.json') as Vector[];

  it.each(vectors)('$file says what the specification says of it', ({ file, spec }) => {
    const payload = decodeSparkplugPayload(bytes(`sparkplug/${file}`));
    expect(payload.timestamp).toBe(spec.timestamp);
    expect(payload.seq).toBe(spec.seq);
    expect(
      payload.metrics.map(({ name, timestamp, datatype, values }) => ({
        name,
        timestamp,
        datatype,
        value: typeof values[0]?.[1] === 'bigint' ? Number(values[0][1]) : values[0]?.[1],
      })),
    ).toEqual(
      spec.metrics.map(({ dataType, ...rest }) => ({ ...rest, datatype: TYPES[dataType] })),
    );
  });

  it('through the shipped mapping each metric with a value is a field at its time', () => {
    const state = freshState();
    for (const [index, { topic, file, spec }] of vectors.entries()) {
      const readings = decodeMessage(topic, bytes(`sparkplug/${file}`), {
        mappings: shipped(),
        state,
        sequence: index + 1,
      });
      const fields = Object.assign({}, ...readings.map((each) => each.fields)) as Record<
        string,
        FieldValue
      >;
      for (const { name, value } of spec.metrics) {
        const typed = `${name}${{ number: '', string: '_text', boolean: '_bool' }[typeof value as 'number']}`;
        expect(fields[typed], `${file} ${name}`).toBe(value);
      }
      if (!file.startsWith('ndeath'))
        expect(readings.every(({ timeMs }) => timeMs === spec.timestamp)).toBe(true);
    }
  });
});

describe("Telegraf's parsers", () => {
  /** Case → the mapping that it needs. `#` stands for nothing that the case says itself. */
  const BART = `
    codec: json
    points:
      - each: root.station.*.etd.*.estimate.*
        measurement: bart_json_v2
        fields: [minutes]
        types: { minutes: number }
        time: false`;
  const CASES: Record<string, { folder: string; input: string[]; mapping: string }> = {
    array_of_objects: {
      folder: 'json_v2/testdata/array_of_objects',
      input: ['input.json'],
      mapping: `{ points: [{ each: features.*, measurement: file }] }`,
    },
    benchmark: {
      folder: 'json_v2/testdata/benchmark',
      input: ['input.json'],
      mapping: `
    points:
      - each: metrics.*
        measurement: benchmark
        time: false
        fields: { name: name, timestamp: timestamp, count_sum: fields.count_sum, key: tags.key, flagname: tags.flagname, host: tags.host, platform: tags.platform, sdkver: tags.sdkver, value: tags.value }`,
    },
    fields_and_tags: {
      folder: 'json_v2/testdata/fields_and_tags',
      input: ['input.json'],
      mapping: `
    points:
      - each: fields.json.*
        measurement: file
        tags: { status: { from: ^^.status } }
        fields: { duration: ^^.duration, json_duration: duration }`,
    },
    fields_and_tags_complex: {
      folder: 'json_v2/testdata/fields_and_tags_complex',
      input: ['input.json'],
      mapping: `${BART}
        tags: { name: { from: ^^^^.name } }`,
    },
    object: {
      folder: 'json_v2/testdata/object',
      input: ['input.json'],
      mapping: `${BART}
        tags: { name: { from: ^^^^.name }, destination: { from: ^^.destination } }`,
    },
    large_numbers: {
      folder: 'json_v2/testdata/large_numbers',
      input: ['input.json'],
      mapping: `
    measurement: file
    points:
      - { each: int, types: { largest: text } }
      - { each: uint, types: { larger: text, largest: text } }
      - { each: float }`,
    },
    mix_field_and_object: {
      folder: 'json_v2/testdata/mix_field_and_object',
      input: ['input.json'],
      mapping: `
    measurement: openweather
    tags: { id: { from: id }, name: { from: name } }
    fields: { coord_lat: coord.lat, coord_lon: coord.lon, description: weather.0.description, main_temp: main.temp, summary: weather.0.main, wind_speed: wind.speed }`,
    },
    multiple_timestamps: {
      folder: 'json_v2/testdata/multiple_timestamps',
      input: ['input.json'],
      mapping: `{ points: [{ each: events.*, measurement: file, time: { from: time, unit: ms }, fields: [name] }] }`,
    },
    nested_and_nonnested_tags: {
      folder: 'json_v2/testdata/nested_and_nonnested_tags',
      input: ['input.json'],
      mapping: `
    points:
      - each: "*.tables.*"
        when: { outputname: true }
        measurement: file
        tags: { hostname: { from: ^^.hostname }, outputname: { from: outputname } }
        fields: { systemVoltage: ^^.systemVoltage, systemCurrent: ^^.systemCurrent }`,
    },
    object_fields_with_same_path: {
      folder: 'json_v2/testdata/object_fields_with_same_path',
      input: ['input.json'],
      mapping: `
    points:
      - { measurement: energy, fields: { production: production.eim.wattHoursLifetime } }
      - { measurement: energy, fields: { consumption: consumption.eim.wattHoursLifetime } }`,
    },
    object_multiple: {
      folder: 'json_v2/testdata/object_multiple',
      input: ['input.json'],
      mapping: `
    points:
      - { each: api.http_status_codes, measurement: api_http_status_codes }
      - { measurement: api_requests, fields: { requests: api.requests } }
      - { measurement: api_responses, fields: { responses: api.responses } }
      - { each: api.av, measurement: api_av }`,
    },
    object_timestamp: {
      folder: 'json_v2/testdata/object_timestamp',
      input: ['input.json'],
      mapping: `{ points: [{ each: events.*, measurement: metric, tagFields: [id], time: { from: time, history: true } }] }`,
    },
    optional: {
      folder: 'json_v2/testdata/optional',
      input: ['input.json'],
      mapping: `{ empty: true, points: [{ each: other, measurement: file }, { measurement: file, fields: [missing] }] }`,
    },
    optional_objects: {
      folder: 'json_v2/testdata/optional_objects',
      input: ['input_1.json', 'input_2.json'],
      mapping: `
    measurement: file
    time: { from: ^.Time, zone: UTC }
    points:
      - { each: MT681, tagFields: [Meter_number] }
      - { each: BME280, fields: [Temperature, Humidity, Pressure] }
      - { each: TSL2561, fields: [Illuminance] }`,
    },
    subfieldtag_in_object: {
      folder: 'json_v2/testdata/subfieldtag_in_object',
      input: ['input.json'],
      mapping: `
    points:
      - each: root.station.0.etd.0.estimate.0
        measurement: file
        tags: { from_station: { from: ^^^^.abbr }, to_station: { from: ^^.abbreviation }, etd_estimate_direction: { from: direction } }
        fields: { etd_estimate_minutes: minutes }
        types: { etd_estimate_minutes: number }`,
    },
    subfieldtag_in_object_2: {
      folder: 'json_v2/testdata/subfieldtag_in_object_2',
      input: ['input.json'],
      mapping: `{ points: [{ each: data.*, measurement: file, tags: { data: { from: . } }, fields: { cnt: $.cnt, format: $.format } }] }`,
    },
    timestamp_rfc3339: {
      folder: 'json_v2/testdata/timestamp_rfc3339',
      input: ['input.json'],
      mapping: `{ measurement: file, time: when }`,
    },
    wrong_path: {
      folder: 'json_v2/testdata/wrong_path',
      input: ['input.json'],
      mapping: `{ empty: true, points: [{ each: wrong }] }`,
    },
    cbor: {
      folder: 'xpath/testcases/cbor',
      input: ['addressbook.bin'],
      mapping: `
    codec: cbor
    points:
      - each: people.*
        measurement: addresses
        types: { "*": text }
        rename: { phones_0_number: phones_number, phones_1_number: phones_number_1, phones_2_number: phones_number_2, phones_0_type: phones_type, phones_1_type: phones_type, phones_2_type: phones_type_1 }`,
    },
    cbor_base64_encoding: {
      folder: 'xpath/testcases/cbor_base64_encoding',
      input: ['data.bin'],
      mapping: `
    codec: cbor
    points:
      - each: "*"
        measurement: data
        time: $.*.timestamp
        fields: { str_a: str_a, str_b: str_b, bytes_a: bytes_a, fielda: bytes_a, bytes_b: bytes_b, timestamp: timestamp }
        types: { fielda: base64, bytes_b: base64, str_a: text, str_b: text }`,
    },
    cbor_hex_encoding: {
      folder: 'xpath/testcases/cbor_hex_encoding',
      input: ['data.bin'],
      mapping: `
    codec: cbor
    points: [{ each: "*", measurement: data, time: $.*.timestamp, types: { str_a: text, str_b: text } }]`,
    },
    json_array_expand_simple_types: {
      folder: 'xpath/testcases/json_array_expand_simple_types',
      input: ['test.json'],
      mapping: `{ measurement: foo, time: $.timestamp }`,
    },
    name_expansion: {
      folder: 'xpath/testcases/name_expansion',
      input: ['test.json'],
      mapping: `{ points: [{ each: devices.*, measurement: devices }] }`,
    },
    native_types_json: {
      folder: 'xpath/testcases/native_types_json',
      input: ['test.json'],
      mapping: `{ measurement: native_types, rename: { a: value_a, b: value_b, c: value_c, d: value_d } }`,
    },
    time_timezone_Berlin: {
      folder: 'xpath/testcases/time_timezone_Berlin',
      input: ['test.json'],
      mapping: `{ measurement: time, time: { from: t, zone: Europe/Berlin }, pairs: { from: ., name: id, value: v } }`,
    },
    time_timezone_utc: {
      folder: 'xpath/testcases/time_timezone_utc',
      input: ['test.json'],
      mapping: `{ measurement: time, time: { from: t, zone: UTC }, pairs: { from: ., name: id, value: v } }`,
    },
    time_timezone_with_offset: {
      folder: 'xpath/testcases/time_timezone_with_offset',
      input: ['test.json'],
      mapping: `{ measurement: time, time: t, pairs: { from: ., name: id, value: v } }`,
    },
    binary: {
      folder: 'binary/testcases/multiple_messages',
      input: ['messageA.bin', 'messageB.bin', 'messageC.bin'],
      mapping: `
    codec: bytes
    script: telegraf-binary.js
    measurement: { from: measurement }
    time: { from: time, unit: s }
    tagFields: [address, failure]
    drop: [measurement]`,
    },
    protobuf_benchmark: {
      folder: 'xpath/testcases/protobuf_benchmark',
      input: ['message.bin'],
      mapping: `
    codec: bytes
    script: { file: protobuf.js, port: 1 }
    points: [{ each: metrics.*, measurement: benchmark, tagFields: [source, tags_platform, tags_sdkver] }]`,
    },
    protobuf_skip_bytes_grpc: {
      folder: 'xpath/testcases/protobuf_skip_bytes_grpc',
      input: ['test.dat'],
      mapping: `
    codec: bytes
    script: { file: protobuf.js, port: 2 }
    measurement: native_types
    rename: { a: value_a, b: value_b, c: value_c, d: value_d }`,
    },
    protobuf_issue_13715: {
      folder: 'xpath/testcases/protobuf_issue_13715',
      input: ['message.bin'],
      mapping: `
    codec: bytes
    script: { file: protobuf.js, port: 3 }
    measurement: dune
    time: { from: final.time, unit: ms }
    tagFields: [application, session]
    drop: [final_time]
    rename: { final_inheritance_0: final_inheritance_, final_inheritance_1: final_inheritance__1 }`,
    },
  };

  interface Point {
    measurement: string | undefined;
    tags: Record<string, unknown>;
    fields: Record<string, unknown>;
  }
  /** Integers beyond 2^53, for which the mapping asks as text: Telegraf's own suffix goes, the digits stay. */
  const asText = (line: string): string =>
    line.replaceAll(/=(\d{17,}|9223372036854775807)[iu]/g, '="$1"');
  const expectedOf = (folder: string): (Point & { timeNs: string | undefined })[] =>
    bytes(`telegraf/${folder}/expected.out`)
      .toString()
      .split('\n')
      .filter((line) => line.trim() !== '')
      .map((line) => {
        const [decoded] = decodeLineProtocol(asText(line), Date.now());
        return {
          measurement: decoded?.measurement,
          tags: decoded?.tags ?? {},
          fields: Object.fromEntries(decoded?.fields ?? []),
          timeNs: /\s(\d{19})$/.exec(line)?.[1],
        };
      });
  /** Telegraf writes a tag that was a number in its own form: 2.643743e+06 is 2643743. */
  const tagForm = (tags: Record<string, unknown>): Record<string, unknown> =>
    Object.fromEntries(
      Object.entries(tags).map(([name, value]) => [
        name,
        /^\d\.\d+e\+\d+$/.test(String(value)) ? String(Number(value)) : value,
      ]),
    );
  /** Cases whose expected time is that of Telegraf's own run. */
  const NO_TIME = ['benchmark', 'mix_field_and_object', 'multiple_timestamps', 'object_multiple'];
  const keyOf = ({ fields }: Point): string => JSON.stringify(Object.entries(fields).toSorted());
  const byText = (points: Point[]): Point[] =>
    points.toSorted((a, b) => (keyOf(a) < keyOf(b) ? -1 : 1));

  it.each(Object.entries(CASES))('%s', (name, { folder, input, mapping }) => {
    const body = mapping.trim().startsWith('{') ? mapping.trim().slice(1) : undefined;
    const yaml =
      body === undefined
        ? `mappings:\n  - topic: t${mapping}\n`
        : `mappings:\n  - { topic: t, ${body}\n`;
    const mappings = withScripts(yaml);
    const readings = input.flatMap((file) =>
      decodeMessage('t', bytes(`telegraf/${folder}/${file}`), { mappings }),
    );
    const expected = expectedOf(folder);
    const found = readings.map(({ measurement, tags: { gateway: _gateway, ...tags }, fields }) => ({
      measurement,
      tags,
      fields,
    }));
    expect(byText(found)).toEqual(
      byText(
        expected.map(({ timeNs: _timeNs, ...each }) => ({ ...each, tags: tagForm(each.tags) })),
      ),
    );
    if (NO_TIME.includes(name)) return;
    for (const [index, { timeNs }] of expected.entries()) {
      if (timeNs === undefined) continue;
      expect(readings[index]?.timeMs, `time of point ${index}`).toBe(
        Number(BigInt(timeNs) / 1_000_000n),
      );
    }
  });

  it('json_native_nonnested: what Telegraf renders as a Go map is kept value by value', () => {
    const [reading] = decodeMessage(
      't',
      bytes('telegraf/xpath/testcases/json_native_nonnested/test.json'),
    );
    expect(reading).toMatchObject({
      timeMs: 1_690_193_829_000,
      fields: {
        a_text: 'a string',
        b: 31_415 / 10_000,
        c_bool: true,
        d_d1: 1,
        d_d2_text: 'foo',
        d_d3_bool: true,
        e_0_text: 'master',
        e_1: 42,
        e_2_bool: true,
      },
    });
  });

  it('large_numbers without a mapping: what a double would bend goes to quarantine, and what it holds does not', () => {
    const { readings, problems } = decodeAll(
      't',
      bytes('telegraf/json_v2/testdata/large_numbers/input.json'),
    );
    expect(problems.map(({ reason }) => reason)).toContainEqual(
      expect.stringMatching(/9223372036854775807.*cannot be stored exactly/),
    );
    expect(readings[0]?.fields).toMatchObject({
      int_large: 4_294_967_296,
      uint_large: Number.MAX_SAFE_INTEGER,
    });
  });

  it('every case that has an expected output is among these', () => {
    const folders = ['json_v2/testdata', 'binary/testcases', 'xpath/testcases'].flatMap((top) =>
      readdirSync(join(FOLDER, 'telegraf', top))
        .map((name) => `${top}/${name}`)
        .filter((folder) => existsSync(join(FOLDER, 'telegraf', folder, 'expected.out'))),
    );
    const covered = new Set(Object.values(CASES).map(({ folder }) => folder));
    expect(folders.filter((folder) => !covered.has(folder))).toEqual([
      'xpath/testcases/json_native_nonnested',
    ]);
  });
});

describe('LoRaWAN codecs', () => {
  interface Message {
    vendor: string;
    codec: string;
    description: string;
    fPort: number;
    bytesHex: string;
    output: { data?: unknown; errors?: string[]; warnings?: string[] };
  }
  const messages = JSON.parse(
    gunzipSync(bytes('ttn-lorawan-codec-examples.json.gz')).toString(),
  ) as Message[];

  /** What must arrive of an output: every scalar under its path; {value, unit, displayName} is one value. */
  function leaves(value: unknown, name: string, into: Map<string, unknown>): Map<string, unknown> {
    if (value === null || value === undefined) return into;
    if (typeof value !== 'object') {
      // A number called `time` has another name in every store, since InfluxDB would drop it.
      if (name === 'time' && typeof value === 'number') into.set('time_value', value);
      else
        into.set(
          name + { number: '', string: '_text', boolean: '_bool' }[typeof value as 'number'],
          value,
        );
      return into;
    }
    const at = (key: string): string => (name === '' ? key : `${name}_${key}`);
    const object = value as Record<string, unknown>;
    const inner = object['value'];
    if (
      name !== '' &&
      !Array.isArray(value) &&
      !insideArray &&
      inner !== undefined &&
      (inner === null || typeof inner !== 'object')
    ) {
      for (const [key, child] of Object.entries(object))
        if (key === 'value') leaves(child, name, into);
        else if (!(['unit', 'displayName'].includes(key) && typeof child === 'string'))
          leaves(child, at(key), into);
      return into;
    }
    const outer = insideArray;
    insideArray ||= Array.isArray(value);
    for (const [key, child] of Object.entries(value)) leaves(child, at(key), into);
    insideArray = outer;
    return into;
  }
  let insideArray = false;
  const units = (value: unknown): string[] =>
    typeof value !== 'object' || value === null || Array.isArray(value)
      ? []
      : Object.entries(value).flatMap(([key, child]) => {
          const { value: inner, unit } = (child ?? {}) as { value?: unknown; unit?: unknown };
          return typeof unit === 'string' && inner !== undefined && typeof inner !== 'object'
            ? [`${key} ${unit}`]
            : [];
        });

  const ttn = ({ fPort, bytesHex, output }: Message): string =>
    JSON.stringify({
      end_device_ids: { device_id: 'dev', dev_eui: '0004A30B001C0530' },
      received_at: '2024-05-01T10:00:01Z',
      uplink_message: {
        f_port: fPort,
        f_cnt: 7,
        frm_payload: Buffer.from(bytesHex, 'hex').toString('base64'),
        ...(output.data === undefined ? {} : { decoded_payload: output.data }),
        ...(output.errors === undefined ? {} : { decoded_payload_errors: output.errors }),
        ...(output.warnings === undefined ? {} : { decoded_payload_warnings: output.warnings }),
        rx_metadata: [{ gateway_ids: { gateway_id: 'g' }, rssi: -30, snr: 9 }],
      },
    });
  const chirpstack = ({ fPort, bytesHex, output }: Message, id: number): [string, string] =>
    output.data === undefined
      ? [
          'log',
          JSON.stringify({
            time: '2024-05-01T10:00:01Z',
            deviceInfo: { deviceName: 'dev', devEui: '0004a30b001c0530' },
            level: 'ERROR',
            code: 'UPLINK_CODEC',
            description: (output.errors ?? []).join('; '),
          }),
        ]
      : [
          'up',
          JSON.stringify({
            deduplicationId: `id-${id}`,
            time: '2024-05-01T10:00:01Z',
            deviceInfo: { deviceName: 'dev', devEui: '0004a30b001c0530' },
            fPort,
            data: Buffer.from(bytesHex, 'hex').toString('base64'),
            object: output.data,
            rxInfo: [{ gatewayId: 'g', rssi: -30, snr: 9 }],
          }),
        ];

  /** SenseCAP's list of measurements: each is a field under its number. */
  function senseCap(data: unknown): Record<string, unknown> | undefined {
    const { messages: list, valid, err } = data as Record<string, unknown>;
    if (
      !Array.isArray(list) ||
      !Object.hasOwn((list[0] as object | undefined) ?? {}, 'measurementId')
    )
      return undefined;
    const measured = list.map((each): [string, unknown] => {
      const { measurementId, measurementValue } = each as Record<string, unknown>;
      return [String(measurementId), measurementValue];
    });
    return { valid_bool: valid, err, ...Object.fromEntries(measured) };
  }

  it('all 500 arrive whole as The Things Stack and ChirpStack send them; those without data go to quarantine with the error', () => {
    const mappings = shipped();
    const state = freshState();
    let whole = 0;
    let refused = 0;
    expect(messages).toHaveLength(500);
    for (const [index, message] of messages.entries()) {
      const [event, up] = chirpstack(message, index);
      const wrapped: [string, string][] = [
        ['v3/app@ttn/devices/dev/up', ttn(message)],
        [`application/app/device/0004a30b001c0530/event/${event}`, up],
      ];
      for (const [topic, payload] of wrapped) {
        const decode = (): DecodedReading[] =>
          decodeMessage(topic, payload, { mappings, state, sequence: index + 1 });
        const { data, errors } = message.output;
        const label = `${message.vendor} ${message.codec} ${message.bytesHex} on ${topic}`;
        if (data === undefined) {
          expect(decode, label).toThrow(Undecodable);
          expect(decode, label).toThrow((errors ?? [])[0]);
          refused++;
          continue;
        }
        const readings = decode().filter(({ measurement }) => measurement === 'lorawan');
        const expected = senseCap(data) ?? Object.fromEntries(leaves(data, '', new Map()));
        const fields = Object.assign({}, ...readings.map((each) => each.fields)) as object;
        expect(fields, label).toEqual(expected);
        const known = readings.flatMap(({ meta }) =>
          [...(meta ?? [])].flatMap(([name, { unit }]) =>
            unit === undefined ? [] : [`${name} ${unit}`],
          ),
        );
        for (const unit of units(data)) expect(known, label).toContain(unit);
        whole++;
      }
    }
    expect([whole, refused]).toEqual([988, 12]);
  });

  const MAKERS: [vendor: string, codec: RegExp, file: string][] = [
    ['bosch', /tps110/, 'bosch-tps110.js'],
    ['elsys', /./, 'elsys.js'],
    ['example', /windsensor/, 'example-windsensor.js'],
    ['terabee', /./, 'terabee-lora-lm-xl.js'],
    ['teneo-iot', /./, 'teneo-iot.js'],
  ];
  it.each(
    MAKERS,
  )("a user's codec for %s turns its bytes into the maker's outputs", (vendor, codec, file) => {
    const mappings = withScripts(`
mappings:
  - topic: v3/{application}@{tenant}/devices/{device}/up
    codec: json
    script: { file: ${file}, bytes: uplink_message.frm_payload, port: uplink_message.f_port }
    points: [{ each: decoded, measurement: lorawan }]
`);
    const own = messages.filter((each) => each.vendor === vendor && codec.test(each.codec));
    expect(own.length).toBeGreaterThan(1);
    for (const message of own) {
      const { data: _data, ...undecoded } = message.output;
      const decode = (): DecodedReading[] =>
        decodeMessage(
          'v3/a@t/devices/d/up',
          ttn({ ...message, output: { warnings: undecoded.warnings ?? [] } }),
          { mappings },
        );
      if (message.output.data === undefined) {
        expect(decode).toThrow((message.output.errors ?? [])[0]);
        continue;
      }
      expect(decode()[0]?.fields, message.bytesHex).toEqual(
        Object.fromEntries(leaves(message.output.data, '', new Map())),
      );
    }
  });
});
