/** What the hostile tests have in common: raw CONNECT packets with everything in them, and whether a server is ALIVE. */
import { readFileSync } from 'node:fs';
import { expect } from 'vitest';
import { encodePublish } from './load.ts';
import { crowding, type Headwater } from './process.ts';
import { connected, rawClient, type RawClient } from './raw-mqtt.ts';

export const MIB = 1024 * 1024;

export interface ConnectFields {
  id: string | Buffer;
  clean?: boolean;
  user?: string | Buffer;
  password?: string;
  will?: { topic: string; payload: string; retain?: boolean };
}

const run = (value: string | Buffer): Buffer => {
  const bytes = Buffer.from(value as string);
  const size = Buffer.alloc(2);
  size.writeUInt16BE(bytes.length);
  return Buffer.concat([size, bytes]);
};

export function remaining(length: number): Buffer {
  const bytes: number[] = [];
  for (let rest = length; ; ) {
    const byte = rest % 128;
    rest = Math.floor(rest / 128);
    bytes.push(rest > 0 ? byte | 0x80 : byte);
    if (rest === 0) return Buffer.from(bytes);
  }
}

export const packet = (first: number, body: Buffer): Buffer =>
  Buffer.concat([Buffer.from([first]), remaining(body.length), body]);

export function connectPacket({ id, clean = true, user, password, will }: ConnectFields): Buffer {
  const flags =
    (clean ? 2 : 0) |
    (will === undefined ? 0 : 4 | (will.retain === true ? 32 : 0)) |
    (user === undefined ? 0 : 128) |
    (password === undefined ? 0 : 64);
  return packet(
    0x10,
    Buffer.concat([
      run('MQTT'),
      Buffer.from([4, flags, 0, 0]),
      run(id),
      ...(will === undefined ? [] : [run(will.topic), run(will.payload)]),
      ...(user === undefined ? [] : [run(user)]),
      ...(password === undefined ? [] : [run(password)]),
    ]),
  );
}

export const subscribePacket = (id: number, ...filters: (string | Buffer)[]): Buffer =>
  packet(
    0x82,
    Buffer.concat([
      Buffer.from([id >> 8, id & 255]),
      ...filters.flatMap((filter) => [run(filter), Buffer.from([1])]),
    ]),
  );

export const publishRaw = (topic: Buffer, payload = 'x', qos = 1, id = 1): Buffer =>
  packet(
    0x30 | (qos << 1),
    Buffer.concat([
      run(topic),
      qos > 0 ? Buffer.from([id >> 8, id & 255]) : Buffer.alloc(0),
      Buffer.from(payload),
    ]),
  );

/** CONNACK's return code; 255 when it was closed without one. */
export async function tryConnect(
  port: number,
  fields: ConnectFields,
  from?: string,
): Promise<{ code: number; client: RawClient }> {
  const client = await rawClient(port, from);
  client.send(connectPacket(fields));
  const deadline = performance.now() + 10_000;
  while (client.received().length < 4 && !client.isClosed() && performance.now() < deadline)
    await new Promise((resolve) => setTimeout(resolve, 5));
  return { code: client.received()[3] ?? 255, client };
}

export const rssBytes = (pid: number): number =>
  Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? 0) * 1024;

/** CPU time of a process, milliseconds. */
export function cpuMs(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ') ?? [];
  return (Number(fields[11]) + Number(fields[12])) * 10;
}

export class Alive {
  private readonly server: Headwater;
  private readonly baseline: number;
  private readonly login: ConnectFields | undefined;
  private readonly topic: string;
  private count = 0;

  /** `login` of a well-behaved client, where one is asked for. */
  constructor(server: Headwater, login?: ConnectFields, topic = 'alive/1') {
    this.server = server;
    this.baseline = rssBytes(server.pid);
    this.login = login;
    this.topic = topic;
  }

  /** The process lives, within 64 MB of its baseline, and a well-behaved client gets its PUBACK within a second (on a machine that is free). */
  async check(what: string): Promise<void> {
    const { server, login } = this;
    const port = server.port('mqtt');
    const id = `${login?.id ?? 'alive'}-${++this.count}`;
    const began = performance.now();
    const client =
      login === undefined
        ? await connected(port, id)
        : await connected(port, id, connectPacket({ ...login, id: login.id }));
    client.send(encodePublish(this.topic, '1', 1, 7));
    expect((await client.bytes(8)).subarray(4).toString('hex'), what).toBe('40020007');
    expect(performance.now() - began, `${what}: PUBACK in time`).toBeLessThan(1000 * crowding());
    client.socket.destroy();
    // A burst is given back within a moment; what is kept is not.
    const deadline = performance.now() + 20_000;
    while (rssBytes(server.pid) - this.baseline > 64 * MIB && performance.now() < deadline)
      await new Promise((resolve) => setTimeout(resolve, 200));
    expect(rssBytes(server.pid) - this.baseline, `${what}: memory`).toBeLessThan(64 * MIB);
  }
}
