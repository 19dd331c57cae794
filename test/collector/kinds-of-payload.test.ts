/** What documents say without a mapping: where their time is, which of their lists are series, and what is a table. */
import { describe, expect, it } from 'vitest';
import { Mappings } from '../../collector/decode/mapping/mappings.ts';
import { decodeAll, decodeMessage, freshState, mapped, shipped } from '../support/decode.ts';

const RECEIVED = Date.UTC(2026, 10, 25, 19, 0, 5);
const AT = '2026-11-25T19:00:00.000Z';
const BERLIN = new Mappings([], 'Europe/Berlin');

const made = (payload: unknown, mappings = BERLIN, topic = 'a/b') =>
  decodeMessage(topic, typeof payload === 'string' ? payload : JSON.stringify(payload), {
    mappings,
    receivedMs: RECEIVED,
  }).map(({ tags: { gateway: _gateway, topic: _topic, ...tags }, fields, timeMs, meta }) => ({
    tags,
    fields,
    at: timeMs === RECEIVED ? 'receipt' : new Date(timeMs).toISOString(),
    units: Object.fromEntries([...(meta ?? [])].map(([name, { unit }]) => [name, unit])),
  }));
const timeOf = (payload: unknown, mappings = BERLIN): [string | undefined, unknown] => {
  const [first] = made(payload, mappings);
  return [first?.at, first?.fields];
};

describe('time keys', () => {
  const keys = [
    '_timestamp',
    'TS',
    'rxtime',
    'rx_time',
    '_DATE_',
    'DateTime',
    'time_stamp',
    'Date',
    'UTC',
    'measured_at',
    'timeStamp',
  ];
  it.each(keys)('%s is one, and is no field then', (key) => {
    expect(timeOf({ [key]: 1_795_633_200, x: 1 })).toEqual([AT, { x: 1 }]);
  });
  it('t is one where it is plausible: a temperature is not', () => {
    expect(timeOf({ t: AT, x: 1 })).toEqual([AT, { x: 1 }]);
    expect(timeOf({ t: 1_795_633_200, x: 1 })).toEqual([AT, { x: 1 }]);
    expect(timeOf({ t: 21.5, x: 1 })).toEqual(['receipt', { t: 21.5, x: 1 }]);
  });
  it('a message that says nothing but its time says that', () => {
    for (const key of ['ts', 't', 'time_stamp'])
      expect(timeOf({ [key]: 1_795_633_200 })).toEqual([AT, { [key]: 1_795_633_200 }]);
  });
  it.each([
    ['Wed Nov 25 2026 20:00:00 GMT+0100 (Central European Standard Time)'],
    ['Wed Nov 25 2026 19:00:00 GMT+0000'],
    ['Wed Nov 25 19:00:00 UTC 2026'],
    ['Wed Nov 25 20:00:00 2026'],
    ['/Date(1795633200000)/'],
    ['20261125200000'],
    ['20261125190000Z'],
    [{ seconds: 1_795_633_200, nanos: 0 }],
    [{ $date: { $numberLong: '1795633200000' } }],
    [{ type: 'DateTime', value: AT }],
  ])('%j is one', (time) => {
    expect(timeOf({ time, x: 1 })).toEqual([AT, { x: 1 }]);
  });
  it('created_at, boots and what is no time stay fields', () => {
    expect(timeOf({ created_at: AT, date: '2026-11-25', time: '09:46:01 AM PDT' })).toEqual([
      'receipt',
      { created_at_text: AT, date_text: '2026-11-25', time_text: '09:46:01 AM PDT' },
    ]);
  });
  it('a key that says UTC needs no zone of the site', () => {
    const nowhere = new Mappings([]);
    expect(timeOf({ dateutc: '2026-11-25 19:00:00', x: 1 }, nowhere)).toEqual([AT, { x: 1 }]);
    expect(timeOf({ date: '2026-11-25 19:00:00' }, nowhere)[0]).toBe('receipt');
  });
  it('the same in a mapping that says nothing of time', () => {
    expect(timeOf({ _timestamp: 1_795_633_200, x: 1 }, mapped('mappings: [{topic: "#"}]'))).toEqual(
      [AT, { x: 1 }],
    );
    expect(
      timeOf({ data: { ts: 1_795_633_200, x: 1 } }, mapped('mappings: [{topic: "#"}]')),
    ).toEqual([AT, { data_x: 1 }]);
  });
});

