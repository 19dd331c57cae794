/**
 * Real clients against the gateway: mosquitto_pub and mosquitto_sub, MQTT.js and paho-mqtt (Python), each over TCP, TLS and
 * WebSocket as far as it speaks them, with credentials and with client certificates.
 */
import { execFile, spawn } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { connect, connectAsync, type IClientOptions } from 'mqtt';
import { WebSocket } from 'ws';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { passwordLine } from '../../shared/config/secrets.ts';
import { PAHO_PYTHON } from '../support/cache.ts';
import { Authority, type Pair } from '../support/certificates.ts';
import { startGateway, temporaryFolder, until, type Headwater } from '../support/process.ts';
import { getJson } from '../support/reconcile.ts';

const run = promisify(execFile);
const folder = temporaryFolder();
const PASSWORD = 'correct horse battery';
let authority: Authority;
let device: Pair;
let gateway: Headwater;

beforeAll(async () => {
  authority = new Authority(join(folder, 'ca'));
  const server = authority.issue({ name: 'gateway', hosts: ['127.0.0.1', 'localhost'] });
  device = authority.issue({ name: 'press-7' });
  const passwords = join(folder, 'passwords');
  writeFileSync(passwords, `${await passwordLine('sensor', Buffer.from(PASSWORD))}\n`, {
    mode: 0o600,
  });
  gateway = await startGateway(undefined, [
    '--password-file',
    passwords,
    '--mqtts',
    '127.0.0.1:0',
    '--ws',
    '127.0.0.1:0',
    '--wss',
    '127.0.0.1:0',
    '--tls-cert',
    server.cert,
    '--tls-key',
    server.key,
    '--tls-client-ca',
    authority.cert,
  ]);
});
afterAll(async () => {
  expect(await gateway.kill()).toBe(0);
});

interface History {
  messages: { payload: string; client: string }[];
}
const stored = async (topic: string): Promise<string[]> =>
  (
    await getJson<History>(
      `http://${gateway.address['http']}/api/v1/query?limit=10000&topic=${topic}`,
    )
  ).messages
    .map(({ payload }) => payload)
    .toReversed();

