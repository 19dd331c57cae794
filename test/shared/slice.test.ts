/** Who is served when more comes at once than a turn of the event loop has time for. */
import { Duplex } from 'node:stream';
import { expect, it } from 'vitest';
import { MqttConnection, type MqttHandler } from '../../shared/mqtt/connection.ts';
import { LOCAL_PEER } from '../../shared/mqtt/protocol.ts';
import { Slice } from '../../shared/net/slice.ts';
import { encodeConnect, encodePublish } from '../support/load.ts';
import { until } from '../support/process.ts';

it('a turn has its time and no more; who waits is served in turn, whoever has more that waits', async () => {
  let nowUs = 0;
  const slice = new Slice(() => nowUs);
  expect(slice.mayGoOn()).toBe(true);
  nowUs += 6000;
  expect(slice.mayGoOn()).toBe(false);
  const order: string[] = [];
  const work = (name: string) => (): void => {
    order.push(name);
    nowUs += 2000;
  };
  for (let at = 0; at < 5; at++) slice.wait('many', work(`many ${at}`));
  slice.wait('one', work('one'));
  // Somebody waits: nobody goes before him.
  expect(slice.mayGoOn()).toBe(false);
  await new Promise((resolve) => setImmediate(resolve));
  await new Promise((resolve) => setTimeout(resolve, 0));
  // In each turn what has begun within 5 ms.
  expect(order.slice(0, 3)).toEqual(['many 0', 'one', 'many 1']);
  await until('all', () => order.length === 6 || undefined);
  await until('a turn that is not used', () => slice.mayGoOn() || undefined);
});

it('a user who comes from many addresses has the turns of one', async () => {
  let nowUs = 0;
  const slice = new Slice(() => nowUs);
  const order: string[] = [];
  const handler: MqttHandler = {
    limits: {
      connectBytesMax: 4096,
      packetBytesMax: 65_536,
      clientIdBytesMax: 256,
      filtersMax: 10,
    },
    attach: () => undefined,
    publish: ({ clientId }) => {
      order.push(clientId);
      nowUs += 6000;
    },
    pubrel: () => undefined,
    closed: () => undefined,
  };
  const open = (clientId: string, user: string, address: string): Duplex => {
    const socket = new Duplex({
      read: () => undefined,
      write: (_chunk, _encoding, done) => done(),
    });
    const peer = { ...LOCAL_PEER, address };
    const connection = new MqttConnection(socket, handler, () => nowUs, peer, slice);
    connection.user = user;
    socket.emit('data', encodeConnect(clientId));
    connection.opened(clientId);
    return socket;
  };
  const bad = Array.from({ length: 50 }, (_, at) => open(`bad-${at}`, 'bad', `127.1.0.${at}`));
  const good = open('good', 'good', '127.0.0.3');
  await new Promise((resolve) => setTimeout(resolve, 5));
  expect(slice.mayGoOn()).toBe(true);
  nowUs += 6000;
  for (const socket of [...bad, good]) socket.emit('data', encodePublish('t', 'x', 0, 0));
  await until('all', () => order.length === 51 || undefined);
  expect(order.indexOf('good')).toBeLessThan(3);
});
