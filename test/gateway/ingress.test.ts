import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { connect, connectAsync } from 'mqtt';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { GATEWAY_CONFIG, type GatewayConfig } from '../../gateway/config.ts';
import { Gateway } from '../../gateway/gateway.ts';
import { passwordLine } from '../../shared/config/secrets.ts';
import { loadConfig } from '../../shared/config/spec.ts';
import { realEnv } from '../../shared/env/env.ts';
import { checkFrame, readRecords, type FrameRecord } from '../../shared/frame/frame.ts';
import { encodeConnect, encodePublish } from '../support/load.ts';
import { temporaryFolder, until } from '../support/process.ts';
import { connectWith, connected, rawClient } from '../support/raw-mqtt.ts';

interface Running {
  gateway: Gateway;
  port: number;
  http: string;
  stored(): Promise<FrameRecord[]>;
}

async function startGateway(
  folder: string,
  flags: Record<string, string> = {},
  environment: Record<string, string> = {},
): Promise<Running> {
  const config: GatewayConfig = loadConfig(GATEWAY_CONFIG, {
    flags: { data: folder, id: 'gw', mqtt: '127.0.0.1:0', 'gateway-http': '127.0.0.1:0', ...flags },
    environment,
  });
  const gateway = new Gateway(realEnv(), config, () => undefined);
  const { mqtt, http } = await gateway.start();
  return {
    gateway,
    port: mqtt?.port ?? 0,
    http: `http://127.0.0.1:${http?.port}`,
    stored: async () => {
      const frames = (await gateway.store?.read(undefined, Number.POSITIVE_INFINITY)) ?? [];
      return frames.flatMap(({ frame }) => readRecords(frame, checkFrame(frame)));
    },
  };
}

