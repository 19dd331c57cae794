/** Each limit that holds for all gateways of a collector, exhausted by one and asked for by another, over real sockets. */
import { randomBytes } from 'node:crypto';
import { afterEach, describe, expect, it } from 'vitest';
import { EpochRoom } from '../../collector/ingest/epoch-room.ts';
import { SPANS_MAX, type EpochRecord } from '../../collector/ledger/epoch-ledger.ts';
import { UPLINK_LIMITS, type UplinkLimitName } from '../../shared/access/limits.ts';
import { HeadwaterError } from '../../shared/errors.ts';
import { FrameBuilder } from '../../shared/frame/builder.ts';
import type { Range } from '../../shared/model/ranges.ts';
import { downTopic, encodeUp, upTopic } from '../../shared/wire/wire.ts';
import { message } from '../contract/buffer.ts';
import { far, type Far } from '../support/far.ts';
import { connectPacket, subscribePacket } from '../support/hostile.ts';
import { encodePublish } from '../support/load.ts';
import { until } from '../support/process.ts';
import { connected, rawClient, type RawClient } from '../support/raw-mqtt.ts';

const MIB = 1024 * 1024;
const BAD = '127.0.0.2';
const GOOD = '127.0.0.3';
const SECRET = 'the-right-uplink-secret';
const cleanups: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).toReversed()) await cleanup();
});

/** An uplink message of one frame of `bytes`. */
function up(gateway: string, bytes: number, sequence = 1, epoch = 1): Buffer {
  const builder = new FrameBuilder();
  builder.add({ ...message('t'), payload: randomBytes(bytes) }, 1e15, 1);
  const identity = { gateway, epoch: Buffer.alloc(8, epoch), bootId: Buffer.alloc(16) };
  return encodePublish(
    upTopic(gateway),
    encodeUp(0, [builder.finish(identity, sequence, 0, false)]),
    1,
    7,
  );
}

const gateway = async ({ port }: Far, id: string, from: string, secret?: string) =>
  await connected(
    port,
    id,
    connectPacket({
      id: `gateway-${id}`,
      ...(secret === undefined ? {} : { user: id, password: secret }),
    }),
    from,
  );

async function isTaken(client: RawClient, bytes: Buffer): Promise<void> {
  client.send(bytes);
  const puback = Buffer.from([0x40, 2, 0, 7]);
  await until('it to be taken', () => client.received().includes(puback) || undefined, 10_000);
}

/** `refused` are counted by the limit of the name. */
const ATTACKS: Record<UplinkLimitName, () => Promise<Far>> = {
  connections: async () => {
    const site = await far(cleanups);
    const open = await Promise.all(Array.from({ length: 70 }, () => rawClient(site.port, BAD)));
    await until('those over the share to be closed', () =>
      open.filter((each) => each.isClosed()).length === 20 ? true : undefined,
    );
    await isTaken(await gateway(site, 'good', GOOD), up('good', 100));
    for (const { socket } of open) socket.destroy();
    return site;
  },
  begun_packets: async () => {
    // With no secret a name is only said: ever new ones of one address have one share.
    const site = await far(cleanups);
    const large = (id: string): Buffer => up(id, MIB);
    const begun = await Promise.all(
      Array.from({ length: 12 }, async (_, at) => {
        const bytes = large(`bad-${at}`);
        const client = await gateway(site, `bad-${at}`, BAD);
        client.send(bytes.subarray(0, 100_000));
        return { client, rest: bytes.subarray(100_000) };
      }),
    );
    const { begun_packets: share } = site.ingest.shares;
    await until('its share to be begun', () => (share.refused > 0 ? true : undefined));
    expect(share.used).toBeLessThanOrEqual(8 * MIB);
    await isTaken(await gateway(site, 'good', GOOD), large('good'));
    // Nothing is lost of those that wait.
    for (const { client, rest } of begun) await isTaken(client, rest);
    expect(share.used).toBe(0);
    return site;
  },
  pending: async () => {
    let full: string | undefined = 'a test';
    const site = await far(cleanups, { secret: SECRET, refuse: () => full });
    const { pending } = site.ingest.shares;
    // Behind one address, each known by the secret: the share is the gateway's.
    const bad = await gateway(site, 'bad', BAD, SECRET);
    for (let at = 0; at < 12; at++) bad.send(up('bad', MIB, at + 1));
    await until('its share', () => (pending.refused > 0 ? true : undefined));
    expect(pending.used).toBeLessThan(6 * MIB);
    const good = await gateway(site, 'good', BAD, SECRET);
    await isTaken(good, up('good', MIB));
    full = undefined;
    await until('all to be in the log', () => {
      const taken = site.ingest.receiver.acknowledgedMessages;
      return taken === 13 && pending.used === 0 ? true : undefined;
    });
    return site;
  },
};