describe('times as people write them', () => {
  it.each([
    '25/11/2026 20:00:00',
    '11/25/2026 8:00:00 PM',
    '25.11.2026 20:00',
    '25-11-2026T20:00:00',
    'Wed, 25 Nov 2026 19:00:00 GMT',
    '25-Nov-2026 20:00:00',
    'Wed Nov 25 20:00:00 2026',
    '2026-11-25 19:00:00.000 +0000 UTC',
    '2026-11-25T20:00:00+01:00[Europe/Berlin]',
  ])('%s', (time) => {
    expect(timeOf({ time, x: 1 })).toEqual([AT, { x: 1 }]);
  });
  it('day or month first, where both could be: what lies near receipt; else nobody knows', () => {
    const at = (time: string, receivedMs: number) =>
      decodeMessage('a', JSON.stringify({ time, x: 1 }), { mappings: BERLIN, receivedMs })[0]
        ?.timeMs;
    const may = Date.UTC(2026, 4, 6, 10);
    expect(at('06/05/2026 12:00:00', may)).toBe(may);
    expect(at('05/06/2026 12:00:00', may)).toBe(may);
    expect(at('06/05/2026 12:00:00', RECEIVED)).toBe(RECEIVED);
    expect(at('31/06/2026 12:00:00', RECEIVED)).toBe(RECEIVED);
    expect(at('13/13/2026 12:00:00', RECEIVED)).toBe(RECEIVED);
  });
  it('of a site without a zone they are none, unless they name one', () => {
    const nowhere = new Mappings([]);
    expect(timeOf({ time: '25/11/2026 20:00:00' }, nowhere)[0]).toBe('receipt');
    expect(timeOf({ time: '25/11/2026 20:00:00 +0100', x: 1 }, nowhere)[0]).toBe(AT);
  });
});

describe('envelopes', () => {
  it('what the sender has put around all of it has the time', () => {
    expect(timeOf({ state: { reported: { ts: 1_795_633_200_000, sp: 4 } } })).toEqual([
      AT,
      { state_reported_sp: 4 },
    ]);
    expect(timeOf({ id: 'a', data: { ts: AT, x: 1 } })).toEqual([AT, { id_text: 'a', data_x: 1 }]);
    expect(timeOf({ Position: { timestamp: AT, value: 3 } })).toEqual([AT, { Position_value: 3 }]);
    // Nanoseconds beyond 2^53 too.
    expect(timeOf('{"payload":{"time":1795633200000000123,"x":1}}')).toEqual([
      AT,
      { payload_x: 1 },
    ]);
  });
  it('its own comes first, and what happened to a part is none', () => {
    expect(timeOf({ data: { ts: 1_700_000_000, x: 1 }, ts: AT })).toEqual([
      AT,
      { data_ts: 1_700_000_000, data_x: 1 },
    ]);
    expect(timeOf({ x: 1, motion: { time: AT } })[0]).toBe('receipt');
  });
  it("MongoDB's dates are times", () => {
    expect(timeOf({ time: { $date: AT }, x: 1 })).toEqual([AT, { x: 1 }]);
  });
});

describe('lists of names and values', () => {
  it('each name is a series, at its own time or its message’s; a unit is known of the value', () => {
    expect(
      made({
        ts: AT,
        d: [
          { tag: 'T', value: 71.2, unit: '°C' },
          { tag: 'P', value: 2.4, unit: 'bar' },
        ],
      }),
    ).toEqual([
      { tags: { tag: 'T' }, fields: { d_value: 71.2 }, at: AT, units: { d_value: '°C' } },
      { tags: { tag: 'P' }, fields: { d_value: 2.4 }, at: AT, units: { d_value: 'bar' } },
    ]);
    expect(
      made([
        { id: 101, v: 4, ts: AT },
        { id: 102, v: 'run' },
      ]),
    ).toEqual([
      { tags: { id: '101' }, fields: { v: 4 }, at: AT, units: {} },
      { tags: { id: '102' }, fields: { v_text: 'run' }, at: 'receipt', units: {} },
    ]);
  });
  it('a list of one is no exception, and neither is an element without a value', () => {
    expect(made({ tags: [{ name: 'level', value: 1 }] })[0]?.tags).toEqual({ name: 'level' });
    expect(
      made({
        tags: [
          { name: 'a', value: 1 },
          { name: 'b', error: 7 },
        ],
      }).map(({ tags, fields }) => [tags, fields]),
    ).toEqual([
      [{ name: 'a' }, { tags_value: 1 }],
      [{ name: 'b' }, { tags_error: 7 }],
    ]);
  });
  it('a name that comes twice, or no value: one reading, as it was', () => {
    expect(
      made({
        s: [
          { type: 'x', value: 1 },
          { type: 'x', value: 2 },
        ],
      }),
    ).toHaveLength(1);
    expect(
      made({
        s: [
          { name: 'a', rssi: 1 },
          { name: 'b', rssi: 2 },
        ],
      }),
    ).toHaveLength(1);
    expect(made({ s: [1, { name: 'a', value: 1 }] })).toHaveLength(1);
  });
});

