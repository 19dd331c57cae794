/** The uplink's suite: the gateway's side against the collector's, over real TCP, with a link that can be cut. */
import { createServer, connect, type Server, type Socket } from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import { connectAsync } from 'mqtt';
import { openBuffer } from '../../gateway/buffer/open.ts';
import type { MessageBuffer } from '../../gateway/buffer/buffer.ts';
import { GatewayClock } from '../../gateway/buffer/clock.ts';
import { Uplink, type UplinkOptions } from '../../gateway/uplink/uplink.ts';
import { realEnv } from '../../shared/env/env.ts';
import { FrameBuilder } from '../../shared/frame/builder.ts';
import { encodeUp, upTopic } from '../../shared/wire/wire.ts';
import { message } from '../contract/buffer.ts';
import { far } from '../support/far.ts';
import { temporaryFolder, until } from '../support/process.ts';

const MIB = 1024 * 1024;
const env = realEnv();
const cleanups: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).toReversed()) await cleanup();
});

async function near(
  collectors: string[],
  more: Partial<UplinkOptions> = {},
): Promise<{ buffer: MessageBuffer<number>; uplink: Uplink; durable: number[] }> {
  const durable: number[] = [];
  let uplink: Uplink | undefined;
  const clock = new GatewayClock(env, false);
  const buffer = await openBuffer<number>(
    env,
    {
      folder: temporaryFolder(),
      gateway: 'gw',
      diskBytesMax: 256 * MIB,
      reserveBytes: MIB,
      frameBytes: 4096,
      pendingBytesMax: MIB,
      cacheBytes: 64 * 1024,
      historyBytesMax: 64 * MIB,
      policy: 'block',
      clock,
      compress: true,
    },
    {
      onDurable: (tickets) => durable.push(...tickets),
      onFrame: () => uplink?.wake(),
      onRelief: () => undefined,
      onNotice: () => undefined,
    },
  );
  uplink = new Uplink(
    env,
    {
      gateway: 'gw',
      collectors,
      tls: { caFile: '', certFile: '', keyFile: '' },
      secret: undefined,
      windowBytes: 64 * 1024,
      publishBytesMax: 16 * 1024,
      ackTimeoutMs: 1000,
      keepAliveSeconds: 5,
      reconnectMs: { first: 50, most: 200 },
      bytesPerSecond: 0,
      bytesPerDay: 0,
      statusMs: 10_000,
      order: 'oldest',
      liveAgeMs: 2000,
      backlogAgeMaxMs: 0,
      ...more,
    },
    buffer,
    clock,
    () => undefined,
  );
  const started = uplink;
  cleanups.push(async () => {
    await started.stop();
    await buffer.close();
  });
  return { buffer, uplink, durable };
}

