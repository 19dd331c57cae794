/** Readings over HTTP on gateway and collector, and what a certificate does for a gateway whose clock is wrong. */
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { InfluxDB } from '@influxdata/influxdb-client';
import { connectAsync } from 'mqtt';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { decodeSparkplugPayload } from '../../collector/decode/codecs/sparkplug-payload.ts';
import { Authority } from '../support/certificates.ts';
import {
  headwater,
  startCollector,
  startGateway,
  temporaryFolder,
  until,
  type Headwater,
} from '../support/process.ts';
import { getJson, settled, type Points } from '../support/reconcile.ts';

let collector: Headwater;
let gateway: Headwater;
beforeAll(async () => {
  collector = await startCollector();
  gateway = await startGateway(collector.address['uplink']);
});
afterAll(async () => {
  expect(await gateway.kill()).toBe(0);
  expect(await collector.kill()).toBe(0);
});

const query = async (measurement: string): Promise<Points['series']> =>
  (
    await getJson<Points>(
      `http://${collector.address['http']}/api/v1/query?measurement=${measurement}`,
    )
  ).series;
const still = (): Promise<void> =>
  settled(gateway.address['http'] as string, collector.address['http'] as string);
const sides = (): [string, string][] => [
  ['gateway', `http://${gateway.address['http']}`],
  ['collector', `http://${collector.address['http']}`],
];