describe('text', () => {
  it('nothing but pairs is a query string, with a number among them', () => {
    expect(made('lat=52.5&lon=13.4&time=2026-11-25T19:00:00Z')).toMatchObject([
      { fields: { lat: 52.5, lon: 13.4 }, at: AT },
    ]);
    for (const text of ['user=ann&pass=secret', 'GET /x?a=1&b=2', 'a=1&b', 'a=1'])
      expect(made(text)).toMatchObject([{ fields: { value_text: text } }]);
  });
  it('names, and lines of numbers below them, are a table', () => {
    expect(
      made('time,temp,hum\n2026-11-25T19:00:00Z,21.5,45\n2026-11-25T19:00:01Z,21.6,44\n'),
    ).toMatchObject([
      { fields: { temp: 21.5, hum: 45 }, at: AT },
      { fields: { temp: 21.6, hum: 44 } },
    ]);
    expect(made('temp;hum\n21.5;45')).toMatchObject([{ fields: { temp: 21.5, hum: 45 } }]);
    for (const text of [
      'ERROR,disk\nWARN,cpu',
      'temp,hum\n21.5,45\n21.6,44',
      'a,a\n1,2',
      'one line, 2',
    ])
      expect(made(text)).toMatchObject([{ fields: { value_text: text } }]);
  });
  it('a line end behind it is wrapping', () => {
    expect(made('on\n')).toMatchObject([{ fields: { value_text: 'on' } }]);
    expect(made('00\n14\r\n')).toMatchObject([{ fields: { value_text: '00\n14' } }]);
  });
});

describe('mappings', () => {
  it('units and tags may come from the document', () => {
    expect(
      made(
        { v: 3, u: 'bar', labels: { site: 'leeds', floor: 2, none: null } },
        mapped(
          'mappings: [{topic: "#", fields: [v], units: {"*": {from: u}}, tags: {"*": {from: labels}}}]',
        ),
      ),
    ).toMatchObject([{ tags: { site: 'leeds', floor: '2' }, units: { v: 'bar' } }]);
    expect(() => mapped('mappings: [{topic: "#", tags: {"*": x}}]')).toThrow(
      /'\*'.*\{ from: PATH \}/,
    );
  });
  it('a key without a name is a place like others', () => {
    expect(made({ Time: AT, '': { Total: 1.5 } }, shipped(), 'tele/meter/SENSOR')).toMatchObject([
      { tags: { device: 'meter' }, fields: { Total: 1.5 } },
    ]);
  });
});

it("Siemens' databus: data points under the names of the connector's metadata", () => {
  const [state, topic] = [freshState(), 'ie/d/j/simatic/v1/s7c1/dp/r/PLC_1/default'];
  const send = (to: string, payload: unknown) =>
    decodeMessage(to, JSON.stringify(payload), {
      mappings: shipped(),
      state,
      receivedMs: RECEIVED,
    });
  const values = {
    seq: 1,
    vals: [
      { id: '101', val: false, ts: AT, qc: 3 },
      { id: '102', val: 4, ts: AT, qc: 0 },
    ],
  };
  expect(send(topic, values)).toMatchObject([
    { fields: { '101_bool': false, '102': 4, '102_quality': 0 } },
  ]);
  const points = [
    { name: 'Running', id: '101', dataType: 'Bool' },
    { name: 'Speed', id: '102', dataType: 'Int' },
  ];
  const connections = [
    {
      name: 'PLC_1',
      type: 'S7',
      dataPoints: [{ name: 'default', topic, dataPointDefinitions: points }],
    },
  ];
  expect(send('ie/m/j/simatic/v1/s7c1/dp', { seq: 1, connections })).toEqual([]);
  expect(send(topic, values)).toMatchObject([
    {
      measurement: 'simatic',
      tags: { connector: 's7c1', connection: 'PLC_1', collection: 'default' },
      fields: { Running_bool: false, Speed: 4, Speed_quality: 0 },
      timeMs: Date.parse(AT),
    },
  ]);
  expect(send('ie/d/j/simatic/v1/s7c1/dp/w/PLC_1/default', values)).toEqual([]);
});

