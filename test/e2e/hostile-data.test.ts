/** Hostile payloads, names, times and frames, through gateway, collector and a real InfluxDB. Numbers are those of docs/threats.md. */
import { execFileSync } from 'node:child_process';
import { deflateRawSync } from 'node:zlib';
import { connectAsync, type MqttClient } from 'mqtt';
import { chromium } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { crc32c } from '../../shared/frame/crc32c.ts';
import { FrameBuilder } from '../../shared/frame/builder.ts';
import { encodeUp, upTopic } from '../../shared/wire/wire.ts';
import { startInflux1, type Influx } from '../services/servers.ts';
import { MIB, connectPacket, rssBytes } from '../support/hostile.ts';
import {
  ROOT,
  crowding,
  startCollector,
  startGateway,
  until,
  type Headwater,
} from '../support/process.ts';
import { rawClient } from '../support/raw-mqtt.ts';
import { getJson, settled, type Points } from '../support/reconcile.ts';

let influx: Influx;
let collector: Headwater;
let gateway: Headwater;
let client: MqttClient;
let http: string;
beforeAll(async () => {
  influx = await startInflux1();
  collector = await startCollector(['--store', influx.store], {
    HEADWATER_DECODE_SERIES_PER_CLIENT_MAX: '200',
  });
  gateway = await startGateway(collector.address['uplink'], ['--id', 'gw']);
  http = `http://${collector.address['http']}`;
  client = await connectAsync(`mqtt://127.0.0.1:${gateway.port('mqtt')}`, { clientId: 'device' });
});
afterAll(async () => {
  await client.endAsync();
  expect(await gateway.kill()).toBe(0);
  expect(await collector.kill()).toBe(0);
  await influx.stop();
});

const publish = async (topic: string, ...payloads: (string | Buffer)[]): Promise<void> => {
  for (const payload of payloads) await client.publishAsync(topic, payload, { qos: 1 });
};
const still = (): Promise<void> =>
  settled(gateway.address['http'] as string, collector.address['http'] as string);
const query = async (parameters: Record<string, string>): Promise<Points['series']> =>
  (await getJson<Points>(`${http}/api/v1/query?${new URLSearchParams(parameters).toString()}`))
    .series;
const quarantined = async (topic: string): Promise<string[]> =>
  (
    await getJson<{ items: { reason: string }[] }>(
      `${http}/api/v1/quarantine?limit=1000&topic=${encodeURIComponent(topic)}`,
    )
  ).items.map(({ reason }) => reason);

