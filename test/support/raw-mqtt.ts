/** A raw MQTT client: sends exactly these bytes and shows exactly what comes back. */
import { connect, type Socket } from 'node:net';
import { encodeConnect } from './load.ts';
import { until } from './process.ts';

export interface RawClient {
  socket: Socket;
  send(bytes: Buffer | number[]): void;
  received(): Buffer;
  /** Waits until so many bytes have come. */
  bytes(count: number): Promise<Buffer>;
  closed(): Promise<true>;
  isClosed(): boolean;
}

/** `from` is the address that it comes from, for being somebody else. */
export async function rawClient(port: number, from = '127.0.0.1'): Promise<RawClient> {
  const socket = connect({ host: '127.0.0.1', port, noDelay: true, localAddress: from });
  let received = Buffer.alloc(0);
  let closed = false;
  socket.on('data', (chunk: Buffer) => {
    received = Buffer.concat([received, chunk]);
  });
  socket.on('error', () => undefined);
  socket.on('close', () => {
    closed = true;
  });
  await new Promise<void>((resolve) => socket.once('connect', () => resolve()));
  return {
    socket,
    send: (bytes) => void socket.write(Buffer.from(bytes)),
    received: () => received,
    bytes: async (count) =>
      await until(
        `${count} bytes`,
        () => (received.length >= count ? received : undefined),
        10_000,
      ),
    closed: async () => await until('the connection to close', () => closed || undefined, 15_000),
    isClosed: () => closed,
  };
}

/** Connected with a clean session, CONNACK taken off. */
export async function connected(
  port: number,
  clientId: string,
  connectBytes = encodeConnect(clientId),
  from?: string,
): Promise<RawClient> {
  const client = await rawClient(port, from);
  client.send(connectBytes);
  const ack = await client.bytes(4);
  if (ack[3] !== 0) throw new Error(`CONNACK ${ack.toString('hex')}`);
  return client;
}

export const connectWith = (
  clientId: string,
  flags: number,
  keepAlive = 0,
  more: Buffer = Buffer.alloc(0),
): Buffer => {
  const id = Buffer.from(clientId);
  const body = Buffer.concat([
    Buffer.from([0, 4]),
    Buffer.from('MQTT'),
    Buffer.from([4, flags, keepAlive >> 8, keepAlive & 255, id.length >> 8, id.length & 255]),
    id,
    more,
  ]);
  return Buffer.concat([
    Buffer.from(
      body.length < 128 ? [0x10, body.length] : [0x10, (body.length & 127) | 128, body.length >> 7],
    ),
    body,
  ]);
};