describe('values with times of their own', () => {
  const LATER = '2026-11-25T19:00:04.000Z';
  const value = (v: number, time: string) => ({ value: v, time, quality: 192 });

  it('are a point for each time, at any depth', () => {
    expect(
      made({ id: 'x', params: { a: value(1, AT), b: value(2, AT), c: value(3, LATER) } }),
    ).toEqual([
      { tags: {}, fields: { id_text: 'x' }, at: 'receipt', units: {} },
      {
        tags: {},
        fields: {
          params_a_value: 1,
          params_a_quality: 192,
          params_b_value: 2,
          params_b_quality: 192,
        },
        at: AT,
        units: {},
      },
      { tags: {}, fields: { params_c_value: 3, params_c_quality: 192 }, at: LATER, units: {} },
    ]);
  });
  it('without a plausible time, or with more below them, are as they were', () => {
    const early = { value: 1, time: '2000-01-01T00:00:00Z' };
    expect(timeOf({ a: early, b: { value: { x: 1 }, time: AT }, c: 1 })).toEqual([
      'receipt',
      { a_value: 1, a_time_text: early.time, b_value_x: 1, b_time_text: AT, c: 1 },
    ]);
  });
  it('lists of them within an object, and rows that begin with their time', () => {
    const seconds = Date.parse(AT) / 1000;
    for (const list of [
      [
        { v: 4, t: seconds },
        { v: 5, t: seconds + 4 },
      ],
      [
        [seconds, 4],
        [seconds + 4, 5],
      ],
      [
        [AT, 4],
        [LATER, 5],
      ],
    ]) {
      const found = made({ id: 1, dp: { power: list } });
      expect(found.map(({ at }) => at)).toEqual(['receipt', AT, LATER]);
      expect(found.map(({ fields }) => Object.values(fields))).toEqual([[1], [4], [5]]);
    }
    expect(
      made([
        [21.5, 3],
        [22, 4],
      ]),
    ).toHaveLength(1);
  });
  it('names within a list of times are series, each at its time', () => {
    const list = (v: number) => [
      { id: 'a', value: v },
      { id: 'b', value: v + 1 },
    ];
    expect(
      made({
        data: [
          { recorded_at: AT, s: list(1) },
          { recorded_at: LATER, s: list(3) },
        ],
      }).map(({ tags, fields, at }) => [tags['id'], fields['data_s_value'], at]),
    ).toEqual([
      ['a', 1, AT],
      ['b', 2, AT],
      ['a', 3, LATER],
      ['b', 4, LATER],
    ]);
  });
  it('a list of several devices is a series for each', () => {
    const list = ['AC23', 'AC24'].map((mac, index) => ({
      timestamp: AT,
      mac,
      temperature: 20 + index,
    }));
    expect(made(list).map(({ tags, fields }) => [tags, fields])).toEqual([
      [{ mac: 'AC23' }, { temperature: 20 }],
      [{ mac: 'AC24' }, { temperature: 21 }],
    ]);
  });
});

describe('objects that are nearly JSON', () => {
  const told = (payload: string) => {
    const { readings, problems } = decodeAll('a/b', payload, {
      mappings: BERLIN,
      receivedMs: RECEIVED,
    });
    return [...readings.map(({ fields }) => fields), ...problems.map(({ reason }) => reason)];
  };
  it.each([
    ['{"t":,"h":45}', { h: 45 }, "'t' has no value"],
    [
      '{"t":--,"h":45,"l":[1,***]}',
      { h: 45, l_0: 1 },
      "'t': '--' is no JSON value",
      "'l': '***' is no JSON value",
    ],
    ['{"t":2026/05/01 09:44:20,"h":45}', { h: 45 }, "'t': '2026/05/01 09:44:20' is no JSON value"],
    [
      '{"1":{0.0,5.1,2026/05/01},"h":45}',
      { h: 45 },
      "'1': '{0.0,5.1,2026/05/01}' is no JSON value",
    ],
    ['{"t":007,"h":45}', { h: 45 }, "'t': '007' is no JSON value"],
    ['{"t":1,"t":2,"h":45,}', { h: 45 }, "an object has two members named 't'"],
    ['{"p":"C:\\path","h":45}', { h: 45 }, "'p': 'C:\\path' is no JSON value"],
    [
      "{'t': 21.5, 'ok': True, 'no': None, 'it': \"it's\"}",
      { t: 21.5, ok_bool: true, it_text: "it's" },
    ],
    ['{t:+1,h:.5,n:5.,w:nan,"s":"a\tb"}', { t: 1, h: 0.5, n: 5, s_text: 'a\tb' }],
    ['{"t":1,"n":12345678901234567890,}', { t: 1 }, /beyond 2\^53/],
  ])('%s keeps what can be read, and tells the rest', (payload, fields, ...reasons) => {
    expect(told(payload)).toEqual([
      fields,
      ...reasons.map((each) => (each instanceof RegExp ? expect.stringMatching(each) : each)),
    ]);
  });
  it.each([
    '{"t":21.5',
    '{"t":21.5}}',
    '{"t":1 "h":2}',
    '{"t":21,5,"h":40}',
    '{"t":bad}',
    '{oops}',
    "{'EHZ', 1.5, 2}",
    '{"t":1}{"t":2',
    '{"t":1}{t":2}',
    '{"t":1} {"t":2}}',
    '{"t":1} and more',
    '{'.repeat(50_000),
    `{"a":${'{1,'.repeat(5000)}`,
  ])('%.20s is none, and waits whole', (payload) => {
    expect(() => told(payload)).toThrow(/not JSON/);
  });
});