describe('payloads', () => {
  it('S28: hostile JSON is stored exactly or in quarantine, and pollutes nothing', async () => {
    const before = rssBytes(collector.pid);
    await publish(
      's28',
      '{"__proto__":{"polluted":1},"a":1}',
      '{"constructor":{"prototype":{"polluted":2}},"b":2}',
      '{"x":1,"x":2}',
      `${'['.repeat(100_000)}${']'.repeat(100_000)}`,
      '{"big":1e999}',
      '{"nan":NaN}',
      '{"zero":-0}',
      '{"i":9007199254740993}',
      JSON.stringify({ s: 'y'.repeat(200_000) }),
    );
    await still();
    const fields = (await query({ measurement: 's28' })).map(({ field, points }) => [
      field,
      points[0]?.[1],
    ]);
    expect(Object.fromEntries(fields)).toEqual({
      ['__proto___polluted']: 1,
      a: 1,
      constructor_prototype_polluted: 2,
      b: 2,
      zero: 0,
      s_text: 'y'.repeat(200_000),
    });
    const reasons = await until('the five', async () => {
      const all = await quarantined('s28');
      return all.length >= 5 ? all : undefined;
    });
    expect(
      reasons.map((reason) => reason.replaceAll(/[^a-zA-Z ]/g, '').slice(0, 24)).sort(),
    ).toEqual(
      [
        'an object has two member',
        'big is not a finite numb',
        'nan is not a finite numb',
        'nested more than  levels',
        'number  i is beyond  and',
      ].sort(),
    );
    expect(({} as { polluted?: unknown }).polluted).toBeUndefined();
    expect(rssBytes(collector.pid) - before).toBeLessThan(64 * MIB);
  });

  it('S29: names that mean something in line protocol are one point with that literal value, or quarantine', async () => {
    const values = [
      'a,b=c',
      'a b',
      'a=b',
      'quote"d',
      "it's",
      'tab\there',
      'ünï',
      'back\\slash',
      'x\ninjected,gateway=gw value=1',
      'ends\\',
      'a\r',
    ];
    // The tag comes from the topic, as device names do.
    for (const value of values) await publish(`s29/${value}/temp`, '{"v":1}');
    await still();
    const found = (await query({ measurement: 'temp' })).filter(
      ({ tags }) => tags['topic']?.startsWith('s29/') ?? false,
    );
    const kept = found.map(({ tags, points }) => [tags['topic'], points.length]);
    const refused = (
      await getJson<{ items: { reason: string; payload: string }[] }>(
        `${http}/api/v1/quarantine?limit=1000`,
      )
    ).items // One record for all that are refused together for one cause: its reason says how many.
      .filter(({ reason }) => /line protocol cannot write/.test(reason))
      .reduce((sum, { reason }) => sum + Number(/\((\d+) readings\)/.exec(reason)?.[1] ?? 1), 0);
    expect(kept.length + refused).toBe(values.length);
    for (const [topic, count] of kept) {
      expect(values.map((value) => `s29/${value}/temp`)).toContain(topic);
      expect(count).toBe(1);
    }
    expect(refused).toBe(2);
    expect(await query({ measurement: 'injected' })).toEqual([]);
  });

  it('S30: a device with a million tag values is stopped at its cap; others are not', async () => {
    for (let index = 0; index < 400; index++)
      client.publish(`s30/${index}/cpu`, '{"v":1}', { qos: 1 });
    await publish('s30/last/cpu', '{"v":1}');
    const good = await connectAsync(`mqtt://127.0.0.1:${gateway.port('mqtt')}`, {
      clientId: 'good',
    });
    await good.publishAsync('s30/good', '{"v":1}', { qos: 1 });
    await good.endAsync();
    await still();
    const series = (await query({ measurement: 'cpu' })).length;
    expect(series).toBeLessThan(200);
    const reasons = await quarantined('s30/+/cpu');
    expect(reasons.length).toBe(401 - series);
    expect(reasons[0]).toMatch(/decode\.seriesPerClientMax/);
    expect(await query({ measurement: 'good' })).toHaveLength(1);
  });

  it('S35: device times of 0, 1970, 2106 and a year ahead stay fields and do not move the reading; a year ago does', async () => {
    const now = Date.now();
    const good = await connectAsync(`mqtt://127.0.0.1:${gateway.port('mqtt')}`, {
      clientId: 's35',
    });
    for (const time of [0, 1, 86_400, 4_294_967_295, now + 365 * 86_400_000])
      await good.publishAsync('s35/wrong', JSON.stringify({ v: 1, time }), { qos: 1 });
    await good.publishAsync('s35/past', JSON.stringify({ v: 1, time: now - 365 * 86_400_000 }), {
      qos: 1,
    });
    await good.endAsync();
    await still();
    const wrong = (await query({ measurement: 'wrong', field: 'v' }))[0]?.points ?? [];
    expect(wrong).toHaveLength(5);
    for (const [time] of wrong) expect(Math.abs(time - now)).toBeLessThan(60_000);
    expect((await query({ measurement: 'wrong', field: 'time_value' }))[0]?.points).toHaveLength(5);
    const [past] = (await query({ measurement: 'past', field: 'v' }))[0]?.points ?? [];
    expect(Math.abs((past?.[0] ?? 0) - (now - 365 * 86_400_000))).toBeLessThan(1000);
  });

  it('S37: a range of ten years in buckets of a millisecond, and a regular expression, cost what they return', async () => {
    const began = performance.now();
    await query({
      measurement: 's28',
      field: 'a',
      from: '2016-01-01',
      to: '2027-01-01',
      every: '1ms',
      fn: 'mean',
    });
    expect(await query({ measurement: '(a+)+$', 'tag.topic': '/(a+)+$/' })).toEqual([]);
    expect(performance.now() - began).toBeLessThan(10_000 * crowding());
    const bad = await fetch(`${http}/api/v1/query?every=0ms`);
    expect(bad.status).toBe(400);
  });
});

