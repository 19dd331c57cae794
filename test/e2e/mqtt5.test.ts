/** MQTT 5 with real clients (mosquitto_pub and _sub, MQTT.js, paho-mqtt) on one gateway, and its sessions through kill -9. */
import { execFile, spawn } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { connect, connectAsync, type IPublishPacket, type MqttClient } from 'mqtt';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import {
  ROOT,
  startCollector,
  startGateway,
  temporaryFolder,
  until,
  type Headwater,
} from '../support/process.ts';
import { sessionTrial } from '../chaos/sessions.ts';
import { getJson } from '../support/reconcile.ts';
import { PAHO_PYTHON } from '../support/cache.ts';
import { seeded } from '../support/seed.ts';

const run = promisify(execFile);

describe('real clients of version 5', () => {
  let gateway: Headwater;
  let collector: Headwater;
  const folder = temporaryFolder();
  beforeAll(async () => {
    collector = await startCollector();
    gateway = await startGateway(collector.address['uplink']);
  });
  afterAll(async () => {
    expect(await gateway.kill()).toBe(0);
    expect(await collector.kill()).toBe(0);
  });
  const port = (): number => gateway.port('mqtt');

  it('MQTT.js: properties, alias, expiry, will with delay, shared subscription, receive maximum, session', async () => {
    const url = `mqtt://127.0.0.1:${port()}`;
    const heard: IPublishPacket[] = [];
    const listener = await connectAsync(url, {
      protocolVersion: 5,
      clientId: 'js5-listener',
      clean: false,
      properties: { sessionExpiryInterval: 600, receiveMaximum: 1, topicAliasMaximum: 10 },
    });
    listener.on('message', (_topic, _payload, packet) => heard.push(packet));
    await listener.subscribeAsync('js5/#', {
      qos: 2,
      nl: true,
      rap: true,
      properties: { subscriptionIdentifier: 7 },
    });
    const dying = await connectAsync(url, {
      protocolVersion: 5,
      clientId: 'js5-dying',
      reconnectPeriod: 0,
      will: {
        topic: 'js5/will',
        payload: Buffer.from('gone'),
        qos: 1,
        properties: { willDelayInterval: 0 },
      },
    });
    const members = await Promise.all(
      ['a', 'b'].map((name) => connectAsync(url, { protocolVersion: 5, clientId: `js5-${name}` })),
    );
    const shared: string[] = [];
    for (const member of members) {
      member.on('message', (_topic, payload) => shared.push(payload.toString()));
      await member.subscribeAsync('$share/g/js5/shared', { qos: 1 });
    }
    const publisher = await connectAsync(url, { protocolVersion: 5, clientId: 'js5-publisher' });
    for (const qos of [0, 1, 2] as const)
      await publisher.publishAsync('js5/x', `q${qos}`, {
        qos,
        properties: {
          userProperties: { site: ['north', 'south'] },
          contentType: 'text/plain',
          messageExpiryInterval: 60,
          topicAlias: 3,
        },
      });
    for (let i = 0; i < 20; i++) await publisher.publishAsync('js5/shared', `s${i}`, { qos: 1 });
    dying.stream.destroy();
    await until('everything at the listener', () => heard.length === 24 || undefined);
    expect(
      heard
        .slice(0, 3)
        .map(({ payload, qos, properties }) => [
          payload.toString(),
          qos,
          properties?.userProperties?.['site'],
          properties?.subscriptionIdentifier,
        ]),
    ).toEqual([0, 1, 2].map((qos) => [`q${qos}`, qos, ['north', 'south'], 7]));
    expect(heard.some(({ topic }) => topic === 'js5/will')).toBe(true);
    await until('each shared message once', () => shared.length === 20 || undefined);
    expect(new Set(shared).size).toBe(20);
    await listener.endAsync();
    await publisher.publishAsync('js5/late', 'kept', { qos: 1 });
    // Listening before it connects: what waits comes with the CONNACK.
    const back = connect(url, {
      protocolVersion: 5,
      clientId: 'js5-listener',
      clean: false,
      properties: { sessionExpiryInterval: 600 },
    });
    const late = await new Promise<string>((resolve) =>
      back.on('message', (_topic, payload) => resolve(payload.toString())),
    );
    expect(late).toBe('kept');
    for (const client of [back, publisher, ...members]) await client.endAsync();
  });

  it('the content type and user properties of a device reach the reading', async () => {
    const client = await connectAsync(`mqtt://127.0.0.1:${port()}`, {
      protocolVersion: 5,
      clientId: 'typed',
    });
    await client.publishAsync('typed/a', Buffer.from([0xa1, 0x61, 0x74, 0x18, 0x2a]), {
      qos: 1,
      properties: { contentType: 'application/cbor' },
    });
    await client.endAsync();
    const reading = await until('the reading', async () => {
      const { series } = await getJson<{ series: { field: string; value: number }[] }>(
        `http://${collector.address['http']}/api/v1/latest?tag.topic=typed/a`,
      );
      return series[0];
    });
    expect(reading).toMatchObject({ field: 't', value: 42 });
  });

  it('mosquitto_pub and mosquitto_sub -V 5', async () => {
    const args = ['-V', '5', '-p', String(port())];
    const listener = spawn('mosquitto_sub', [
      ...args,
      '-t',
      'mosq5/#',
      '-q',
      '2',
      '-C',
      '4',
      '-W',
      '30',
      '-F',
      '%q %p %P',
      '-D',
      'subscribe',
      'subscription-identifier',
      '3',
    ]);
    let heard = '';
    listener.stdout.on('data', (chunk: Buffer) => {
      heard += chunk.toString();
    });
    const ended = new Promise<number>((resolve) =>
      listener.on('close', (code) => resolve(code ?? 1)),
    );
    await until('the subscription', async () => {
      await run('mosquitto_pub', [...args, '-t', 'mosq5/probe', '-m', 'probe', '-q', '1']);
      return heard.includes('probe') || undefined;
    });
    for (const qos of ['0', '1', '2'])
      await run('mosquitto_pub', [
        ...args,
        '-t',
        'mosq5/x',
        '-m',
        `m${qos}`,
        '-q',
        qos,
        '-D',
        'publish',
        'user-property',
        'a',
        '1',
        '-D',
        'publish',
        'message-expiry-interval',
        '60',
      ]);
    expect(await ended).toBe(0);
    const lines = heard.split('\n').filter((line) => line !== '' && !line.includes('probe'));
    expect(lines.length).toBeGreaterThanOrEqual(2);
    for (const line of lines) expect(line).toMatch(/^[012] m[012] a:1$/);
  });

  it('paho-mqtt 2 with protocol 5', async () => {
    const script = join(folder, 'paho5.py');
    writeFileSync(
      script,
      `
import sys, threading
import paho.mqtt.client as mqtt
from paho.mqtt.properties import Properties
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.subscribeoptions import SubscribeOptions
heard, done, ready = [], threading.Event(), threading.Event()
c = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id="paho5", protocol=mqtt.MQTTv5)
p = Properties(PacketTypes.CONNECT); p.SessionExpiryInterval = 60; p.ReceiveMaximum = 1
def on_connect(client, userdata, flags, reason, properties):
    s = Properties(PacketTypes.SUBSCRIBE); s.SubscriptionIdentifier = 9
    client.subscribe("paho5/#", options=SubscribeOptions(qos=2, noLocal=False, retainAsPublished=True), properties=s)
def on_message(client, userdata, message):
    heard.append("%s:%s:%s" % (message.payload.decode(), message.properties.UserProperty[0][1], message.properties.SubscriptionIdentifier[0]))
    if len(heard) == 3: done.set()
c.on_connect, c.on_message = on_connect, on_message
c.on_subscribe = lambda *args: ready.set()
c.connect("127.0.0.1", int(sys.argv[1]), 20, clean_start=True, properties=p)
c.loop_start()
if ready.wait(10):
    for qos in (0, 1, 2):
        u = Properties(PacketTypes.PUBLISH); u.UserProperty = ("k", "v%d" % qos)
        c.publish("paho5/x", "q%d" % qos, qos, properties=u).wait_for_publish(10)
done.wait(10)
c.disconnect(); c.loop_stop()
print(",".join(sorted(heard)))
`,
    );
    const { stdout } = await run(PAHO_PYTHON, [script, String(port())]);
    expect(stdout.trim()).toBe('q0:v0:9,q1:v1:9,q2:v2:9');
  });
});

