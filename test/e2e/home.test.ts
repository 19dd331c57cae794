/**
 * What people run beside a gateway, over MQTT 5: Node-RED with a flow, and Home Assistant's own MQTT integration. Where they
 * are installed: `npm run test:home` brings them (ten minutes on a slow machine), from then on `npm test` runs them too.
 */
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { connectAsync, type IPublishPacket, type MqttClient } from 'mqtt';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { CACHE } from '../support/cache.ts';
import { freePort } from '../support/free-port.ts';
import {
  ROOT,
  start,
  startGateway,
  temporaryFolder,
  until,
  type Headwater,
} from '../support/process.ts';

let gateway: Headwater;
let listener: MqttClient;
let heard: { topic: string; payload: string; packet: IPublishPacket }[];
const last = (topic: string): string | undefined =>
  heard.findLast((each) => each.topic === topic)?.payload;
const said = (topic: string, payload: string): Promise<unknown> =>
  until(`${topic}: ${payload}`, () => (last(topic) === payload ? true : undefined), 60_000);

beforeEach(async () => {
  gateway = await startGateway(undefined);
  heard = [];
  listener = await connectAsync(`mqtt://127.0.0.1:${gateway.port('mqtt')}`, { protocolVersion: 5 });
  listener.on('message', (topic, payload, packet) =>
    heard.push({ topic, payload: payload.toString(), packet }),
  );
  await listener.subscribeAsync('#', { qos: 2, rap: true });
});
afterEach(async () => {
  await listener.endAsync();
  expect(await gateway.kill()).toBe(0);
});

/** An mqtt-in, a function and an mqtt-out, and one member of a shared subscription. */
const flow = (port: number): unknown[] => [
  { id: 'tab', type: 'tab', label: 'flow' },
  {
    id: 'broker',
    type: 'mqtt-broker',
    broker: '127.0.0.1',
    port: String(port),
    clientid: 'node-red',
    autoConnect: true,
    protocolVersion: '5',
    keepalive: '60',
    cleansession: false,
    sessionExpiry: '600',
    birthTopic: 'nodered/status',
    birthPayload: 'online',
    birthQos: '1',
    birthRetain: 'true',
    birthMsg: {},
    willTopic: 'nodered/status',
    willPayload: 'offline',
    willQos: '1',
    willRetain: 'true',
    willMsg: {},
  },
  {
    id: 'in',
    type: 'mqtt in',
    z: 'tab',
    broker: 'broker',
    topic: 'plant/+/t',
    qos: '2',
    datatype: 'auto-detect',
    nl: true,
    rap: true,
    rh: 0,
    wires: [['change']],
  },
  {
    id: 'change',
    type: 'function',
    z: 'tab',
    outputs: 1,
    wires: [['out']],
    func: `msg.payload = { from: msg.topic, t: msg.payload.t * 2, unit: (msg.userProperties || {}).unit };
msg.topic = 'plant/out/t'; msg.qos = 2; msg.userProperties = { by: 'node-red' }; msg.messageExpiryInterval = 60; return msg;`,
  },
  { id: 'out', type: 'mqtt out', z: 'tab', broker: 'broker', topic: '', qos: '', wires: [] },
  {
    id: 'shared',
    type: 'mqtt in',
    z: 'tab',
    broker: 'broker',
    topic: '$share/workers/jobs/#',
    qos: '1',
    datatype: 'utf8',
    wires: [['done']],
  },
  {
    id: 'done',
    type: 'function',
    z: 'tab',
    outputs: 1,
    wires: [['out']],
    func: `return { topic: 'done/' + msg.payload, payload: msg.payload, qos: 1 };`,
  },
];

const isHere = (name: string): boolean => existsSync(join(CACHE, `${name}.ok`));