describe('what people see', () => {
  it('S38: markup in names and values is text on the page, and nobody has a default password', async () => {
    const evil = '<img src=x onerror="window.pwned=1">';
    const good = await connectAsync(`mqtt://127.0.0.1:${gateway.port('mqtt')}`, {
      clientId: 's38',
    });
    await good.publishAsync(
      `s38/${evil}/<script>window.pwned=1<\u2044script>`,
      JSON.stringify({ [evil]: 5, s: `javascript:window.pwned=1${evil}` }),
      { qos: 1 },
    );
    await good.publishAsync(`s38/${evil}`, `{"bad ${evil}`, { qos: 1 });
    await good.endAsync();
    await still();
    const browser = await chromium.launch({
      executablePath: '/usr/bin/chromium',
      args: [
        '--headless',
        '--no-sandbox',
        '--disable-gpu',
        '--disable-background-networking',
        '--disable-component-update',
        '--disable-sync',
        '--no-first-run',
      ],
    });
    try {
      const page = await browser.newPage();
      for (const base of [http, `http://${gateway.address['http']}`]) {
        await page.goto(`${base}/`);
        // Not by `waitForFunction`: the page's policy lets no string be run as code more than once.
        await until(`${base} to show it`, async () =>
          (await page.textContent('body'))?.includes(evil),
        );
        await page.waitForTimeout(500);
        expect(await page.evaluate('window.pwned')).toBeUndefined();
      }
    } finally {
      await browser.close();
    }
    const compose = execFileSync('cat', ['compose.yaml'], { cwd: ROOT, encoding: 'utf8' });
    expect(compose).toMatch(/GF_AUTH_ANONYMOUS_ENABLED: "?false/);
    expect(compose).not.toMatch(/GF_SECURITY_ADMIN_PASSWORD: /);
  });

  it('S39: what a device sends stays within one line of the log, without escapes and secrets', async () => {
    const { port } = { port: gateway.port('mqtt') };
    const evil = 'a\r\n2026-01-01T00:00:00Z error forged\u001b[31mred';
    const raw = await rawClient(port);
    raw.send(connectPacket({ id: 'x\u001b[2J', user: evil, password: 'hunter2secret' }));
    await raw.closed();
    await publish(`s39/${evil.replaceAll('\r\n', ' ')}`, `{"${evil}`);
    await still();
    const lying = await rawClient(collector.port('uplink'));
    lying.send(connectPacket({ id: `gateway-${evil}`, user: evil, password: 'hunter2secret' }));
    await lying.closed();
    for (const { output } of [gateway, collector]) {
      expect(output()).not.toMatch(/^2026-01-01T00:00:00Z error forged/m);
      expect(output()).not.toContain('\u001b');
      expect(output()).not.toContain('hunter2');
    }
    const { output } = {
      output: execFileSync(
        process.execPath,
        ['cli/bin.mjs', 'quarantine', '--http', collector.address['http'] as string],
        { cwd: ROOT, encoding: 'utf8' },
      ),
    };
    expect(output).not.toContain('\u001b');
  });
});

describe('the uplink', () => {
  const identity = {
    gateway: 'evil',
    epoch: Buffer.from('0102030405060708', 'hex'),
    bootId: Buffer.alloc(8),
  };
  const frame = (gateway = 'evil', payload = '{"v":1}', sequence = 1): Buffer => {
    const builder = new FrameBuilder();
    builder.add(
      {
        client: 'c',
        topic: 'hall/evil',
        qos: 1,
        retain: false,
        dup: false,
        payload: Buffer.from(payload),
      },
      Date.now() * 1000,
      1,
    );
    return builder.finish({ ...identity, gateway }, sequence, 2, false);
  };
  /** With its checksum made right again. */
  const sealed = (bytes: Buffer): Buffer => {
    bytes.writeUInt32LE(crc32c(bytes, 12, bytes.length, crc32c(bytes, 0, 8)), 8);
    return bytes;
  };
  const offer = async (
    payload: Buffer,
    id = 'evil',
    topic = upTopic(id),
  ): Promise<{ refused: boolean; said: string }> => {
    const uplink = await connectAsync(`mqtt://127.0.0.1:${collector.port('uplink')}`, {
      clientId: `gateway-${id}`,
      protocolVersion: 4,
      reconnectPeriod: 0,
    });
    let said = '';
    let closed = false;
    uplink.on('message', (_topic, message) => {
      said += message.toString();
    });
    uplink.on('close', () => {
      closed = true;
    });
    uplink.on('error', () => undefined);
    await uplink.subscribeAsync(`headwater/1/down/${id}`);
    uplink.publish(topic, payload, { qos: 0 });
    await until('an answer', () => (closed || said.includes('acks') ? true : undefined), 10_000);
    const refused = !said.includes('acks');
    uplink.end(true);
    return { refused, said };
  };

  it('S31: a gateway id that is a path, too long or a partition is refused', async () => {
    for (const id of [
      '..',
      '/etc',
      'a%2f..',
      'a'.repeat(300),
      'year=2026',
      '',
      '.hidden',
      'a/b',
      'a+b',
    ]) {
      const raw = await rawClient(collector.port('uplink'));
      raw.send(connectPacket({ id: `gateway-${id}` }));
      await raw.closed();
      expect(raw.received()[3] ?? 255, id).not.toBe(0);
    }
    expect(JSON.stringify(await getJson(`${http}/api/v1/gateways`))).not.toMatch(/etc|year=|%2f/);
    await expect(startGateway(undefined, ['--id', '../x'])).rejects.toThrow(
      /cannot be a gateway's id/,
    );
    await expect(startCollector([], { HEADWATER_INGEST_HTTP_GATEWAY: '../x' })).rejects.toThrow(
      /cannot be a gateway's id/,
    );
  });

  it('S32: a frame that unpacks to more than it may is cut at its cap', async () => {
    const before = rssBytes(collector.pid);
    const bomb = (declared: number, real: number): Buffer => {
      const plain = frame();
      const body = deflateRawSync(Buffer.alloc(real), { level: 9 });
      const head = Buffer.from(plain.subarray(0, 64 + 4));
      const whole = Buffer.concat([head, body]);
      whole[6] = 1;
      whole.writeUInt32LE(whole.length, 12);
      whole.writeUInt32LE(declared, 44);
      return sealed(whole);
    };
    expect((await offer(encodeUp(0, [bomb(4_000_000_000, 100 * MIB)]))).refused).toBe(true);
    // Within the declared bounds it is taken as a frame; what it holds is not what it says, and goes to quarantine.
    await offer(encodeUp(0, [bomb(1 * MIB, 900 * MIB)]));
    await until('the bomb in quarantine', async () =>
      (
        await getJson<{ items: { reason: string }[] }>(`${http}/api/v1/quarantine?limit=1000`)
      ).items.some(({ reason }) => /does not decompress|body has/.test(reason))
        ? true
        : undefined,
    );
    expect(rssBytes(collector.pid) - before).toBeLessThan(64 * MIB);
  });

  it('S33: counts, lengths, checksums and versions that are not right: the whole message is refused', async () => {
    const edit = (change: (bytes: Buffer) => void, seal = true): Buffer => {
      const bytes = Buffer.from(frame());
      change(bytes);
      return seal ? sealed(bytes) : bytes;
    };
    const cases: Record<string, Buffer> = {
      'count 2^32-1': edit((bytes) => bytes.writeUInt32LE(0xffffffff, 40)),
      'length beyond the end': edit((bytes) => bytes.writeUInt32LE(bytes.length + 1, 12)),
      'length 0': edit((bytes) => bytes.writeUInt32LE(0, 12)),
      'body length 2^32-1': edit((bytes) => bytes.writeUInt32LE(0xffffffff, 44)),
      truncated: frame().subarray(0, 70),
      'wrong checksum': edit((bytes) => bytes.writeUInt8((bytes[20] as number) ^ 1, 20), false),
      'unknown version': edit((bytes) => bytes.writeUInt8(9, 4)),
      'sequence beyond 2^53': edit((bytes) => bytes.writeBigUInt64LE(2n ** 60n, 32)),
      'no frame at all': Buffer.from('hello'),
    };
    for (const [name, bytes] of Object.entries(cases)) {
      expect((await offer(encodeUp(0, [bytes]))).refused, name).toBe(true);
      // A good frame beside it is not taken either.
      expect(
        (await offer(encodeUp(0, [frame('evil', '{"beside":1}', 900), bytes]))).refused,
        name,
      ).toBe(true);
    }
    expect((await offer(Buffer.from([7, 0, 1, 2]))).refused).toBe(true);
    await still();
    expect(await query({ measurement: 'evil', field: 'beside' })).toEqual([]);
  });

  it('S34: no gateway speaks as another; an old batch counts once, and the same sequence with another content changes nothing', async () => {
    expect((await offer(encodeUp(0, [frame('gw')]))).refused).toBe(true);
    expect((await offer(encodeUp(0, [frame()]), 'evil', upTopic('gw'))).refused).toBe(true);
    for (let index = 0; index < 3; index++)
      expect((await offer(encodeUp(0, [frame('evil', '{"v":1}', 50)]))).refused).toBe(false);
    expect((await offer(encodeUp(0, [frame('evil', '{"v":2}', 50)]))).refused).toBe(false);
    expect((await offer(encodeUp(0, [frame('evil', '{"v":3}', 10)]))).refused).toBe(false);
    await still();
    const points =
      (await query({ measurement: 'evil', field: 'v' }))[0]?.points.map(([, value]) => value) ?? [];
    expect(points.toSorted()).toEqual([1, 3]);
    const metrics = await (await fetch(`${http}/metrics`)).text();
    expect(
      Number(/^headwater_decode_duplicates_total (\d+)/m.exec(metrics)?.[1]),
    ).toBeGreaterThanOrEqual(3);
  });

  it("nobody may use the collector's own name", async () => {
    const raw = await rawClient(collector.port('uplink'));
    raw.send(connectPacket({ id: 'gateway-collector' }));
    await raw.closed();
    expect(raw.received()[3]).not.toBe(0);
  });
});