describe('docs/clients.md', () => {
  it('its recipes for paho, MQTT.js, mosquitto_pub and Zigbee2MQTT do as they stand there', async () => {
    const collector = await startCollector();
    const gateway = await startGateway(collector.address['uplink']);
    const port = gateway.port('mqtt');
    const page = readFileSync(join(ROOT, 'docs/clients.md'), 'utf8');
    const recipe = (language: string): string =>
      (new RegExp('```' + language + '\\n([^]*?)```').exec(page)?.[1] ?? '').replaceAll(
        '1883',
        String(port),
      );
    await run(PAHO_PYTHON, ['-c', recipe('python')]);
    await run(process.execPath, ['--input-type=module', '-e', recipe('js')], { cwd: ROOT });
    await run('bash', ['-euc', recipe('sh')]);
    // Zigbee2MQTT gives these to MQTT.js.
    const { mqtt } = parse(recipe('yaml')) as { mqtt: Record<string, never> };
    const bridge = await connectAsync(mqtt['server'] ?? '', {
      protocolVersion: mqtt['version'] ?? 4,
      clientId: mqtt['client_id'] ?? '',
      keepalive: mqtt['keepalive'] ?? 0,
      properties: { maximumPacketSize: mqtt['maximum_packet_size'] ?? 0 },
    });
    await bridge.publishAsync(`${mqtt['base_topic']}/bulb`, '{"linkquality":80}', { qos: 1 });
    await bridge.endAsync();
    const value = async (tag: string): Promise<number> =>
      await until(tag, async () => {
        const url = `http://${collector.address['http']}/api/v1/latest?tag.${tag}`;
        return (await getJson<{ series: { value: number }[] }>(url)).series[0]?.value;
      });
    expect(await value('topic=plant/meter-7')).toBe(12.5);
    expect(await value('topic=plant/meter-8')).toBe(7.5);
    expect(await value('topic=plant/meter-9')).toBe(3);
    expect(await value('device=bulb')).toBe(80);
    for (const each of [gateway, collector]) expect(await each.kill()).toBe(0);
  });
});

