/**
 * A load of pre-encoded QoS 1 PUBLISH packets over raw sockets, so that the client costs as little as it
 * can and the same bytes go to every server. Counts an acknowledgement when its bytes have arrived.
 */
import { readFileSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';

export interface LoadOptions {
  host: string;
  port: number;
  connections: number;
  /** In all. */
  messages: number;
  /** Unacknowledged per connection. */
  window: number;
  /** Payload of message `index` (counted over all connections) from connection `connection`. */
  payload: (index: number, connection: number) => string;
  topic: (connection: number) => string;
  qos?: 0 | 1;
  /** Of MQTT; left out: 4, which is 3.1.1. */
  version?: 4 | 5;
  clientPrefix?: string;
  /** Called with each acknowledged message's index. */
  onAck?: (index: number) => void;
  /** Called for each PUBLISH that is handed to the socket. */
  onSend?: (index: number) => void;
  /** CONNECT of a client; without it one without credentials. */
  connect?: (clientId: string) => Buffer;
  /** Authority (PEM file) of a server that speaks TLS. */
  ca?: string;
}

export interface LoadResult {
  acknowledged: number;
  sent: number;
  seconds: number;
  /** Of a sample of acknowledgements, milliseconds, ascending. */
  latenciesMs: Float64Array;
  /** Connections that ended before their last acknowledgement. */
  broken: number;
}

/** A climate reading of about 70 bytes whose digits vary, as a sensor's do. */
export function climate(index: number): string {
  const noise = Math.imul(index + 1, 2654435761) >>> 0;
  return `{"temperature":${(15 + (noise % 1500) / 100).toFixed(2)},"humidity":${(30 + ((noise >>> 11) % 4000) / 100).toFixed(2)},"ts":${1_700_000_000_000 + index}}`;
}

export function encodeConnect(clientId: string, version: 4 | 5 = 4): Buffer {
  const id = Buffer.from(clientId);
  const properties = version === 5 ? [0] : [];
  return Buffer.concat([
    Buffer.from([0x10, 12 + properties.length + id.length, 0, 4]),
    Buffer.from('MQTT'),
    Buffer.from([version, 2, 0, 0, ...properties, id.length >> 8, id.length & 255]),
    id,
  ]);
}

export function encodePublish(
  topic: string,
  payload: Buffer | string,
  qos: number,
  packetId: number,
  flags = 0,
  version: 4 | 5 = 4,
): Buffer {
  const name = Buffer.from(topic);
  const properties = Buffer.alloc(version === 5 ? 1 : 0);
  const body = Buffer.from(payload);
  const length = 2 + name.length + (qos > 0 ? 2 : 0) + properties.length + body.length;
  const head: number[] = [0x30 | (qos << 1) | flags];
  for (let rest = length; ; ) {
    const byte = rest % 128;
    rest = Math.floor(rest / 128);
    head.push(rest > 0 ? byte | 0x80 : byte);
    if (rest === 0) break;
  }
  head.push(name.length >> 8, name.length & 255);
  const id = qos > 0 ? Buffer.from([packetId >> 8, packetId & 255]) : Buffer.alloc(0);
  return Buffer.concat([Buffer.from(head), name, id, properties, body]);
}

const CHUNK = 64;

async function open(options: LoadOptions, connection: number): Promise<Socket> {
  const { host, port, ca } = options;
  const socket =
    ca === undefined
      ? connect({ host, port, noDelay: true })
      : connectTls({ host, port, ca: readFileSync(ca) }).setNoDelay(true);
  await new Promise<void>((resolve, reject) => {
    socket.once('error', reject);
    socket.once('close', () => reject(new Error('closed before CONNACK')));
    socket.setTimeout(10_000, () => socket.destroy());
    socket.once(ca === undefined ? 'connect' : 'secureConnect', () => {
      const id = `${options.clientPrefix ?? 'load'}-${connection}`;
      socket.write(options.connect?.(id) ?? encodeConnect(id, options.version));
      socket.once('data', (chunk: Buffer) => {
        socket.off('error', reject);
        socket.setTimeout(0);
        if (chunk[0] === 0x20 && chunk[3] === 0) resolve();
        else reject(new Error(`CONNACK refused: ${chunk.toString('hex')}`));
      });
    });
  });
  return socket;
}

interface Plan {
  socket: Socket;
  /** Pre-encoded chunks and how many messages each holds. */
  chunks: { bytes: Buffer; count: number }[];
  indexes: number[];
}

async function prepare(options: LoadOptions, connection: number): Promise<Plan> {
  const indexes: number[] = [];
  for (let index = connection; index < options.messages; index += options.connections)
    indexes.push(index);
  const chunks: Plan['chunks'] = [];
  const topic = options.topic(connection);
  for (let start = 0; start < indexes.length; start += CHUNK) {
    const part = indexes.slice(start, start + CHUNK);
    const packets = part.map((index, offset) =>
      encodePublish(
        topic,
        options.payload(index, connection),
        options.qos ?? 1,
        ((start + offset) % 65535) + 1,
        0,
        options.version,
      ),
    );
    chunks.push({ bytes: Buffer.concat(packets), count: part.length });
  }
  return { socket: await open(options, connection), chunks, indexes };
}

/** Sends everything and waits for the last acknowledgement, or until every connection has broken. */
export async function runLoad(options: LoadOptions): Promise<LoadResult> {
  const plans = await Promise.all(
    Array.from({ length: options.connections }, (_, connection) => prepare(options, connection)),
  );
  const latencies: number[] = [];
  let acknowledged = 0;
  let sent = 0;
  let broken = 0;
  const started = performance.now();
  await Promise.all(
    plans.map(
      ({ socket, chunks, indexes }) =>
        new Promise<void>((resolve) => {
          let next = 0;
          let sentHere = 0;
          let ackedHere = 0;
          let ackBytes = 0;
          /** Bytes of one: a server may add a reason in version 5, to each of this load alike. */
          let ackSize = 0;
          const times: number[] = [];
          const end = (): void => {
            if (ackedHere < indexes.length && (options.qos ?? 1) === 1) broken++;
            socket.destroy();
            resolve();
          };
          const fill = (): void => {
            while (next < chunks.length && sentHere - ackedHere < options.window) {
              const chunk = chunks[next++];
              if (chunk === undefined) break;
              times.push(performance.now());
              if (options.onSend !== undefined)
                for (let i = 0; i < chunk.count; i++) options.onSend(indexes[sentHere + i] ?? -1);
              sentHere += chunk.count;
              sent += chunk.count;
              socket.write(chunk.bytes);
            }
          };
          socket.on('error', () => undefined);
          socket.on('close', end);
          socket.on('data', (bytes: Buffer) => {
            ackBytes += bytes.length;
            if (ackSize === 0) ackSize = 2 + (bytes[1] ?? 2);
            const acks = Math.floor(ackBytes / ackSize);
            ackBytes -= acks * ackSize;
            if (options.onAck !== undefined)
              for (let i = 0; i < acks; i++) options.onAck(indexes[ackedHere + i] ?? -1);
            const chunkBefore = Math.floor(ackedHere / CHUNK);
            ackedHere += acks;
            acknowledged += acks;
            const now = performance.now();
            for (let chunk = chunkBefore; chunk < Math.floor(ackedHere / CHUNK); chunk++)
              latencies.push(now - (times[chunk] ?? now));
            if (ackedHere >= indexes.length) return end();
            return fill();
          });
          if ((options.qos ?? 1) === 0) {
            for (const chunk of chunks) socket.write(chunk.bytes);
            socket.end(Buffer.from([0xe0, 0]), end);
          } else {
            fill();
          }
        }),
    ),
  );
  return {
    acknowledged,
    sent,
    seconds: (performance.now() - started) / 1000,
    latenciesMs: Float64Array.from(latencies).sort(),
    broken,
  };
}