describe('MQTT for devices', () => {
  const folder = temporaryFolder();
  let running: Running;
  beforeAll(async () => {
    running = await startGateway(folder);
  });
  afterAll(async () => await running.gateway.close());
  const storedOn = async (topic: string): Promise<string[]> =>
    (await running.stored())
      .filter((record) => record.topic === topic)
      .map(({ payload }) => payload.toString());

  /** A well-behaved client gets its PUBACK: the process lives and serves. */
  async function alive(): Promise<void> {
    const client = await connected(running.port, `alive-${Math.random()}`);
    client.send(encodePublish('alive', 'x', 1, 7));
    expect((await client.bytes(8)).subarray(4)).toEqual(Buffer.from([0x40, 2, 0, 7]));
    client.socket.destroy();
  }

  it('PUBACKs come in the order of their packets [MQTT-4.6.0-2], after the message is stored', async () => {
    const client = await connected(running.port, 'order');
    client.send(
      Buffer.concat(
        Array.from({ length: 300 }, (_, i) =>
          encodePublish('order', `m${i}`, i % 3 === 2 ? 2 : 1, i + 1),
        ),
      ),
    );
    const acks = (await client.bytes(4 + 300 * 4)).subarray(4);
    const ids = Array.from({ length: 300 }, (_, i) => acks.readUInt16BE(i * 4 + 2));
    expect(ids).toEqual(Array.from({ length: 300 }, (_, i) => i + 1));
    expect(await storedOn('order')).toEqual(Array.from({ length: 300 }, (_, i) => `m${i}`));
    client.socket.destroy();
  });

  it('QoS 0 is stored too, also when the client leaves at once', async () => {
    const client = await rawClient(running.port);
    client.send(
      Buffer.concat([
        encodeConnect('quick'),
        encodePublish('qos0', 'gone', 0, 0),
        Buffer.from([0xe0, 0]),
      ]),
    );
    await until('the message', async () => (await storedOn('qos0')).length === 1 || undefined);
  });

  it('a QoS 2 message that is repeated before its PUBREL is one message [MQTT-4.3.3-2]', async () => {
    const client = await connected(running.port, 'twice');
    const publish = encodePublish('qos2', 'one', 2, 5);
    client.send(Buffer.concat([publish, encodePublish('qos2', 'one', 2, 5, 8)]));
    expect((await client.bytes(12)).subarray(4)).toEqual(
      Buffer.from([0x50, 2, 0, 5, 0x50, 2, 0, 5]),
    );
    client.send([0x62, 2, 0, 5]);
    expect((await client.bytes(16)).subarray(12)).toEqual(Buffer.from([0x70, 2, 0, 5]));
    client.send(publish);
    await client.bytes(20);
    expect(await storedOn('qos2')).toEqual(['one', 'one']);
    client.socket.destroy();
  });

  it("S22: a clean session's QoS 2 id is free again after a reconnect", async () => {
    const first = await connected(running.port, 'clean-qos2');
    first.send(encodePublish('s22', 'a', 2, 7));
    await first.bytes(8);
    first.socket.destroy();
    const second = await connected(running.port, 'clean-qos2');
    second.send(encodePublish('s22', 'b', 2, 7));
    await second.bytes(8);
    expect(await storedOn('s22')).toEqual(['a', 'b']);
    second.socket.destroy();
  });

  it("a persistent session's QoS 2 id is remembered through a restart", async () => {
    const client = await connected(running.port, 'durable-qos2', connectWith('durable-qos2', 0));
    client.send(encodePublish('qos2-restart', 'once', 2, 9));
    await client.bytes(8);
    await running.gateway.close();
    running = await startGateway(folder);
    const again = await connected(running.port, 'durable-qos2', connectWith('durable-qos2', 0));
    again.send(encodePublish('qos2-restart', 'once', 2, 9, 8));
    expect((await again.bytes(8)).subarray(4)).toEqual(Buffer.from([0x50, 2, 0, 9]));
    expect(await storedOn('qos2-restart')).toEqual(['once']);
    again.socket.destroy();
  });

  it('local subscribers get messages, and retained ones after a restart', async () => {
    const subscriber = await connectAsync(`mqtt://127.0.0.1:${running.port}`, {
      clientId: 'sub',
      reconnectPeriod: 0,
    });
    const heard: string[] = [];
    subscriber.on('message', (topic, payload, { retain }) =>
      heard.push(`${topic} ${payload.toString()} ${retain}`),
    );
    await subscriber.subscribeAsync(['state/#', 'cmd/+/set'], { qos: 1 });
    const publisher = await connectAsync(`mqtt://127.0.0.1:${running.port}`, {
      clientId: 'pub',
      reconnectPeriod: 0,
    });
    await publisher.publishAsync('state/door', 'open', { qos: 1, retain: true });
    await publisher.publishAsync('cmd/x/set', '1', { qos: 0 });
    await publisher.publishAsync('cmd/x/get', '1', { qos: 1 });
    await until('two messages', () => heard.length === 2 || undefined);
    expect(heard.sort()).toEqual(['cmd/x/set 1 false', 'state/door open false']);
    await publisher.publishAsync('state/gone', 'x', { qos: 1, retain: true });
    await publisher.publishAsync('state/gone', '', { qos: 1, retain: true });
    await Promise.all([subscriber.endAsync(true), publisher.endAsync(true)]);
    await running.gateway.close();
    running = await startGateway(folder);
    const later = await connectAsync(`mqtt://127.0.0.1:${running.port}`, {
      clientId: 'later',
      reconnectPeriod: 0,
    });
    const kept: string[] = [];
    later.on('message', (topic, payload, { retain }) =>
      kept.push(`${topic} ${payload.toString()} ${retain}`),
    );
    await later.subscribeAsync('state/#');
    await until('the retained message', () => kept.length > 0 || undefined);
    expect(kept).toEqual(['state/door open true']);
    await later.endAsync(true);
  });

  it('a queue that is full ends its session, which is told so; the buffer has all of it', async () => {
    const bounded = await startGateway(
      temporaryFolder(),
      {},
      { HEADWATER_LIMITS_OFFLINE_MESSAGES_MAX: '5' },
    );
    const url = `mqtt://127.0.0.1:${bounded.port}`;
    const away = await connectAsync(url, { clientId: 'away', clean: false, reconnectPeriod: 0 });
    await away.subscribeAsync('news', { qos: 1 });
    await away.endAsync();
    const publisher = await connectAsync(url, { clientId: 'pub', reconnectPeriod: 0 });
    for (let i = 0; i < 20; i++)
      await publisher.publishAsync('news', String(i), { qos: 1, retain: true });
    expect((await bounded.stored()).filter(({ topic }) => topic === 'news')).toHaveLength(20);
    const metrics = await (await fetch(`${bounded.http}/metrics`)).text();
    // The sixth, and the five that waited: those that came later were for nobody.
    expect(metrics).toMatch(/^headwater_ingress_offline_dropped_total 6$/m);
    // It hears nothing old as if it were the newest: session present is 0, and a SUBSCRIBE brings the present state.
    const heard: string[] = [];
    const back = connect(url, { clientId: 'away', clean: false, reconnectPeriod: 0 });
    back.on('message', (_topic, payload) => heard.push(payload.toString()));
    const { sessionPresent } = await new Promise<{ sessionPresent: boolean }>((resolve) =>
      back.once('connect', resolve),
    );
    expect(sessionPresent).toBe(false);
    await back.subscribeAsync('news', { qos: 1 });
    await until('the present state', () => heard.length > 0 || undefined);
    expect(heard).toEqual(['19']);
    await back.endAsync(true);
    await publisher.endAsync(true);
    await bounded.gateway.close();
  });

  it('the memory of all queues of one principal is bounded, and free again once they are taken or their session has ended', async () => {
    const bounded = await startGateway(
      temporaryFolder(),
      {},
      { HEADWATER_LIMITS_OFFLINE_BYTES_MAX: '300000' },
    );
    const url = `mqtt://127.0.0.1:${bounded.port}`;
    for (const clientId of ['one', 'two']) {
      const away = await connectAsync(url, { clientId, clean: false, reconnectPeriod: 0 });
      await away.subscribeAsync('news', { qos: 1 });
      await away.endAsync();
    }
    const publisher = await connectAsync(url, { clientId: 'pub', reconnectPeriod: 0 });
    const tell = async (): Promise<void> => {
      for (let i = 0; i < 10; i++)
        await publisher.publishAsync('news', 'x'.repeat(8960), { qos: 1 });
    };
    const metric = async (pattern: RegExp): Promise<number> =>
      Number(pattern.exec(await (await fetch(`${bounded.http}/metrics`)).text())?.[1]);
    const dropped = /^headwater_ingress_offline_dropped_total (\d+)$/m;
    const used = /^headwater_limit_used\{limit="offline_bytes"\} (\d+)$/m;
    // 9,476 bytes each: fifteen fit into half of it, so the eighth ends one of the two sessions, and the other has all.
    await tell();
    expect(await metric(dropped)).toBe(8);
    expect(await metric(used)).toBe(10 * 9476);
    const heardBy = async (clientId: string, clean: boolean): Promise<number> => {
      let heard = 0;
      const client = connect(url, { clientId, clean, reconnectPeriod: 0 });
      client.on('message', () => heard++);
      await new Promise((resolve) => client.once('connect', resolve));
      await client.subscribeAsync('news', { qos: 1 });
      await new Promise((resolve) => setTimeout(resolve, 300));
      await client.endAsync();
      return heard;
    };
    expect(await heardBy('one', false)).toBe(10);
    expect(await metric(used)).toBe(0);
    // [MQTT-3.1.2-6]: a clean session ends the one before, with all that waits for it.
    expect(await heardBy('two', true)).toBe(0);
    expect(await heardBy('two', false)).toBe(0);
    await tell();
    expect(await metric(dropped)).toBe(2 * 8);
    await publisher.endAsync(true);
    await bounded.gateway.close();
  });

  it('a will is stored when its client is lost, and not after a DISCONNECT', async () => {
    const will = Buffer.concat([
      Buffer.from([0, 6]),
      Buffer.from('will/x'),
      Buffer.from([0, 4]),
      Buffer.from('dead'),
    ]);
    const lost = await connected(running.port, 'lost', connectWith('lost', 0b00001110, 0, will));
    lost.socket.destroy();
    await until('the will', async () => (await storedOn('will/x')).length === 1 || undefined);
    const polite = await connected(
      running.port,
      'polite',
      connectWith('polite', 0b00001110, 0, will),
    );
    polite.send([0xe0, 0]);
    await polite.closed();
    await new Promise((resolve) => setTimeout(resolve, 300));
    expect(await storedOn('will/x')).toEqual(['dead']);
  });

  it('a version that does not exist is refused with return code 1 [MQTT-3.1.2-2]', async () => {
    const client = await rawClient(running.port);
    client.send(
      Buffer.concat([
        Buffer.from([0x10, 14, 0, 4]),
        Buffer.from('MQTT'),
        Buffer.from([6, 2, 0, 0, 0, 0, 1, 0x61]),
      ]),
    );
    await client.closed();
    expect(client.received()).toEqual(Buffer.from([0x20, 2, 0, 1]));
  });

  it('an empty client id without a clean session is refused with code 2 [MQTT-3.1.3-8]', async () => {
    const client = await rawClient(running.port);
    client.send(connectWith('', 0));
    await client.closed();
    expect(client.received()).toEqual(Buffer.from([0x20, 2, 0, 2]));
  });

  const filter = (text: string, qos = 0): Buffer => {
    const body = Buffer.concat([
      Buffer.from([0, 1, 0, text.length]),
      Buffer.from(text),
      Buffer.from([qos]),
    ]);
    return Buffer.concat([Buffer.from([0x82, body.length]), body]);
  };
  it.each<[string, Buffer | number[]]>([
    ['S2: a packet longer than allowed, from its length alone', [0x30, 0xff, 0xff, 0xff, 0x7f]],
    ['S3: a remaining length of five bytes', [0x30, 0xff, 0xff, 0xff, 0xff, 0x7f]],
    ['packet id 0', encodePublish('t', 'x', 1, 0)],
    ['QoS 3', encodePublish('t', 'x', 3, 1)],
    ['DUP with QoS 0', encodePublish('t', 'x', 0, 0, 8)],
    ['an empty topic', encodePublish('', 'x', 1, 1)],
    ['a wildcard in a topic', encodePublish('a/+/b', 'x', 1, 1)],
    ['S17: a NUL in a topic', encodePublish('a\0b', 'x', 1, 1)],
    ['S17: a topic that is not UTF-8', Buffer.from([0x32, 6, 0, 2, 0xff, 0xfe, 0, 1])],
    ['S16: a topic of the broker', encodePublish('$SYS/x/new/clients', 'sub', 1, 1)],
    ["S16: beside a bridge's own", encodePublish('$SYS/broker/connection/a/b/state', '1', 1, 1)],
    ["S16: below a bridge's own", encodePublish('$SYS/broker/connection/a/state/x', '1', 1, 1)],
    ['S18: a topic of 101 levels', encodePublish('/'.repeat(100), 'x', 1, 1)],
    ['a filter a#', filter('a#')],
    ['a filter a+/b', filter('a+/b')],
    ['a filter with QoS 3', filter('a', 3)],
    ['SUBSCRIBE without a filter', [0x82, 2, 0, 1]],
    ['SUBSCRIBE with wrong flags', [0x80, 6, 0, 1, 0, 1, 0x61, 0]],
    ['S23: a second CONNECT', encodeConnect('again')],
    ['S23: a CONNACK from a client', [0x20, 2, 0, 0]],
    ['PUBREL with wrong flags', [0x60, 2, 0, 1]],
    ['a PINGREQ with a body', [0xc0, 1, 0]],
  ])('%s closes the connection and stores nothing', async (_name, bytes) => {
    const before = (await running.stored()).length;
    const client = await connected(running.port, `bad-${Math.random()}`);
    client.send(bytes);
    await client.closed();
    expect((await running.stored()).length).toBe(before);
    await alive();
  });

  it.each<[string, Buffer | number[]]>([
    [
      'S1: a CONNECT of 256 MB',
      Buffer.concat([Buffer.from([0x10, 0xff, 0xff, 0xff, 0x7f]), Buffer.alloc(8192)]),
    ],
    ['S4: a PUBLISH first', encodePublish('t', 'x', 1, 1)],
    ['will QoS 3', connectWith('w', 0b00011110)],
    ['password without user', connectWith('w', 0b01000010, 0, Buffer.from([0, 1, 0x61]))],
    ['the reserved flag', connectWith('w', 3)],
    ['bytes after the payload', connectWith('w', 2, 0, Buffer.from([0]))],
    ['random bytes', Buffer.from('101000044d5154540402003c0321001400006202d301e0020020', 'hex')],
  ])('before CONNACK: %s closes the connection', async (_name, bytes) => {
    const client = await rawClient(running.port);
    client.send(bytes);
    await client.closed();
    expect(client.received().length).toBeLessThanOrEqual(5);
    await alive();
  });

  it('aedes#612: a PUBREL that nobody waits for, from a client of MQTT 5, is answered and ends nothing', async () => {
    const client = await rawClient(running.port);
    client.send(Buffer.from('101000044d5154540502003c0321001400006202d301e0020020', 'hex'));
    await client.closed();
    expect(client.received().subarray(0, 1)).toEqual(Buffer.from([0x20]));
    await alive();
  });

  it('names of the language are plain text: client ids, filters and topics', async () => {
    for (const name of ['__proto__', 'constructor', 'toString', 'hasOwnProperty']) {
      const client = await connectAsync(`mqtt://127.0.0.1:${running.port}`, {
        clientId: name,
        reconnectPeriod: 0,
      });
      await client.subscribeAsync(name);
      await client.publishAsync(name, '1', { qos: 1 });
      await client.unsubscribeAsync(name);
      await client.endAsync(true);
      expect(await storedOn(name)).toEqual(['1']);
    }
    await alive();
  });

  it('keep alive is kept: a silent client is cut after one and a half of it [MQTT-3.1.2-24]', async () => {
    const client = await connected(running.port, 'silent', connectWith('silent', 2, 1));
    const started = performance.now();
    await client.closed();
    expect(performance.now() - started).toBeGreaterThan(1400);
  });

  it('shows health, metrics and what waits', async () => {
    expect(await (await fetch(`${running.http}/readyz`)).text()).toBe('ready\n');
    const metrics = await (await fetch(`${running.http}/metrics`)).text();
    expect(
      Number(/^headwater_buffer_committed_messages_total (\d+)$/m.exec(metrics)?.[1]),
    ).toBeGreaterThan(0);
    const state = (await (await fetch(`${running.http}/api/v1/buffer`)).json()) as {
      state: string;
      why: string;
      waitingMessages: number;
    };
    expect(state).toMatchObject({
      state: 'open',
      why: 'no collector is configured: messages stay here',
    });
    expect(state.waitingMessages).toBe((await running.stored()).length);
  });
});