describe.each(['gateway', 'collector'])('on the %s', (side) => {
  const base = (): string => sides().find(([name]) => name === side)?.[1] as string;
  const post = async (
    path: string,
    body: string | Buffer,
    headers: Record<string, string> = {},
  ): Promise<Response> =>
    await fetch(`${base()}${path}`, {
      method: 'POST',
      body: typeof body === 'string' ? body : new Uint8Array(body),
      headers,
    });

  it('any codec by its content type; 204 after it is stored', async () => {
    const topic = (name: string): string => `/api/v1/ingest?topic=${side}/${name}`;
    expect(
      (await post(topic(`${side}_json`), '{"t":21.5}', { 'content-type': 'application/json' }))
        .status,
    ).toBe(204);
    expect(
      (
        await post(topic(`${side}_cbor`), Buffer.from('a1617401', 'hex'), {
          'content-type': 'application/cbor',
        })
      ).status,
    ).toBe(204);
    expect(
      (
        await post(topic(`${side}_msgpack`), Buffer.from('81a17402', 'hex'), {
          'content-type': 'application/msgpack',
        })
      ).status,
    ).toBe(204);
    expect(
      (
        await post(topic(`${side}_senml`), '[{"n":"a","u":"Cel","v":3}]', {
          'content-type': 'application/senml+json',
        })
      ).status,
    ).toBe(204);
    expect((await post(topic(`${side}_bare`), '4')).status).toBe(204);
    expect(
      (await post(topic(`${side}_gzip`), gzipSync('{"t":5}'), { 'content-encoding': 'gzip' }))
        .status,
    ).toBe(204);
    await still();
    for (const [name, field, value] of [
      ['json', 't', 21.5],
      ['cbor', 't', 1],
      ['msgpack', 't', 2],
      ['senml', 'value', 3],
      ['bare', 'value', 4],
      ['gzip', 't', 5],
    ] as const) {
      const [series] = await query(`${side}_${name}`);
      expect([series?.field, series?.points[0]?.[1]], name).toEqual([field, value]);
      expect(series?.tags['gateway'] === 'collector').toBe(side === 'collector');
    }
  });

  it("InfluxDB's own client writes to it, and line protocol in every precision arrives at its time", async () => {
    const write = new InfluxDB({ url: base(), token: 'none' }).getWriteApi(
      'org',
      `${side}_bucket`,
      's',
      { maxRetries: 0 },
    );
    write.writeRecord(`${side}_client,room=a t=1 1700000000`);
    await write.close();
    for (const [precision, time] of [
      ['s', '1700000001'],
      ['ms', '1700000002000'],
      ['u', '1700000003000000'],
      ['ns', '1700000004000000000'],
    ])
      expect(
        (await post(`/write?db=x&precision=${precision}`, `${side}_precision t=1 ${time}\n`))
          .status,
      ).toBe(204);
    expect((await post('/write?precision=h', 'm v=1')).status).toBe(400);
    expect((await fetch(`${base()}/ping`)).status).toBe(204);
    await still();
    expect((await query(`${side}_client`))[0]).toMatchObject({
      tags: { room: 'a', topic: `influxdb/${side}_bucket` },
      points: [[1_700_000_000_000, 1]],
    });
    expect((await query(`${side}_precision`))[0]?.points.map(([time]) => time)).toEqual(
      [1, 2, 3, 4].map((second) => 1_700_000_000_000 + second * 1000),
    );
  });

  it('a request under an Idempotency-Key counts once, also at the same time and after a restart of the process', async () => {
    const path = `/api/v1/ingest?topic=${side}/${side}_once`;
    const once = (body: string): Promise<Response> =>
      post(path, body, { 'idempotency-key': `"${side}-key-1"` });
    const answers = await Promise.all([once('{"n":1}'), once('{"n":1}'), once('{"n":1}')]);
    expect(answers.map(({ status }) => status)).toEqual([204, 204, 204]);
    expect(
      answers.filter(({ headers }) => headers.get('idempotency-replayed') === 'true'),
    ).toHaveLength(2);
    const other = await once('{"n":2}');
    expect([other.status, await other.text()]).toEqual([
      400,
      expect.stringMatching(/was used for another message/),
    ]);
    // Another process has not seen the key: the message is stored twice, and decoded once.
    if (side === 'gateway') {
      const data = temporaryFolder();
      for (let round = 0; round < 2; round++) {
        const flags = ['--id', 'second', '--data', data];
        const second = await startGateway(collector.address['uplink'], flags);
        const url = `http://${second.address['http']}/api/v1/ingest?topic=again/gateway_again`;
        const init = { method: 'POST', body: '{"n":7}', headers: { 'idempotency-key': 'twice' } };
        expect((await fetch(url, init)).status).toBe(204);
        await settled(second.address['http'] as string, collector.address['http'] as string);
        await second.kill();
      }
      expect((await query('gateway_again'))[0]?.points.map(([, value]) => value)).toEqual([7]);
    }
    await still();
    const values = (await query(`${side}_once`))[0]?.points.map(([, value]) => value);
    expect(values).toEqual([1]);
  });

  it('what is not right gets one clear sentence and a fitting code', async () => {
    const failures: [
      path: string,
      body: string | Buffer,
      headers: Record<string, string>,
      status: number,
      says: RegExp,
    ][] = [
      ['/api/v1/ingest', '1', {}, 400, /topic is missing/],
      ['/api/v1/ingest?topic=a/%23', '1', {}, 400, /wildcard/],
      ['/api/v1/ingest?topic=$SYS/x', '1', {}, 400, /broker's own/],
      ['/api/v1/ingest?topic=a%00b', '1', {}, 400, /NUL/],
      ['/api/v1/ingest?topic=a', Buffer.alloc(1024 * 1024 + 1), {}, 413, /more than 1048576 bytes/],
      [
        '/api/v1/ingest?topic=a',
        gzipSync(Buffer.alloc(50_000_000)),
        { 'content-encoding': 'gzip' },
        413,
        /unpacks to more/,
      ],
      ['/api/v1/ingest?topic=a', 'no gzip', { 'content-encoding': 'gzip' }, 400, /is not gzip/],
      ['/api/v1/ingest?topic=a', '1', { 'content-encoding': 'br' }, 400, /not understood/],
      [
        '/api/v1/ingest?topic=a',
        '1',
        { 'idempotency-key': 'x'.repeat(300) },
        400,
        /between 1 and 255/,
      ],
      ['/api/v1/ingest?topic=a', '1', { origin: 'http://evil.example' }, 403, /pages of/],
    ];
    for (const [path, body, headers, status, says] of failures) {
      const response = await post(path, body, headers);
      const { error } = (await response.json()) as { error: { code: string; message: string } };
      expect([response.status, error.message], path).toEqual([status, expect.stringMatching(says)]);
    }
  });
});

it('of lines of which some are bad the good are stored, the bad are in quarantine one by one, and the answer is 400 with them', async () => {
  for (const [path, key] of [
    ['/write?db=q1', 'error'],
    ['/api/v2/write?bucket=q2', 'message'],
  ] as const) {
    const body = 'partial v=1\npartial,a=1,a=2 v=2\npartial v=3 x\npartial v=4';
    const url = `http://${gateway.address['http']}${path}`;
    const response = await fetch(url, { method: 'POST', body });
    const answer = (await response.json()) as Record<string, string>;
    expect([response.status, answer[key]]).toEqual([
      400,
      "partial write: unable to parse 'partial,a=1,a=2 v=2': tag 'a' is there twice\nunable to parse 'partial v=3 x': 'x' is no time dropped=0",
    ]);
    expect(response.headers.get('x-influxdb-error')).toMatch(/^partial write: unable to parse/);
    await still();
    const topic = `influxdb/${path.slice(-2)}`;
    const { series } = await getJson<{ series: { points: [number, number][] }[] }>(
      `http://${collector.address['http']}/api/v1/query?measurement=partial&tag.topic=${topic}`,
    );
    expect(series.flatMap(({ points }) => points.map(([, value]) => value)).sort()).toEqual([1, 4]);
    const { items } = await getJson<{ items: { payload: string }[] }>(
      `http://${collector.address['http']}/api/v1/quarantine?topic=${topic}`,
    );
    expect(items.map(({ payload }) => payload).sort()).toEqual([
      'partial v=3 x',
      'partial,a=1,a=2 v=2',
    ]);
  }
});

it('a body without any line is stored all the same, in quarantine, and told; more lines than a message may have are refused', async () => {
  const write = (body: string): Promise<Response> =>
    fetch(`http://${gateway.address['http']}/write?db=q`, { method: 'POST', body });
  expect((await write('not line protocol at all')).status).toBe(400);
  expect((await write('m v=1\n'.repeat(20_001))).status).toBe(413);
  await still();
  const { items } = await getJson<{ items: { topic: string; payload: string }[] }>(
    `http://${collector.address['http']}/api/v1/quarantine?topic=influxdb/q`,
  );
  expect(items).toMatchObject([{ topic: 'influxdb/q', payload: 'not line protocol at all' }]);
});

it('a message by HTTP reaches those who listen on the gateway by MQTT', async () => {
  const client = await connectAsync(`mqtt://127.0.0.1:${gateway.port('mqtt')}`);
  const heard: string[] = [];
  client.on('message', (_topic, payload) => heard.push(payload.toString()));
  await client.subscribeAsync('http/+');
  await fetch(`http://${gateway.address['http']}/api/v1/ingest?topic=http/x`, {
    method: 'POST',
    body: '42',
  });
  await until('the message', () => heard.length === 1 || undefined);
  await client.endAsync();
});

it('Sparkplug: a node whose BIRTH never came is asked for it, through its gateway', async () => {
  const client = await connectAsync(`mqtt://127.0.0.1:${gateway.port('mqtt')}`, {
    clientId: 'edge-node',
  });
  const asked: Buffer[] = [];
  client.on('message', (_topic, payload) => asked.push(payload));
  await client.subscribeAsync('spBv1.0/G/NCMD/E');
  // Metric by alias 9, value 5: nobody knows its name.
  const data = Buffer.from(`08${varint(Date.now())}12061009200850051801`, 'hex');
  await client.publishAsync('spBv1.0/G/NDATA/E', data, { qos: 1 });
  await until('the request for a rebirth', () => asked.length > 0 || undefined);
  expect(decodeSparkplugPayload(asked[0] as Buffer).metrics).toMatchObject([
    { name: 'Node Control/Rebirth', values: [['', true]] },
  ]);
  await client.endAsync();
});

function varint(value: number): string {
  const bytes: number[] = [];
  for (let rest = BigInt(value); ; rest >>= 7n) {
    bytes.push(Number(rest & 0x7fn) | (rest > 0x7fn ? 0x80 : 0));
    if (rest <= 0x7fn) return Buffer.from(bytes).toString('hex');
  }
}

describe('a gateway that boots in 1970', () => {
  const folder = temporaryFolder();
  const authority = new Authority(join(folder, 'ca'));
  const faked = (clock: string): Record<string, string> => ({
    LD_PRELOAD: '/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1',
    FAKETIME: clock,
    FAKETIME_DONT_FAKE_MONOTONIC: '1',
    HEADWATER_UPLINK_RECONNECT_MS_MAX: '300',
  });
  const start = async (
    certificate: { cert: string; key: string },
    ca: string,
  ): Promise<{ far: Headwater; edge: Headwater }> => {
    const far = await startCollector([
      '--uplinks',
      '127.0.0.1:0',
      '--tls-cert',
      certificate.cert,
      '--tls-key',
      certificate.key,
      '--tls-client-ca',
      authority.cert,
    ]);
    const own = authority.issue({ name: 'board' });
    const edge = await headwater(
      [
        'gateway',
        '--data',
        temporaryFolder(),
        '--id',
        'board',
        '--mqtt',
        '127.0.0.1:0',
        '--http',
        '127.0.0.1:0',
        '--collector',
        `mqtts://${far.address['uplinks']}`,
        ...(ca === '' ? [] : ['--uplink-ca', ca]),
        '--uplink-cert',
        own.cert,
        '--uplink-key',
        own.key,
      ],
      faked('@1970-01-01 00:00:10'),
    );
    return { far, edge };
  };
  const why = async (edge: Headwater): Promise<string> =>
    (await getJson<{ why: string }>(`http://${edge.address['http']}/api/v1/buffer`)).why;

  it('accepts the pinned authority whatever the dates, learns the time over the link, and its readings are right', async () => {
    const { far, edge } = await start(
      authority.issue({ name: 'collector', hosts: ['127.0.0.1'] }),
      authority.cert,
    );
    const client = await connectAsync(`mqtt://127.0.0.1:${edge.port('mqtt')}`);
    await client.publishAsync('hall/board', '{"v":1}', { qos: 1 });
    await client.endAsync();
    const point = await until(
      'the reading',
      async () =>
        (
          await getJson<Points>(
            `http://${far.address['http']}/api/v1/query?measurement=board&field=v`,
          )
        ).series[0]?.points[0],
    );
    expect(Math.abs(point[0] - Date.now())).toBeLessThan(20_000);
    expect(await edge.kill()).toBe(0);
    expect(await far.kill()).toBe(0);
  });

  it.each<
    [
      name: string,
      make: () => { certificate: { cert: string; key: string }; ca: string; says: RegExp },
    ]
  >([
    [
      'another authority',
      () => ({
        certificate: new Authority(join(folder, 'other')).issue({
          name: 'collector',
          hosts: ['127.0.0.1'],
        }),
        ca: authority.cert,
        says: /not accepted/,
      }),
    ],
    [
      'another name',
      () => ({
        certificate: authority.issue({ name: 'collector', hosts: ['10.0.0.1'] }),
        ca: authority.cert,
        says: /not in the cert/,
      }),
    ],
    [
      'a certificate that had expired before this software was built',
      () => ({
        certificate: authority.issue({
          name: 'collector',
          hosts: ['127.0.0.1'],
          from: '20200101000000Z',
          to: '20240101000000Z',
        }),
        ca: authority.cert,
        says: /had expired before this software was built/,
      }),
    ],
    [
      'the certificate of a device, which is not for servers',
      () => ({
        certificate: authority.issue({
          name: 'collector',
          hosts: ['127.0.0.1'],
          use: 'clientAuth',
        }),
        ca: authority.cert,
        says: /not for servers/,
      }),
    ],
    [
      'everything while no authority is pinned',
      () => ({
        certificate: authority.issue({ name: 'collector', hosts: ['127.0.0.1'] }),
        ca: '',
        says: /not accepted/,
      }),
    ],
  ])('still refuses %s', async (_name, make) => {
    const { certificate, ca, says } = make();
    const { far, edge } = await start(certificate, ca);
    await until('the refusal', async () => says.test(await why(edge)) || undefined);
    expect(await edge.kill()).toBe(0);
    expect(await far.kill()).toBe(0);
  });

  it('once it knows the time it holds certificates against that, not against its own clock', async () => {
    // Valid when seen from 1970 as from any time, but over since last year.
    const files = authority.issue({
      name: 'collector',
      hosts: ['127.0.0.1'],
      from: '20200101000000Z',
      to: '20260301000000Z',
    });
    const { far, edge } = await start(files, authority.cert);
    // Accepted while nobody knows the time: that is the way to learn it.
    await until('connected once', () => /connected to mqtts/.test(edge.output()) || undefined);
    const client = await connectAsync(`mqtt://127.0.0.1:${edge.port('mqtt')}`);
    await client.publishAsync('hall/late', '{"v":1}', { qos: 1 });
    await client.endAsync();
    await until(
      'the time to be known',
      async () =>
        (await getJson<Points>(`http://${far.address['http']}/api/v1/query?measurement=late`))
          .series.length > 0 || undefined,
    );
    await far.kill('SIGKILL');
    const args = [
      '--uplinks',
      far.address['uplinks'] as string,
      '--tls-cert',
      files.cert,
      '--tls-key',
      files.key,
      '--tls-client-ca',
      authority.cert,
    ];
    const again = await startCollector(args);
    await until('the refusal', async () => /has expired/.test(await why(edge)) || undefined);
    expect(await edge.kill()).toBe(0);
    expect(await again.kill()).toBe(0);
  });
});