/** A TCP link that can be cut, or swallow everything without a word (half-open). */
async function link(
  to: number,
): Promise<{ port: number; cut(): void; swallow: (on: boolean) => void }> {
  const sockets = new Set<Socket>();
  let swallowing = false;
  const server: Server = createServer((socket) => {
    const other = connect({ host: '127.0.0.1', port: to });
    for (const each of [socket, other]) {
      sockets.add(each);
      each.on('error', () => undefined);
      each.on('close', () => {
        sockets.delete(each);
        socket.destroy();
        other.destroy();
      });
    }
    socket.on('data', (chunk) => void (swallowing || other.write(chunk)));
    other.on('data', (chunk) => void (swallowing || socket.write(chunk)));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  cleanups.push(
    () =>
      new Promise((resolve) => {
        for (const socket of sockets) socket.destroy();
        server.close(() => resolve());
      }),
  );
  return {
    port: (server.address() as { port: number }).port,
    cut: () => {
      for (const socket of sockets) socket.destroy();
    },
    swallow: (on) => {
      swallowing = on;
    },
  };
}

const fill = async (
  buffer: MessageBuffer<number>,
  durable: number[],
  from: number,
  to: number,
): Promise<void> => {
  for (let i = from; i < to; i++) buffer.append(message(`m${i}`.padEnd(100, '.')), i);
  await until('durable', () => durable.length >= to || undefined);
};
const expected = (count: number): string[] =>
  Array.from({ length: count }, (_, i) => `m${i}`.padEnd(100, '.'));
const drained = (buffer: MessageBuffer<number>): Promise<true> =>
  until('an empty buffer', () => buffer.stats().waitingMessages === 0 || undefined);

describe('uplink', () => {
  it('brings everything once, in order, and frees the buffer only after the log has it', async () => {
    const { port, arrived } = await far(cleanups);
    const { buffer, uplink, durable } = await near([`mqtt://127.0.0.1:${port}`]);
    await fill(buffer, durable, 0, 5000);
    expect(buffer.stats().waitingMessages).toBe(5000);
    await uplink.start();
    await drained(buffer);
    const { payloads, identities } = await arrived();
    expect(payloads).toEqual(expected(5000));
    expect(identities.size).toBe(5000);
    // And the anchor of this boot's clock, which is a frame of its own.
    expect(uplink.stats().acknowledgedMessages).toBe(5001);
  });

  it('what the log does not take is not acknowledged and stays in the buffer', async () => {
    let full: string | undefined = 'no space';
    const { port, arrived } = await far(cleanups, { refuse: () => full });
    const { buffer, uplink, durable } = await near([`mqtt://127.0.0.1:${port}`], {
      ackTimeoutMs: 600,
    });
    await fill(buffer, durable, 0, 500);
    await uplink.start();
    await until('a link given up', () => uplink.stats().ackTimeouts > 0 || undefined);
    expect(buffer.stats().waitingMessages).toBe(501); // With the clock's anchor.
    expect((await arrived()).records).toBe(0);
    full = undefined;
    await drained(buffer);
    expect((await arrived()).identities.size).toBe(500);
  });

  it('what was on its way when a connection ended may be there: nothing is to thin or drop it', async () => {
    const { port } = await far(cleanups, { refuse: () => 'no space' });
    const { buffer, uplink, durable } = await near([`mqtt://127.0.0.1:${port}`]);
    await fill(buffer, durable, 0, 50);
    const [first] = await buffer.read(undefined, 1);
    const position = first?.position ?? Buffer.alloc(0);
    expect(uplink.isInFlight(position)).toBe(false);
    await uplink.start();
    await until('it to be sent', () => uplink.isInFlight(position) || undefined);
    await uplink.stop();
    expect(uplink.isInFlight(position)).toBe(true);
  });

  it('cut again and again in the middle: nothing is missing, resends keep their identity', async () => {
    const { port, arrived } = await far(cleanups);
    const road = await link(port);
    const { buffer, uplink, durable } = await near([`mqtt://127.0.0.1:${road.port}`]);
    await uplink.start();
    for (let round = 0; round < 8; round++) {
      await fill(buffer, durable, round * 1000, (round + 1) * 1000);
      road.cut();
    }
    await drained(buffer);
    expect((await arrived()).payloads.sort()).toEqual(expected(8000).sort());
  });

  it('a short break changes no order: what has just been committed is live still', async () => {
    const { port, arrived } = await far(cleanups);
    const road = await link(port);
    const { buffer, uplink, durable } = await near([`mqtt://127.0.0.1:${road.port}`], {
      liveAgeMs: 60_000,
    });
    await uplink.start();
    for (const [i, payload] of expected(1500).entries()) {
      buffer.append(message(payload), i);
      await new Promise((resolve) => setTimeout(resolve, 2));
      if (i % 300 === 100) road.cut();
    }
    await until('all to be durable', () => durable.length === 1500 || undefined);
    await drained(buffer);
    expect(uplink.stats().connects).toBeGreaterThan(2);
    expect((await arrived()).payloads).toEqual(expected(1500));
  });

  it('after a longer one, what has just been committed goes ahead of what waited', async () => {
    const { port, arrived } = await far(cleanups);
    const { buffer, uplink, durable } = await near([`mqtt://127.0.0.1:${port}`], {
      liveAgeMs: 4000,
    });
    await fill(buffer, durable, 0, 100);
    await new Promise((resolve) => setTimeout(resolve, 4100));
    await fill(buffer, durable, 100, 200);
    await uplink.start();
    await drained(buffer);
    const all = expected(200);
    expect((await arrived()).payloads).toEqual([...all.slice(100), ...all.slice(0, 100)]);
  });

  it('a half-open link is noticed and given up; nothing is lost', async () => {
    const { port, arrived } = await far(cleanups);
    const road = await link(port);
    const { buffer, uplink, durable } = await near([`mqtt://127.0.0.1:${road.port}`]);
    await uplink.start();
    await fill(buffer, durable, 0, 1000);
    // A connection that is not made yet would be no half-open one: it would fail by its own time limit, again and again.
    await until('the link in use', () => uplink.stats().connected || undefined);
    road.swallow(true);
    await fill(buffer, durable, 1000, 2000);
    await until('the link given up', () => uplink.stats().ackTimeouts > 0 || undefined);
    road.swallow(false);
    await drained(buffer);
    expect((await arrived()).identities.size).toBe(2000);
  });

  it('with several collectors it goes to the next when one is away', async () => {
    const { port, arrived } = await far(cleanups);
    const { buffer, uplink, durable } = await near([
      'mqtt://127.0.0.1:9',
      `mqtt://127.0.0.1:${port}`,
    ]);
    await uplink.start();
    await fill(buffer, durable, 0, 100);
    await drained(buffer);
    expect((await arrived()).identities.size).toBe(100);
  });

  it('never more than the window is on its way', async () => {
    const { port } = await far(cleanups, { refuse: () => 'held' });
    const { buffer, uplink, durable } = await near([`mqtt://127.0.0.1:${port}`], {
      ackTimeoutMs: 60_000,
    });
    await uplink.start();
    await fill(buffer, durable, 0, 20_000);
    await until('a full window', () => uplink.stats().inFlightBytes > 32 * 1024 || undefined);
    await new Promise((resolve) => setTimeout(resolve, 300));
    // A last frame may cross the line.
    expect(uplink.stats().inFlightBytes).toBeLessThan(64 * 1024 + 8192);
  });

  it('a wrong secret brings nothing in; the right one does', async () => {
    const { port, arrived } = await far(cleanups, { secret: 'the-right-uplink-secret' });
    const wrong = await near([`mqtt://127.0.0.1:${port}`], { secret: 'the-wrong-uplink-secret' });
    await fill(wrong.buffer, wrong.durable, 0, 10);
    await wrong.uplink.start();
    await new Promise((resolve) => setTimeout(resolve, 500));
    expect(wrong.uplink.stats().connected).toBe(false);
    expect((await arrived()).records).toBe(0);
    const right = await near([`mqtt://127.0.0.1:${port}`], { secret: 'the-right-uplink-secret' });
    await fill(right.buffer, right.durable, 0, 10);
    await right.uplink.start();
    await drained(right.buffer);
    expect((await arrived()).identities.size).toBe(10);
  });

  const frameOf = (gateway: string): Buffer => {
    const builder = new FrameBuilder();
    builder.add(message('x'), 1, 1);
    return builder.finish(
      { gateway, epoch: Buffer.alloc(8, 1), bootId: Buffer.alloc(8) },
      1,
      0,
      false,
    );
  };
  const flipped = (frame: Buffer): Buffer => {
    const copy = Buffer.from(frame);
    copy[70] = (copy[70] ?? 0) ^ 1;
    return copy;
  };
  it.each<[string, string, Buffer]>([
    ['S33: a damaged frame', upTopic('gw'), encodeUp(0, [flipped(frameOf('gw'))])],
    [
      'S33: a good frame beside a damaged one',
      upTopic('gw'),
      encodeUp(0, [frameOf('gw'), flipped(frameOf('gw'))]),
    ],
    ['S33: an unknown version', upTopic('gw'), Buffer.concat([Buffer.from([9, 0]), frameOf('gw')])],
    ['S34: a frame of another gateway', upTopic('gw'), encodeUp(0, [frameOf('other')])],
    ["S34: another gateway's topic", upTopic('other'), encodeUp(0, [frameOf('other')])],
    ['a topic that is none of the uplink', 'anything', Buffer.from('x')],
  ])('%s is refused whole, the connection closed, others served', async (_name, topic, payload) => {
    const { port, arrived, ingest } = await far(cleanups);
    const client = await connectAsync(`mqtt://127.0.0.1:${port}`, {
      clientId: 'gateway-gw',
      reconnectPeriod: 0,
    });
    let closed = false;
    client.on('close', () => {
      closed = true;
    });
    client.publish(topic, payload, { qos: 0 });
    await until('the connection to close', () => closed || undefined);
    expect((await arrived()).records).toBe(0);
    expect(ingest.refusedBy.read()).toEqual([{ labels: { reason: 'invalid' }, value: 1 }]);
    const good = await near([`mqtt://127.0.0.1:${port}`]);
    await good.uplink.start();
    await fill(good.buffer, good.durable, 0, 5);
    await drained(good.buffer);
  });

  it('a client that is no gateway, or listens to others, gets nothing', async () => {
    const { port } = await far(cleanups);
    await expect(
      connectAsync(`mqtt://127.0.0.1:${port}`, { clientId: 'somebody', reconnectPeriod: 0 }),
    ).rejects.toThrow(/Identifier rejected/);
    const client = await connectAsync(`mqtt://127.0.0.1:${port}`, {
      clientId: 'gateway-spy',
      reconnectPeriod: 0,
    });
    const granted = await client
      .subscribeAsync(['headwater/1/down/gw', '#', 'headwater/1/down/spy'])
      .catch((error: unknown) => error);
    expect(String(granted)).toMatch(/Unspecified error|128/);
    await client.endAsync(true);
  });
});
