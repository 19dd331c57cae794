/** Settings from afar over real sockets: declared, taken, proven, refused, rolled back, staged; and who cannot. */
import { Aedes } from 'aedes';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { writeFileSync } from 'node:fs';
import { connectAsync } from 'mqtt';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { Collector } from '../../collector/collector.ts';
import { COLLECTOR_CONFIG } from '../../collector/config.ts';
import { loadConfig } from '../../shared/config/spec.ts';
import type { RemoteConfig } from '../../shared/model/remote.ts';
import { realEnv } from '../../shared/env/env.ts';
import { KIND_STATUS } from '../../shared/frame/frame.ts';
import { noteFrame } from '../../shared/frame/notes.ts';
import { downTopic, encodeDown, encodeUp, upTopic } from '../../shared/wire/wire.ts';
import { runGateway, type RunningGateway } from '../support/gateway.ts';
import { seeded } from '../support/seed.ts';
import { startGateway, temporaryFolder, until } from '../support/process.ts';

interface Row {
  gateway: string;
  connected: boolean;
  config?: { state: string; why?: string };
  version?: string;
  location?: object;
}

const cleanups: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).toReversed()) await cleanup();
});

let running: Collector;
let [http, uplink, enrolPath] = ['', '', ''];
beforeAll(async () => {
  const at = '127.0.0.1:0';
  const flags = {
    data: temporaryFolder(),
    lake: 'none',
    uplink: at,
    http: at,
    uplinks: at,
    enroll: at,
  };
  const config = loadConfig(COLLECTOR_CONFIG, { flags, environment: {} });
  running = new Collector(realEnv(), config, () => undefined);
  const addresses = await running.start(undefined);
  http = `http://127.0.0.1:${addresses.http?.port}`;
  uplink = `mqtt://127.0.0.1:${addresses.uplink?.port}`;
  enrolPath = `${http}/api/v1/enroll/tokens`;
});
afterAll(() => running.close());

async function post(path: string, body: object): Promise<Record<string, unknown>> {
  const headers = { 'content-type': 'application/json' };
  const init = { method: 'POST', headers, body: JSON.stringify(body) };
  const response = await fetch(path.startsWith('http') ? path : `${http}${path}`, init);
  return { status: response.status, ...((await response.json()) as object) };
}
const declare = (target: string, settings: object, more: object = {}) =>
  post('/api/v1/config', { target, settings, backAfterSeconds: 2, ...more });

async function row(gateway: string): Promise<Row | undefined> {
  const { gateways } = (await (await fetch(`${http}/api/v1/gateways`)).json()) as {
    gateways: Row[];
  };
  return gateways.find((each) => each.gateway === gateway);
}
const state = (gateway: string, wanted: string): Promise<Row> =>
  until(
    `${gateway} ${wanted}`,
    async () => {
      const found = await row(gateway);
      return found?.config?.state === wanted ? found : undefined;
    },
    10_000,
  );

async function gateway(
  id: string,
  flags = {},
  settings = {},
  folder = temporaryFolder(),
): Promise<RunningGateway> {
  const made = await runGateway(folder, settings, { id, collector: uplink, ...flags });
  cleanups.push(() => made.gateway.close());
  return made;
}
const linked = (made: RunningGateway) =>
  until(
    'a link',
    async () => (await made.metric('headwater_uplink_connected')) || undefined,
    10_000,
  );

async function publish(port: number, numbers: readonly number[]): Promise<void> {
  const device = await connectAsync(`mqtt://127.0.0.1:${port}`, { reconnectPeriod: 0 });
  for (const n of numbers)
    await device.publishAsync('roof/climate', JSON.stringify({ n }), { qos: 1 });
  await device.endAsync();
}
async function values(): Promise<number[]> {
  const answer = await fetch(`${http}/api/v1/query?measurement=climate&field=n`);
  const { series } = (await answer.json()) as { series: { points: [number, number][] }[] };
  return series.flatMap(({ points }) => points.map(([, value]) => value)).sort((a, b) => a - b);
}