describe('MQTT.js', () => {
  const cases: [name: string, url: () => string, options: () => IClientOptions][] = [
    ['mqtt', () => `mqtt://127.0.0.1:${gateway.port('mqtt')}`, () => ({})],
    [
      'mqtts',
      () => `mqtts://localhost:${gateway.port('mqtts')}`,
      () => ({ ca: readFileSync(authority.cert) }),
    ],
    ['ws', () => `ws://127.0.0.1:${gateway.port('ws')}/mqtt`, () => ({})],
    [
      'wss',
      () => `wss://localhost:${gateway.port('wss')}`,
      () => ({ ca: readFileSync(authority.cert) }),
    ],
  ];
  it.each(
    cases,
  )('%s with a password: every QoS, retained, will, subscription', async (name, url, options) => {
    const login = { username: 'sensor', password: PASSWORD, reconnectPeriod: 0, ...options() };
    const client = await connectAsync(url(), { ...login, clientId: `js-${name}` });
    const heard: string[] = [];
    client.on('message', (topic, payload) => heard.push(`${topic} ${payload.toString()}`));
    await client.subscribeAsync(`js-${name}/#`, { qos: 1 });
    for (const qos of [0, 1, 2] as const)
      await client.publishAsync(`js-${name}/x`, `q${qos}`, { qos });
    await client.publishAsync(`js-${name}/r`, 'kept', { qos: 1, retain: true });
    await until('what was published', () => heard.length === 4 || undefined);
    expect(heard.toSorted()).toEqual([
      `js-${name}/r kept`,
      ...[0, 1, 2].map((qos) => `js-${name}/x q${qos}`),
    ]);
    expect(await stored(`js-${name}/x`)).toEqual(['q0', 'q1', 'q2']);
    // A payload that is larger than a WebSocket frame or a TLS record.
    await client.publishAsync(`js-${name}/large`, 'x'.repeat(200_000), { qos: 1 });
    await client.endAsync();
    await expect(connectAsync(url(), { ...login, password: 'wrong' })).rejects.toThrow(
      /Not authorized/,
    );
  });

  it.each([
    'mqtts',
    'wss',
  ])('%s with a client certificate, whose name is the user', async (scheme) => {
    const url = `${scheme}://localhost:${gateway.port(scheme)}`;
    const certified = {
      ca: readFileSync(authority.cert),
      cert: readFileSync(device.cert),
      key: readFileSync(device.key),
      reconnectPeriod: 0,
    };
    const client = await connectAsync(url, { ...certified, clientId: `cert-${scheme}` });
    await client.publishAsync(`cert-${scheme}`, '1', { qos: 1 });
    await client.endAsync();
    expect(await stored(`cert-${scheme}`)).toEqual(['1']);
    await expect(
      connectAsync(url, { ...certified, username: 'sensor', password: PASSWORD }),
    ).rejects.toThrow(/Not authorized/);
    const other = new Authority(join(folder, `other-${scheme}`), 'Other').issue({
      name: 'press-7',
    });
    const foreign = connect(url, {
      ...certified,
      cert: readFileSync(other.cert),
      key: readFileSync(other.key),
    });
    foreign.on('error', () => undefined); // TLS 1.3: it is told after its own handshake has ended.
    const outcome = await new Promise((resolve) => {
      foreign.once('connect', () => resolve('connected'));
      foreign.once('close', () => resolve('closed'));
    });
    expect(outcome).toBe('closed');
    foreign.end(true);
  });

  it('a WebSocket without the subprotocol, or with text, is refused', async () => {
    const plain = new WebSocket(`ws://127.0.0.1:${gateway.port('ws')}/`);
    await expect(
      new Promise((resolve, reject) => plain.once('open', resolve).once('error', reject)),
    ).rejects.toThrow(/400/);
    const text = new WebSocket(`ws://127.0.0.1:${gateway.port('ws')}/`, 'mqtt');
    await new Promise((resolve) => text.once('open', resolve));
    text.send('hello');
    await new Promise((resolve) => text.once('close', resolve));
    const page = await fetch(`http://127.0.0.1:${gateway.port('ws')}/`);
    expect([page.status, await page.text()]).toEqual([
      426,
      expect.stringMatching(/subprotocol mqtt/),
    ]);
  });
});

describe('mosquitto_pub and mosquitto_sub', () => {
  const login = ['-u', 'sensor', '-P', PASSWORD];
  const cases: [name: string, args: () => string[]][] = [
    ['TCP with a password', () => ['-p', String(gateway.port('mqtt')), ...login]],
    [
      'TLS with a password',
      () => [
        '-h',
        'localhost',
        '-p',
        String(gateway.port('mqtts')),
        '--cafile',
        authority.cert,
        ...login,
      ],
    ],
    [
      'TLS with a certificate',
      () => [
        '-h',
        'localhost',
        '-p',
        String(gateway.port('mqtts')),
        '--cafile',
        authority.cert,
        '--cert',
        device.cert,
        '--key',
        device.key,
      ],
    ],
  ];
  it.each(cases)('%s', async (name, args) => {
    const topic = `mosquitto/${name.replaceAll(' ', '-')}`;
    const listener = spawn('mosquitto_sub', [
      ...args(),
      '-t',
      topic,
      '-q',
      '2',
      '-C',
      '3',
      '-W',
      '20',
    ]);
    let heard = '';
    listener.stdout.on('data', (chunk: Buffer) => {
      heard += chunk.toString();
    });
    const ended = new Promise<number>((resolve) =>
      listener.on('close', (code) => resolve(code ?? 1)),
    );
    await until(
      'the subscription',
      async () =>
        /headwater_ingress_connections [1-9]/.test(
          await (await fetch(`http://${gateway.address['http']}/metrics`)).text(),
        ) || undefined,
    );
    await new Promise((resolve) => setTimeout(resolve, 300));
    for (const qos of ['0', '1', '2'])
      await run('mosquitto_pub', [...args(), '-t', topic, '-m', `q${qos}`, '-q', qos]);
    expect(await ended).toBe(0);
    expect(heard.split('\n').filter(Boolean).toSorted()).toEqual(['q0', 'q1', 'q2']);
    expect(await stored(topic)).toEqual(['q0', 'q1', 'q2']);
  });
  it('wrong credentials and an unknown authority are refused', async () => {
    await expect(
      run('mosquitto_pub', [
        '-p',
        String(gateway.port('mqtt')),
        '-u',
        'sensor',
        '-P',
        'wrong',
        '-t',
        'a',
        '-m',
        '1',
      ]),
    ).rejects.toThrow(/not authori/i);
    const other = new Authority(join(folder, 'unknown'), 'Unknown');
    await expect(
      run('mosquitto_pub', [
        '-h',
        'localhost',
        '-p',
        String(gateway.port('mqtts')),
        '--cafile',
        other.cert,
        ...login,
        '-t',
        'a',
        '-m',
        '1',
      ]),
    ).rejects.toThrow();
  });
});

