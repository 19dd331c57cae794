/** Strangers at fourteen addresses and more, who take every place there is and say nothing: an address that has none still gets in. */
import { request } from 'node:http';
import { connect, type Socket } from 'node:net';
import { afterEach, expect, it } from 'vitest';
import { CONNECTIONS_MAX } from '../../shared/http/server.ts';
import { runGateway, type RunningGateway } from '../support/gateway.ts';
import { tryConnect } from '../support/hostile.ts';
import { encodePublish } from '../support/load.ts';
import { temporaryFolder, until } from '../support/process.ts';
import { connected, type RawClient } from '../support/raw-mqtt.ts';

let running: RunningGateway | undefined;
const strangers: Socket[] = [];
afterEach(async () => {
  for (const socket of strangers.splice(0)) socket.destroy();
  await running?.gateway.close();
  running = undefined;
});

const address = (index: number): string => `127.3.0.${1 + index}`;

/** So many connections from twenty addresses, each of which takes what it gets; gives those that stay open. */
async function crowd(port: number, count: number, says = ''): Promise<Socket[]> {
  const open = await Promise.all(
    Array.from({ length: count }, async (_, at) => {
      const socket = connect({ host: '127.0.0.1', port, localAddress: address(at % 20) });
      strangers.push(socket);
      socket.on('error', () => undefined);
      await new Promise<void>((resolve) => {
        socket.once('connect', () => resolve());
        socket.once('close', () => resolve());
      });
      socket.write(says);
      return socket;
    }),
  );
  await new Promise((resolve) => setTimeout(resolve, 300));
  return open.filter((socket) => !socket.destroyed && socket.readyState === 'open');
}

async function puback(client: RawClient): Promise<void> {
  const from = client.received().length;
  client.send(encodePublish('t', 'x', 1, 7));
  await client.bytes(from + 4);
}

it('MQTT: who says nothing gives way, the longest first; who is in stays in', async () => {
  running = await runGateway(temporaryFolder(), { 'limits.connectionsMax': '40' });
  const { port } = running;
  const first = await connected(port, 'first', undefined, '127.0.0.3');
  // Some are in as others are: they are nobody's to close.
  const inside = await connected(port, 'inside', undefined, address(0));
  await crowd(port, 100);
  expect(await running.metric('headwater_limit_used{limit="connections"}')).toBeGreaterThan(38);
  const late: RawClient[] = [];
  for (let at = 0; at < 8; at++) {
    const { code, client } = await tryConnect(port, { id: `late-${at}` }, `127.0.0.${10 + at}`);
    expect(code).toBe(0);
    late.push(client);
  }
  for (const client of [first, inside, ...late]) await puback(client);
  // One that has a place gets no other's.
  const more = await tryConnect(port, { id: 'more' }, '127.0.0.10');
  expect(more.code).toBe(255);
  expect(await running.metric('headwater_limit_used{limit="connections"}')).toBe(40);
});

const IDLE: [what: string, says: string][] = [
  ['say nothing', ''],
  ['begin a request', 'GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nX-A: '],
  ['were answered', 'GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n'],
  [
    'send no body',
    'POST /api/v1/ingest?topic=t HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9\r\n\r\n{',
  ],
];
it.each(IDLE)('HTTP: connections that %s give way', async (_what, says) => {
  running = await runGateway(temporaryFolder());
  const port = Number(new URL(running.http).port);
  await crowd(port, CONNECTIONS_MAX + 200, says);
  const ask = (from: string): Promise<number> =>
    new Promise((resolve) => {
      const sent = request(
        { host: '127.0.0.1', port, path: '/healthz', localAddress: from, agent: false },
        (response) => {
          response.resume();
          resolve(response.statusCode ?? 0);
        },
      );
      sent.on('error', () => resolve(0));
      sent.end();
    });
  // From an address that has some already, there is none: that they are all taken is what is tried.
  expect(await ask(address(0))).toBe(0);
  for (let at = 0; at < 10; at++) expect(await ask(`127.0.0.${10 + at}`)).toBe(200);
  await until('places of those that went', () => ask('127.0.0.10').then((code) => code === 200));
});