describe('sessions of both versions through kill -9', () => {
  it('3 kills under load, 40 sessions: nothing acknowledged is lost, in order, QoS 2 once, nothing to a session that expired', async () => {
    const { seed } = seeded();
    const outcome = await sessionTrial({ sessions: 40, kills: 3, seed, perRound: 400 });
    expect(outcome.broken, `HEADWATER_SEED=${seed}`).toEqual([]);
    expect(outcome.acknowledged).toBeGreaterThan(0);
    expect(outcome.expired).toBe(4);
  });
});

describe('what is retained through kill -9', () => {
  const TOPICS = 700;
  const listen = async (port: number, version: 4 | 5, topics: Set<string>): Promise<MqttClient> => {
    const client = connect(`mqtt://127.0.0.1:${port}`, {
      clientId: `v${version}`,
      protocolVersion: version,
      clean: false,
      resubscribe: false,
      reconnectPeriod: 0,
      ...(version === 5 ? { properties: { sessionExpiryInterval: 3600 } } : {}),
    });
    client.on('error', () => undefined);
    client.on('message', (topic) => topics.add(topic));
    await new Promise((resolve) => client.once('connect', resolve));
    return client;
  };

  it.each([
    1, 2,
  ] as const)('a kill while it is sent to new subscriptions takes nothing from them, at QoS %i and in both versions', async (qos) => {
    const flags = ['--data', temporaryFolder()];
    let gateway = await startGateway(undefined, flags);
    const device = await connectAsync(`mqtt://127.0.0.1:${gateway.port('mqtt')}`);
    const state = { qos, retain: true };
    await Promise.all(
      Array.from({ length: TOPICS }, (_, i) => device.publishAsync(`state/${i}`, `${i}`, state)),
    );
    const got = { 4: new Set<string>(), 5: new Set<string>() };
    const before = await Promise.all(
      ([4, 5] as const).map((version) => listen(gateway.port('mqtt'), version, got[version])),
    );
    await Promise.all(before.map((client) => client.subscribeAsync('state/#', { qos })));
    await until('some of it', () => (got[4].size > 20 && got[5].size > 20) || undefined);
    await gateway.kill('SIGKILL');
    expect(got[4].size + got[5].size).toBeLessThan(2 * TOPICS);
    for (const client of [device, ...before]) client.end(true);
    gateway = await startGateway(undefined, flags);
    const after = await Promise.all(
      ([4, 5] as const).map((version) => listen(gateway.port('mqtt'), version, got[version])),
    );
    await until('all of it', () => got[4].size + got[5].size === 2 * TOPICS || undefined);
    for (const client of after) client.end(true);
    expect(await gateway.kill()).toBe(0);
  });
});