describe('paho-mqtt', () => {
  const SCRIPT = `
import ssl, sys, threading
import paho.mqtt.client as mqtt
transport, host, port, ca, cert, key, user, password, topic = sys.argv[1:]
heard, done, ready = [], threading.Event(), threading.Event()
c = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id="paho-" + topic.replace("/", "-"), transport="websockets" if transport.startswith("ws") else "tcp")
if user: c.username_pw_set(user, password)
if transport in ("mqtts", "wss"): c.tls_set(ca, cert or None, key or None)
def on_connect(client, userdata, flags, reason, properties):
    if reason.is_failure:
        print("refused", reason); done.set(); return
    client.subscribe(topic, 1)
def on_message(client, userdata, message):
    heard.append(message.payload.decode())
    if len(heard) == 3: done.set()
c.on_connect, c.on_message = on_connect, on_message
c.on_subscribe = lambda *args: ready.set()
c.connect(host, int(port), 20)
c.loop_start()
if ready.wait(10):
    for qos in (0, 1, 2):
        info = c.publish(topic, "q%d" % qos, qos)
        info.wait_for_publish(10)
done.wait(10)
c.disconnect(); c.loop_stop()
print(",".join(sorted(heard)))
`;
  const paho = async (
    transport: string,
    topic: string,
    user = 'sensor',
    password = PASSWORD,
    pair?: Pair,
  ): Promise<string> => {
    const script = join(folder, 'client.py');
    writeFileSync(script, SCRIPT);
    const name = { mqtt: 'mqtt', mqtts: 'mqtts', ws: 'ws', wss: 'wss' }[transport] as string;
    const { stdout } = await run(PAHO_PYTHON, [
      script,
      transport,
      'localhost',
      String(gateway.port(name)),
      authority.cert,
      pair?.cert ?? '',
      pair?.key ?? '',
      user,
      password,
      topic,
    ]);
    return stdout.trim();
  };
  it.each(['mqtt', 'mqtts', 'ws', 'wss'])('%s with a password', async (transport) => {
    expect(await paho(transport, `paho/${transport}`)).toBe('q0,q1,q2');
    expect(await stored(`paho/${transport}`)).toEqual(['q0', 'q1', 'q2']);
  });
  it('TLS with a certificate; a wrong password is refused', async () => {
    expect(await paho('mqtts', 'paho/cert', '', '', device)).toBe('q0,q1,q2');
    expect(await paho('mqtt', 'paho/wrong', 'sensor', 'wrong')).toMatch(/refused Not authorized/);
  });
});