describe('who may connect', () => {
  it('with a password file only its users, and a malformed line refuses to start', async () => {
    const folder = temporaryFolder();
    const file = join(folder, 'passwords');
    writeFileSync(file, `${await passwordLine('sensor', Buffer.from('correct horse'))}\n`, {
      mode: 0o600,
    });
    const running = await startGateway(join(folder, 'data'), { 'password-file': file });
    const login = (password: string): Promise<unknown> =>
      connectAsync(`mqtt://127.0.0.1:${running.port}`, {
        username: 'sensor',
        password,
        reconnectPeriod: 0,
        clientId: 'x',
      }).then((client) => client.endAsync(true));
    await login('correct horse');
    await expect(login('wrong')).rejects.toThrow(/Not authorized/);
    await expect(
      connectAsync(`mqtt://127.0.0.1:${running.port}`, { reconnectPeriod: 0 }),
    ).rejects.toThrow(/Not authorized/);
    await running.gateway.close();
    writeFileSync(file, 'sensor:plain\n\n');
    await expect(startGateway(join(folder, 'data'), { 'password-file': file })).rejects.toThrow(
      /line 1 is not a credential/,
    );
  });

  it('another address than loopback is refused without credentials, and without a word on plaintext', async () => {
    const folder = temporaryFolder();
    await expect(startGateway(folder, { mqtt: '0.0.0.0:0' })).rejects.toThrow(/--password-file/);
    const file = join(folder, 'passwords');
    writeFileSync(file, `${await passwordLine('a', Buffer.from('12345678'))}\n`, { mode: 0o600 });
    await expect(
      startGateway(folder, { mqtt: '0.0.0.0:0', 'password-file': file }),
    ).rejects.toThrow(/--allow-plaintext/);
  });

  it("connections beyond an address's share are refused, others go on", async () => {
    const running = await startGateway(
      temporaryFolder(),
      {},
      { HEADWATER_LIMITS_CONNECTIONS_MAX: '3' },
    );
    const clients = [
      await connected(running.port, 'a'),
      await connected(running.port, 'b'),
      await connected(running.port, 'c', undefined, '127.0.0.2'),
    ];
    const third = await rawClient(running.port);
    await third.closed();
    clients[0]?.send([0xc0, 0]);
    expect((await clients[0]?.bytes(6))?.subarray(4)).toEqual(Buffer.from([0xd0, 0]));
    for (const { socket } of clients) socket.destroy();
    await running.gateway.close();
  });
});