describe('settings from afar', () => {
  it('what is declared is in force on the gateway, on the same port, through a restart; nothing acknowledged is lost; taken back, its own counts', async () => {
    const folder = temporaryFolder();
    const made = await gateway('one', {}, {}, folder);
    await publish(made.port, [1, 2, 3]);
    const settings = {
      'location.latitude': 57.1,
      'location.longitude': '-2.1',
      'uplink.statusMs': 500,
    };
    expect(await declare('gateway:one', settings)).toMatchObject({ status: 200, released: true });
    expect(await state('one', 'applied')).toMatchObject({
      location: { latitude: 57.1, longitude: -2.1 },
      version: '0.1.0',
    });
    await publish(made.port, [4]);
    await until('all of them, once', async () => String(await values()) === '1,2,3,4' || undefined);
    await made.gateway.close();
    const again = await gateway('one', {}, {}, folder);
    await linked(again);
    expect(await again.metric('headwater_gateway_remote_config_state')).toBe(1);
    await declare('gateway:one', {});
    await until('its own', async () => (await row('one'))?.location === undefined || undefined);
    await state('one', 'applied');
  });

  it('an uplink that does not come back brings the gateway back by itself; the same is not tried again until it is declared again', async () => {
    const made = await gateway('two');
    await linked(made);
    const nowhere = createServer().listen(0, '127.0.0.1');
    await new Promise((resolve) => nowhere.once('listening', resolve));
    const { port } = nowhere.address() as { port: number };
    await new Promise((resolve) => nowhere.close(resolve));
    const moved = { collectors: [`mqtts://127.0.0.1:${port}`] };
    await declare('gateway:two', moved);
    const back = await state('two', 'rolled back');
    expect(back.config?.why).toMatch(/did not come back within 2 s.*ECONNREFUSED/);
    expect(await made.metric('headwater_uplink_connected')).toBe(1);
    const tries = (): number =>
      made.notices.filter(({ text }) => /has 2 s to come back/.test(text)).length;
    expect(tries()).toBe(1);
    await declare('gateway:two', moved);
    await until('another trial', () => tries() === 2 || undefined);
    await declare('gateway:two', {});
    await state('two', 'applied');
  });

  it('a staged change goes to the rest when the first run with it, and is held where one of them goes back', async () => {
    const { tokens } = (await post(enrolPath, {
      gateways: 's-1,s-2',
      site: 'quay',
      labels: 'floor=3',
    })) as {
      tokens: { gateway: string; token: string }[];
    };
    for (const { gateway: id, token } of tokens) {
      const path = join(temporaryFolder(), `${id}.token`);
      writeFileSync(path, token, { mode: 0o600 });
      const made = await gateway('', { join: path, collector: '' });
      await linked(made);
    }
    const bad = { collectors: ['mqtts://127.0.0.1:1'] };
    expect(await declare('label:floor=3', bad, { first: 3 })).toMatchObject({ status: 400 });
    const staged = await declare('label:floor=3', bad, { first: 1 });
    expect(staged).toMatchObject({ first: ['s-1'], released: false });
    await state('s-1', 'rolled back');
    expect((await row('s-2'))?.config).toBeUndefined();
    const { declared } = (await (await fetch(`${http}/api/v1/config`)).json()) as {
      declared: { target: string; held: string | null }[];
    };
    expect(declared.find(({ target }) => target === 'label:floor=3')?.held).toMatch(
      /^s-1: rolled back/,
    );
    await declare('label:floor=3', { 'uplink.statusMs': 700 }, { first: 1 });
    await state('s-1', 'applied');
    await state('s-2', 'applied');
  });

  it('what listens, who may come in, names, paths and secrets, and what gives readings up, are never declared', async () => {
    const never = {
      'mqtt.listen': '0.0.0.0:1883',
      'mqtt.passwordFile': '',
      allowPlaintext: true,
      id: 'other',
      data: '/',
      'uplink.keyFile': '/etc/shadow',
      'buffer.whenFull': 'dropOldest',
      'remote.accept': 'any',
      __proto__x: 1,
    };
    for (const [key, value] of Object.entries(never))
      expect(await declare('all', { [key]: value }), key).toMatchObject({ status: 400 });
    for (const settings of [
      { collectors: [] },
      { collectors: ['http://a:1'] },
      { collectors: ['mqtts://u:p@a:1'] },
      { 'uplink.statusMs': 1 },
      { 'location.latitude': 91, 'location.longitude': 0 },
      { 'location.latitude': 1 },
    ])
      expect(await declare('all', settings), JSON.stringify(settings)).toMatchObject({
        status: 400,
      });
    expect(await declare('everybody', {})).toMatchObject({ status: 400 });
    const { declared } = (await (await fetch(`${http}/api/v1/config`)).json()) as {
      declared: { target: string }[];
    };
    expect(declared.map(({ target }) => target)).not.toContain('all');
  });

  it('a forged collector changes nothing that may not be changed, and another gateway’s settings are not taken', async () => {
    const broker = await Aedes.createBroker({});
    const server = createServer(broker.handle).listen(0, '127.0.0.1');
    await new Promise((resolve) => server.once('listening', resolve));
    const { port } = server.address() as { port: number };
    cleanups.push(async () => {
      await new Promise<void>((resolve) => broker.close(() => resolve()));
      await new Promise((resolve) => server.close(resolve));
    });
    const made = await gateway('three', { collector: `mqtt://127.0.0.1:${port}` });
    await linked(made);
    const say = (config: Partial<RemoteConfig> & object): void =>
      broker.publish(
        {
          cmd: 'publish',
          topic: downTopic('three'),
          payload: encodeDown({
            config: {
              gateway: 'three',
              revision: 'a'.repeat(16),
              settings: {},
              backAfterSeconds: 2,
              ...config,
            },
          }),
          qos: 0,
          retain: false,
          dup: false,
        },
        () => undefined,
      );
    const said = (pattern: RegExp) =>
      until(String(pattern), () => made.notices.find(({ text }) => pattern.test(text))?.text);
    say({ gateway: 'one', settings: { 'uplink.statusMs': 600 } });
    await said(/settings for another gateway \('one'\) .* were not taken/);
    say({ settings: { 'mqtt.listen': '0.0.0.0:1883' } });
    await said(/were refused: 'mqtt.listen' is no setting that may be changed from afar/);
    say({ revision: 'b'.repeat(16), settings: { collectors: ['mqtt://192.0.2.1:1883'] } });
    await said(/were refused: collectors: mqtt:\/\/192.0.2.1:1883 would take the uplink off TLS/);
    say({ settings: 'none' as never });
    await said(/not of a known form|no connection/);
    expect(await made.metric('headwater_gateway_remote_config_state')).toBe(3);
  });

  it('a gateway that takes no settings says so; one of an older version is shown as such, and hears its own alone', async () => {
    const made = await gateway('four', {}, { 'remote.accept': 'never' });
    await linked(made);
    await declare('gateway:four', { 'uplink.statusMs': 600 });
    expect((await state('four', 'refused')).config?.why).toMatch(/takes no settings from afar/);
    await declare('gateway:old', { 'uplink.statusMs': 600 });
    const old = await connectAsync(uplink, { clientId: 'gateway-old', reconnectPeriod: 0 });
    cleanups.push(() => old.endAsync(true));
    const heard: { topic: string; text: string }[] = [];
    old.on('message', (topic, payload) => heard.push({ topic, text: payload.toString() }));
    await old.subscribeAsync(downTopic('old'));
    await old.subscribeAsync([downTopic('four'), 'headwater/1/down/#', '#']).catch(() => undefined);
    const env = realEnv();
    const identity = { gateway: 'old', epoch: Buffer.alloc(8, 1), bootId: env.bootId };
    const time = { wallUs: 1, monotonicUs: 1, clockQuality: 0 };
    const frame = noteFrame(KIND_STATUS, { epochs: [] }, identity, 0, time);
    await old.publishAsync(upTopic('old'), encodeUp(0, [frame]));
    await until('its own settings', () => heard.find(({ text }) => text.includes('"config"')));
    expect((await state('old', 'waiting')).config?.why).toMatch(/its version knows no settings/);
    await declare('gateway:four', { 'uplink.statusMs': 650 });
    await state('four', 'refused');
    expect(
      heard.filter(({ topic, text }) => topic !== downTopic('old') || text.includes('"four"')),
    ).toEqual([]);
    // It declares nothing for others: what it publishes there ends its connection.
    const closed = new Promise<void>((resolve) => old.once('close', () => resolve()));
    old.publish(downTopic('four'), encodeDown({}));
    await closed;
  });

  it('a gateway that is killed again and again while its settings change ends with the last of them, and loses nothing', async () => {
    const chance = seeded();
    console.log(`seed ${chance.seed}`);
    const folder = temporaryFolder();
    const flags = ['--data', folder, '--id', 'five', '--http', ''];
    const at = uplink.replace('mqtt://', '');
    const acknowledged: number[] = [];
    for (let round = 0; round < 3; round++) {
      const process = await startGateway(at, flags);
      const numbers = Array.from({ length: 5 }, (_, n) => 1000 + round * 5 + n);
      await publish(process.port('mqtt'), numbers);
      acknowledged.push(...numbers);
      await declare('gateway:five', { 'uplink.statusMs': 500 + round });
      if (round % 2 === 1)
        await until('the trial', () => process.output().includes('s to come back') || undefined);
      await new Promise((resolve) => setTimeout(resolve, chance.next() * 900));
      await process.kill('SIGKILL');
    }
    const last = await startGateway(at, flags);
    await state('five', 'applied');
    await until('all of them, once', async () => {
      const there = (await values()).filter((n) => n >= 1000);
      return String(there) === String(acknowledged) || undefined;
    });
    await last.kill();
  });
});