describe.skipIf(!isHere('nodered-4.0.9'))('Node-RED (npm run test:home brings it)', () => {
  it('a flow over MQTT 5: user properties, noLocal, expiry, a shared subscription, its session through a kill, and its will', async () => {
    const userDir = temporaryFolder();
    const port = gateway.port('mqtt');
    writeFileSync(join(userDir, 'flows.json'), JSON.stringify(flow(port)));
    const red = join(CACHE, 'nodered-4.0.9', 'node_modules', 'node-red', 'red.js');
    const http = String(await freePort());
    const options = ['-u', userDir, '-p', http, '-D', 'uiHost=127.0.0.1', 'flows.json'];
    const node = start(process.execPath, [red, ...options]);
    await said('nodered/status', 'online');
    const properties = { userProperties: { unit: 'C' } };
    const sent = JSON.stringify({ t: 21 });
    await until('the flow to listen', async () => {
      await listener.publishAsync('plant/a/t', sent, { qos: 1, properties });
      return last('plant/out/t');
    });
    expect(JSON.parse(last('plant/out/t') ?? '')).toEqual({ from: 'plant/a/t', t: 42, unit: 'C' });
    const [out] = heard.filter(({ topic }) => topic === 'plant/out/t');
    expect(out?.packet).toMatchObject({
      qos: 2,
      properties: { userProperties: { by: 'node-red' } },
    });
    expect(out?.packet.properties?.messageExpiryInterval).toBeGreaterThan(50);
    // plant/out/t matches its own filter: without noLocal it would go round for ever.
    await new Promise((resolve) => setTimeout(resolve, 500));
    const rounds = heard.filter(({ topic }) => topic === 'plant/out/t').length;
    expect(rounds).toBe(heard.filter(({ topic }) => topic === 'plant/a/t').length);
    const worker = await connectAsync(`mqtt://127.0.0.1:${port}`, { protocolVersion: 5 });
    const jobs: string[] = [];
    worker.on('message', (_topic, payload) => jobs.push(payload.toString()));
    await worker.subscribeAsync('$share/workers/jobs/#', { qos: 1 });
    for (let i = 0; i < 10; i++) await listener.publishAsync(`jobs/${i}`, `j${i}`, { qos: 1 });
    const done = (): string[] =>
      heard.filter(({ topic }) => topic.startsWith('done/')).map(({ payload }) => payload);
    await until('each job once', () => jobs.length + done().length === 10 || undefined);
    expect(new Set([...jobs, ...done()]).size).toBe(10);
    expect(Math.min(jobs.length, done().length)).toBeGreaterThan(0);
    await worker.endAsync();
    // Killed, it is gone without a word: its will says so, and what follows waits for its session.
    await node.kill('SIGKILL');
    await said('nodered/status', 'offline');
    await listener.publishAsync('plant/b/t', sent, { qos: 1, properties });
    const again = start(process.execPath, [red, ...options]);
    await until(
      'what came meanwhile',
      () =>
        heard.some(
          ({ topic, payload }) => topic === 'plant/out/t' && payload.includes('plant/b/t'),
        ) || undefined,
      60_000,
    );
    await again.kill();
  });
});

describe.skipIf(!isHere('homeassistant-2024.3.3'))(
  'Home Assistant 2024.3, protocol 5 (npm run test:home brings it)',
  () => {
    it('discovery from what is retained, states, availability by the will of a device, and its own by birth and will', async () => {
      const folder = temporaryFolder();
      mkdirSync(join(folder, '.storage'));
      writeFileSync(join(folder, 'configuration.yaml'), '');
      const port = gateway.port('mqtt');
      const device = await connectAsync(`mqtt://127.0.0.1:${port}`, {
        protocolVersion: 5,
        clientId: 'boiler',
        reconnectPeriod: 0,
        will: {
          topic: 'boiler/status',
          payload: Buffer.from('offline'),
          qos: 1,
          retain: true,
          properties: { willDelayInterval: 0 },
        },
      });
      const found = {
        name: 'boiler',
        unique_id: 'b',
        state_topic: 'boiler/t',
        availability_topic: 'boiler/status',
        qos: 2,
      };
      const retained = { qos: 1, retain: true } as const;
      await device.publishAsync(
        'homeassistant/sensor/boiler/config',
        JSON.stringify(found),
        retained,
      );
      await device.publishAsync('boiler/status', 'online', retained);
      const python = join(CACHE, 'homeassistant-2024.3.3', 'bin', 'python');
      const home = start(python, [
        join(ROOT, 'test/e2e/home-assistant.py'),
        folder,
        String(port),
        String(await freePort()),
      ]);
      await said('homeassistant/status', 'online');
      await until(
        'the state',
        async () => {
          await device.publishAsync('boiler/t', '42', { qos: 2 });
          return last('echo/sensor.boiler') === '42' || undefined;
        },
        30_000,
      );
      device.stream.destroy();
      await said('echo/sensor.boiler', 'unavailable');
      await home.kill('SIGKILL');
      await said('homeassistant/status', 'offline');
      expect(heard.findLast(({ topic }) => topic === 'homeassistant/status')?.packet.retain).toBe(
        true,
      );
    });
  },
);
