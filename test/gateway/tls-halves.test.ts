/** Who opens a TLS port and never finishes its handshake: let go of in time, in its share, and nobody else is kept waiting. */
import { once } from 'node:events';
import { connect, createServer, type AddressInfo, type Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { selfSigned } from '../support/certificates.ts';
import { runGateway, type RunningGateway } from '../support/gateway.ts';
import { encodeConnect } from '../support/load.ts';
import { temporaryFolder } from '../support/process.ts';

const PER_ADDRESS = 20;
const PORTS = ['mqtts', 'wss'] as const;
let running: RunningGateway;
let hello: Buffer;
const ports = new Map<string, number>();

/** A ClientHello as a real client says it. */
async function clientHello(): Promise<Buffer> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const client = connectTls({ host: '127.0.0.1', port: (server.address() as AddressInfo).port });
  client.on('error', () => undefined);
  const [socket] = (await once(server, 'connection')) as [Socket];
  const [bytes] = (await once(socket, 'data')) as [Buffer];
  client.destroy();
  server.close();
  return bytes;
}

beforeAll(async () => {
  const folder = temporaryFolder();
  const { cert, key } = selfSigned(folder, '127.0.0.1');
  running = await runGateway(
    temporaryFolder(),
    {
      'limits.connectTimeoutMs': '1000',
      'limits.connectionsPerAddressMax': String(PER_ADDRESS),
    },
    {
      ...{ 'tls-cert': cert, 'tls-key': key },
      ...{ mqtts: '127.0.0.1:0', wss: '127.0.0.1:0' },
    },
  );
  for (const name of PORTS) ports.set(name, running.addresses[name]?.port ?? 0);
  hello = await clientHello();
});
afterAll(async () => await running.gateway.close());

/** Writes so much of a ClientHello, all of it at once or a byte now and then, and waits for the end. */
async function half(
  port: number,
  bytes: number,
  everyMs: number,
  from = '127.0.0.1',
): Promise<void> {
  const socket = connect({ host: '127.0.0.1', port, localAddress: from });
  socket.on('error', () => undefined);
  let at = 0;
  const drip = setInterval(() => socket.write(hello.subarray(at, ++at)), everyMs || 1e6);
  if (everyMs === 0) socket.write(hello.subarray(0, bytes));
  socket.resume();
  await new Promise((resolve) => socket.on('close', resolve));
  clearInterval(drip);
}

describe.each(PORTS)('%s', (name) => {
  it('nothing, half a ClientHello, a byte now and then, and silence after a whole one: closed in time', async () => {
    const port = ports.get(name) ?? 0;
    const begun = performance.now();
    await Promise.all([
      half(port, 0, 0),
      half(port, Math.floor(hello.length / 2), 0),
      half(port, hello.length, 200),
      half(port, hello.length, 0),
    ]);
    expect(performance.now() - begun).toBeLessThan(20_000);
  });
});

it('such ones have their share of MQTT over TLS, and another address is served', async () => {
  const port = ports.get('mqtts') ?? 0;
  const all = Array.from({ length: PER_ADDRESS * 2 }, () => half(port, 10, 0, '127.0.0.2'));
  const other = connectTls({ host: '127.0.0.1', port, rejectUnauthorized: false });
  await once(other, 'secureConnect');
  other.write(encodeConnect('a-good-one'));
  const [connack] = (await once(other, 'data')) as [Buffer];
  expect([...connack]).toEqual([0x20, 2, 0, 0]);
  other.destroy();
  await Promise.all(all);
  expect(await running.metric('headwater_ingress_connections_refused_total')).toBe(PER_ADDRESS);
});