describe('limits of the uplinks', () => {
  it('messages that the log does not take have room in their share, leave some of it, and are named', async () => {
    const site = await far(cleanups, { secret: SECRET });
    const { log } = site;
    const append = log.append.bind(log);
    log.append = async (topic, records) => {
      if (records.some(({ value }) => value.length > MIB / 2))
        throw new HeadwaterError('LOG_TOO_LARGE', 'a test');
      return await append(topic, records);
    };
    const { pending } = site.ingest.shares;
    const { tooLarge } = site.ingest.receiver;
    const bad = await gateway(site, 'bad', BAD, SECRET);
    for (let at = 0; at < 30; at++) bad.send(up('bad', MIB, at + 1));
    await until('all to be named', () => tooLarge.messages === 30 || undefined);
    expect(pending.used).toBeLessThan(4 * MIB);
    expect(tooLarge.warnings()).toEqual([expect.stringMatching(/^gateway bad keeps 30 messages/)]);
    // What is behind them goes on.
    await isTaken(bad, up('bad', 100, 31));
    await isTaken(await gateway(site, 'good', GOOD, SECRET), up('good', MIB / 4));
    bad.socket.destroy();
    await until('nothing of it to be kept', () =>
      tooLarge.messages === 0 && pending.used === 0 ? true : undefined,
    );
  });

  it('a gateway that begins ever new epochs, or ever new pieces of one, fills the ledger of nobody else, and is told', async () => {
    const known = new Map<string, { ranges: Range[] }>();
    const ledger = {
      isRead: true,
      epochCount: (id: string) =>
        [...known.keys()].filter((key) => key.startsWith(`${id}/`)).length,
      epochOf: (id: string, epoch: string) =>
        known.get(`${id}/${epoch}`) as EpochRecord | undefined, // What is used of it.
    };
    const room = new EpochRoom(ledger, 150);
    const site = await far(cleanups, { room: (id, frames) => room.check(id, frames) });
    const taken = site.ingest.receiver;
    const bad = await gateway(site, 'bad', BAD);
    const heard = new TextDecoder();
    const name = (epoch: number): string => Buffer.alloc(8, epoch).toString('hex');
    for (let epoch = 1; epoch <= 150; epoch++) bad.send(up('bad', 10, 1, epoch));
    await until('as many as may be', () => taken.acknowledgedMessages === 150 || undefined);
    // Some are in the ledger by now, which makes no more room.
    for (let epoch = 1; epoch <= 120; epoch++)
      known.set(`bad/${name(epoch)}`, { ranges: [[1, 1]] });
    bad.send(subscribePacket(1, downTopic('bad')));
    bad.send(up('bad', 10, 2, 3));
    await until('one that is known goes on', () => taken.acknowledgedMessages === 151 || undefined);
    bad.send(up('bad', 10, 1, 200));
    await until(
      'it to be told',
      () => heard.decode(bad.received()).includes('ingest.epochsPerGatewayMax (150)') || undefined,
    );
    await until('it to be closed', () => bad.isClosed() || undefined);
    const pieces = Array.from({ length: SPANS_MAX }, (_, at): Range => [3 * at + 1, 3 * at + 1]);
    known.set(`bad/${name(1)}`, { ranges: pieces });
    const again = await gateway(site, 'bad', BAD);
    again.send(up('bad', 10, 2, 1));
    await until('what joins two pieces', () => taken.acknowledgedMessages === 152 || undefined);
    again.send(up('bad', 10, 3 * SPANS_MAX + 9, 1));
    await until('another piece not', () => again.isClosed() || undefined);
    expect(taken.acknowledgedMessages).toBe(152);
    await isTaken(await gateway(site, 'good', GOOD), up('good', 100));
  });

  it.each(
    UPLINK_LIMITS.map(({ name }) => name),
  )('%s: one takes what it can, another gateway still gets what it asks for, and it is counted', async (name) => {
    const { ingest } = await ATTACKS[name]();
    expect(ingest.shares[name].refused).toBeGreaterThan(0);
  });
});
