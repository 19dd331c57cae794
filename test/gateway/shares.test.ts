/**
 * Each limit that holds for all, exhausted by one and asked for by another, over real sockets. Who a device is is its
 * address here: 127.0.0.2 takes what it can, 127.0.0.3 is a good device.
 */
import { afterEach, describe, expect, it } from 'vitest';
import { randomBytes } from 'node:crypto';
import { connectAsync, type MqttClient } from 'mqtt';
import { MQTT_LIMITS, type MqttLimitName } from '../../shared/access/limits.ts';
import { Share, addressGroup } from '../../shared/access/shares.ts';
import { connectPacket, subscribePacket, tryConnect } from '../support/hostile.ts';
import { runGateway, type RunningGateway } from '../support/gateway.ts';
import { encodeConnect, encodePublish } from '../support/load.ts';
import { temporaryFolder, until } from '../support/process.ts';
import { connected, rawClient, type RawClient } from '../support/raw-mqtt.ts';
import { P, connect5, reader5, subscribe5, unsubscribe5 } from '../support/raw-mqtt5.ts';

const BAD = '127.0.0.2';
const GOOD = '127.0.0.3';

let running: RunningGateway | undefined;
afterEach(async () => {
  await running?.gateway.close();
  running = undefined;
});
async function start(settings: Record<string, string>): Promise<RunningGateway> {
  running = await runGateway(temporaryFolder(), settings);
  return running;
}

const login = async (
  { port }: RunningGateway,
  id: string,
  from: string,
  clean = true,
): Promise<RawClient> => await connected(port, id, connectPacket({ id, clean }), from);

/** Return codes of the SUBACK. */
async function subscribe(client: RawClient, ...filters: string[]): Promise<number[]> {
  const from = client.received().length;
  client.send(subscribePacket(1, ...filters));
  const answer = await client.bytes(from + 4 + filters.length);
  return [...answer.subarray(from + 4, from + 4 + filters.length)];
}

async function puback(client: RawClient, topic: string, payload: string, retain = false) {
  const from = client.received().length;
  client.send(encodePublish(topic, payload, 1, 7, retain ? 1 : 0));
  const answer = await client.bytes(from + 4);
  expect(answer.subarray(from, from + 4).toString('hex')).toBe('40020007');
}

/** What a new subscriber is told of a topic, as retained. */
async function retainedOf({ port }: RunningGateway, topic: string): Promise<string[]> {
  const heard: string[] = [];
  const client: MqttClient = await connectAsync(`mqtt://127.0.0.1:${port}`, { reconnectPeriod: 0 });
  client.on('message', (_topic, payload, { retain }) => {
    if (retain) heard.push(payload.toString());
  });
  await client.subscribeAsync(topic, { qos: 1 });
  await client.publishAsync('after', '1', { qos: 1 });
  await new Promise((resolve) => setTimeout(resolve, 100));
  await client.endAsync(true);
  return heard;
}

const SMALL_BUFFER = {
  'buffer.diskBytesMax': `${16 * 1024 * 1024}`,
  'buffer.pendingBytesMax': '65536',
};

const LEVELS = (from: string): string =>
  Array.from({ length: 98 }, (_, at) => `${from}-${at}`).join('/');

/** For each limit: what the bad one does until it gets no more, and what the good one must get. */
const ATTACKS: Record<
  MqttLimitName,
  { settings: Record<string, string>; run: (gateway: RunningGateway) => Promise<void> }
> = {
  connections: {
    settings: { 'limits.connectionsMax': '20' },
    run: async ({ port }) => {
      const open = await Promise.all(Array.from({ length: 40 }, () => rawClient(port, BAD)));
      await until('those over the share to be closed', () =>
        open.filter((each) => each.isClosed()).length === 30 ? true : undefined,
      );
      for (let at = 0; at < 5; at++) await connected(port, `good-${at}`, undefined, GOOD);
      for (const { socket } of open) socket.destroy();
    },
  },
  sessions: {
    settings: { 'limits.sessionsMax': '20' },
    run: async (gateway) => {
      const codes: number[] = [];
      for (let at = 0; at < 20; at++)
        codes.push(...(await subscribe(await login(gateway, `bad-${at}`, BAD), 'x')));
      expect(codes.filter((code) => code === 0x80)).toHaveLength(10);
      expect(await subscribe(await login(gateway, 'good', GOOD), 'x')).toEqual([1]);
    },
  },
  mqtt5_sessions: {
    settings: { 'limits.sessionsMax': '20' },
    run: async ({ port }) => {
      const reasons: number[] = [];
      for (let at = 0; at < 10; at++) {
        const client = reader5(await rawClient(port, BAD));
        client.send(connect5(`bad-${at}`, { properties: [P.sessionExpiry(600)] }));
        reasons.push((await client.next(2)).reason);
        client.socket.destroy();
        // Those of 3.1.1 that outlive their connection are the same to us; here both come by turns.
        const old = await tryConnect(port, { id: `old-${at}`, clean: false }, BAD);
        reasons.push(old.code);
        if (old.code === 0) await subscribe(old.client, 'x');
        old.client.socket.destroy();
      }
      expect(reasons).toEqual([...Array(10).fill(0), ...Array(5).fill([0x97, 3])].flat());
      const good = reader5(await rawClient(port, GOOD));
      good.send(connect5('good'));
      expect((await good.next(2)).reason).toBe(0);
    },
  },
  subscriptions: {
    settings: { 'limits.subscriptionsMax': '100', 'limits.subscriptionsPerClientMax': '40' },
    run: async (gateway) => {
      const { port } = gateway;
      // One filter under ever new names of groups: each is a subscription of its own, and gets its copy of each message.
      const five = reader5(await rawClient(port, BAD));
      five.send(connect5('bad-5'));
      expect((await five.next(2)).reason).toBe(0);
      const groups = Array.from({ length: 60 }, (_, at) => `$share/g${at}/a/b`);
      five.send(
        subscribe5(
          1,
          groups.map((filter) => [filter, 1]),
        ),
      );
      const { body } = await five.next(9);
      expect([...body.subarray(-60)]).toEqual([...Array(40).fill(1), ...Array(20).fill(0x97)]);
      // A filter of which the text is long is as many as it takes memory for; here nine.
      const long = (at: number): string => `${at}`.padEnd(2048, 'x');
      const old = await login(gateway, 'bad-4', BAD);
      expect(await subscribe(old, long(1), long(2), 'c')).toEqual([1, 0x80, 1]);
      // The same text of another client takes its memory again.
      expect(await subscribe(await login(gateway, 'bad-3', BAD), long(1))).toEqual([0x80]);
      const good = await login(gateway, 'good', GOOD);
      expect(await subscribe(good, 'c', 'a/b', long(1))).toEqual([1, 1, 1]);
      five.send(unsubscribe5(2, groups.slice(0, 20)));
      await five.next(11);
      expect(await subscribe(old, long(2))).toEqual([1]);
    },
  },
  subscription_levels: {
    // Filters as long as these count as several of a client's.
    settings: { 'limits.subscriptionsPerClientMax': '2000' },
    run: async (gateway) => {
      // Two sessions of 200 filters of 98 levels, then gone: as much as there once was for all.
      let granted = 0;
      for (const id of ['bad-1', 'bad-2']) {
        const client = await login(gateway, id, BAD, false);
        for (let part = 0; part < 2; part++) {
          const filters = Array.from({ length: 100 }, (_, at) => LEVELS(`${id}-${part}-${at}`));
          granted += (await subscribe(client, ...filters)).filter((code) => code !== 0x80).length;
        }
        client.socket.destroy();
      }
      expect(granted).toBe(Math.floor(20_000 / 98));
      const good = await login(gateway, 'good', GOOD);
      expect(await subscribe(good, 'commands/good/#', LEVELS('good'))).toEqual([1, 1]);
    },
  },
  qos2: {
    settings: { 'limits.qos2Max': '100' },
    run: async (gateway) => {
      for (const id of ['bad-1', 'bad-2', 'bad-3']) {
        const client = await login(gateway, id, BAD, false);
        for (let at = 1; at <= 40; at++) client.send(encodePublish('q', 'x', 2, at));
        await until('an end', () =>
          client.received().length === 4 + 40 * 4 || client.isClosed() ? true : undefined,
        );
        client.socket.destroy();
      }
      const good = await login(gateway, 'good', GOOD, false);
      good.send(encodePublish('q', 'x', 2, 1));
      expect((await good.bytes(8)).subarray(4).toString('hex')).toBe('50020001');
    },
  },
  offline_bytes: {
    settings: { 'limits.offlineBytesMax': '100000' },
    run: async (gateway) => {
      const away = async (id: string, from: string): Promise<void> => {
        const client = await login(gateway, id, from, false);
        await subscribe(client, `for/${id}`);
        client.socket.destroy();
        await until('it to be away', () => client.isClosed() || undefined);
      };
      await away('bad', BAD);
      await away('good', GOOD);
      const publisher = await login(gateway, 'publisher', BAD);
      for (let at = 0; at < 120; at++) await puback(publisher, 'for/bad', 'x');
      await puback(publisher, 'for/good', 'hello');
      const { client: back } = await tryConnect(gateway.port, { id: 'good', clean: false }, GOOD);
      await until('what waited', () => back.received().includes('hello') || undefined);
      // Session present: nothing of its own was lost. The other's session has ended, and is told so.
      expect(back.received()[2]).toBe(1);
      const { client: ended } = await tryConnect(gateway.port, { id: 'bad', clean: false }, BAD);
      await ended.bytes(4);
      expect(ended.received()[2]).toBe(0);
    },
  },
  retained_messages: {
    settings: { 'limits.retainedMessagesMax': '20' },
    run: async (gateway) => {
      const good = await login(gateway, 'good', GOOD);
      await puback(good, 'state/good', 'old', true);
      const bad = await login(gateway, 'bad', BAD);
      for (let at = 0; at < 40; at++) await puback(bad, `bad/${at}`, 'x', true);
      await puback(good, 'state/good', 'new', true);
      expect(await retainedOf(gateway, 'state/good')).toEqual(['new']);
      await puback(good, 'state/other', 'x', true);
      expect(await retainedOf(gateway, 'state/other')).toEqual(['x']);
    },
  },
  retained_bytes: {
    settings: { 'limits.retainedBytesMax': '10000' },
    run: async (gateway) => {
      const good = await login(gateway, 'good', GOOD);
      await puback(good, 'state/good', 'old', true);
      const bad = await login(gateway, 'bad', BAD);
      for (let at = 0; at < 40; at++) await puback(bad, `bad/${at}`, 'x'.repeat(500), true);
      await puback(good, 'state/good', 'new, and longer', true);
      expect(await retainedOf(gateway, 'state/good')).toEqual(['new, and longer']);
    },
  },
  begun_packets: {
    settings: {},
    run: async (gateway) => {
      const large = encodePublish('large', randomBytes(1024 * 1024 - 100), 1, 1);
      const begun = await Promise.all(
        Array.from({ length: 40 }, async (_, at) => {
          const bad = await login(gateway, `bad-${at}`, BAD);
          bad.send(large.subarray(0, -1));
          return bad;
        }),
      );
      const used = 'headwater_limit_used{limit="begun_packets"}';
      await until('its share to be begun', async () =>
        (await gateway.metric(used)) > 15 * large.length ? true : undefined,
      );
      const good = await login(gateway, 'good', GOOD);
      await puback(good, 'large', 'x'.repeat(500_000));
      // Nothing is lost of those that wait: they are read as others end.
      for (const bad of begun) bad.send(large.subarray(-1));
      for (const bad of begun)
        expect((await bad.bytes(8)).subarray(4).toString('hex')).toBe('40020001');
      expect(await gateway.metric(used)).toBe(0);
    },
  },
  waiting_wills: {
    settings: { 'buffer.pendingBytesMax': '65536', 'limits.connectBytesMax': '40000' },
    run: async (gateway) => {
      const dying = await Promise.all(
        Array.from({ length: 30 }, async (_, at) => {
          const will = { topic: `bad/${at}`, payload: 'x'.repeat(30_000), retain: true };
          const client = await connected(
            gateway.port,
            `bad-${at}`,
            connectPacket({ id: `bad-${at}`, will }),
            BAD,
          );
          await puback(client, `bad/${at}`, 'here', true);
          return client;
        }),
      );
      const will = { topic: 'good', payload: 'gone' };
      const id = 'good-dying';
      const { client: good } = await tryConnect(gateway.port, { id, will }, GOOD);
      const watcher = await login(gateway, 'watcher', GOOD);
      await subscribe(watcher, 'good');
      for (const { socket } of [...dying, good]) socket.destroy();
      await until("the good one's will", () => watcher.received().includes('gone') || undefined);
      // Those that were not taken left no older state behind.
      const refused = await gateway.metric('headwater_limit_refused_total{limit="waiting_wills"}');
      expect(refused).toBeGreaterThan(0);
      expect(await retainedOf(gateway, 'bad/#')).not.toContain('here');
    },
  },
  buffer_space: {
    settings: SMALL_BUFFER,
    run: async (gateway) => {
      const good = await login(gateway, 'good', GOOD);
      await puback(good, 'state', 'before');
      await fillAsBad(gateway);
      for (let at = 0; at < 20; at++) await puback(good, 'state', `${at}`);
      const url = `${gateway.http}/api/v1/ingest?topic=x`;
      expect((await fetch(url, { method: 'POST', body: '1' })).status).toBe(204);
    },
  },
};

/** Sends what does not compress, until that is said. */
async function fillAsBad(
  gateway: RunningGateway,
  id = 'bad',
  version: 4 | 5 = 4,
  until = 'buffer_share',
): Promise<RawClient> {
  const bad = await connected(gateway.port, id, encodeConnect(id, version), BAD);
  const before = bad.received().length;
  const answers = (): number => (bad.received().length - before) / 4;
  const isHeld = (): boolean => gateway.notices.some(({ event }) => event === until);
  const payload = randomBytes(50_000).toString('latin1');
  for (let sent = 0; !isHeld(); ) {
    if (sent - answers() < 16)
      bad.send(encodePublish('flood', payload, 1, (sent++ % 60_000) + 1, 0, version));
    else await new Promise((resolve) => setTimeout(resolve, 2));
    if (sent > 1000) throw new Error('nothing held it back');
  }
  return bad;
}

describe('limits that hold for all', () => {
  it.each(
    MQTT_LIMITS.map(({ name }) => name),
  )('%s: one address takes what it can, another still gets what it asks for, and it is counted', async (name) => {
    const { settings, run } = ATTACKS[name];
    const gateway = await start(settings);
    await run(gateway);
    if (
      name !== 'offline_bytes' ||
      (await gateway.metric('headwater_ingress_offline_dropped_total')) === 0
    )
      expect(
        await gateway.metric(`headwater_limit_refused_total{limit="${name}"}`),
      ).toBeGreaterThan(0);
    const good = await login(gateway, 'good-after', GOOD);
    await puback(good, 'alive', '1');
  });

  it('who has his share of a nearly full buffer has it after a restart too, and by a new connection', async () => {
    const folder = temporaryFolder();
    running = await runGateway(folder, SMALL_BUFFER);
    await puback(await login(running, 'good', GOOD), 'state', 'before');
    await fillAsBad(running);
    await running.gateway.close();
    running = await runGateway(folder, SMALL_BUFFER);
    // The good one sleeps: it was here before the restart, and its share is kept for it.
    await fillAsBad(running, 'bad-again', 5);
    await puback(await login(running, 'good', GOOD), 'state', 'after');
    expect(running.notices.some(({ event }) => event === 'buffer_blocked')).toBe(false);
  });

  it('while the buffer acknowledges nothing, answers alone do not pile up either: nobody is read from', async () => {
    const gateway = await start(SMALL_BUFFER);
    /** Compaction may make room again. */
    const isOpen = (): boolean => gateway.notices.some(({ event }) => event === 'buffer_open');
    for (let round = 0; ; round++) {
      gateway.notices.length = 0;
      await fillAsBad(gateway, `bad-${round}`, 4, 'buffer_blocked');
      const other = await login(gateway, `other-${round}`, BAD);
      // Whoever reads all of it closes the connection at its end.
      other.send(Buffer.alloc(64 * 1024, Buffer.from([0x62, 2, 0, 1])));
      other.send([0xe0, 0]);
      const gone = other.closed().then(() => 'read', String);
      const soon = new Promise<'held'>((resolve) => setTimeout(() => resolve('held'), 1500));
      const how = await Promise.race([gone, soon]);
      if (how === 'read' && isOpen()) continue;
      expect(how).toBe('held');
      return;
    }
  });

  it('a new state that cannot be retained takes the old one with it, through a restart too', async () => {
    const folder = temporaryFolder();
    const settings = { 'limits.retainedBytesMax': '4000' };
    running = await runGateway(folder, settings);
    const device = await login(running, 'device', GOOD);
    await puback(device, 'state/door', 'closed', true);
    await puback(device, 'state/door', `open ${'x'.repeat(3000)}`, true);
    expect(await retainedOf(running, 'state/door')).toEqual([]);
    expect(running.notices.map(({ event }) => event)).toContain('retained_full');
    await running.gateway.close();
    running = await runGateway(folder, settings);
    expect(await retainedOf(running, 'state/door')).toEqual([]);
    expect(await running.metric('headwater_limit_used{limit="retained_bytes"}')).toBe(0);
  });

  it('whose a retained message is is known after a restart', async () => {
    const folder = temporaryFolder();
    const settings = { 'limits.retainedMessagesMax': '10' };
    running = await runGateway(folder, settings);
    const bad = await login(running, 'bad', BAD);
    for (let at = 0; at < 10; at++) await puback(bad, `bad/${at}`, 'x', true);
    await running.gateway.close();
    running = await runGateway(folder, settings);
    expect(await running.metric('headwater_ingress_retained_messages')).toBe(5);
    const again = await login(running, 'bad', BAD);
    await puback(again, 'bad/more', 'x', true);
    expect(await retainedOf(running, 'bad/more')).toEqual([]);
    const good = await login(running, 'good', GOOD);
    await puback(good, 'good', 'x', true);
    expect(await retainedOf(running, 'good')).toEqual(['x']);
  });

  it('a will that cannot be retained takes the old state with it', async () => {
    const gateway = await start({ 'limits.retainedBytesMax': '100' });
    const watcher = await login(gateway, 'watcher', GOOD);
    await puback(watcher, 'state/online', 'yes', true);
    const id = 'dying';
    const will = { topic: 'state/online', payload: `no${'!'.repeat(80)}`, retain: true };
    const { client } = await tryConnect(gateway.port, { id, will }, BAD);
    client.socket.destroy();
    // Gone for subscribers to come after the fsync of the will.
    await until('the will', async () =>
      (await retainedOf(gateway, 'state/online')).length === 0 ? true : undefined,
    );
    expect(await gateway.metric('headwater_ingress_retained_messages')).toBe(0);
  });

  it('what a session holds that is away for too long comes free, is said and counted', async () => {
    const gateway = await start({ 'limits.sessionExpiryMs': '300' });
    const client = await login(gateway, 'away', BAD, false);
    await subscribe(client, 'a/b/c');
    client.send(encodePublish('q', 'x', 2, 1));
    await client.bytes(4 + 5 + 4);
    client.socket.destroy();
    await until('its levels to be free', async () =>
      (await gateway.metric('headwater_limit_used{limit="subscription_levels"}')) === 0
        ? true
        : undefined,
    );
    expect(await gateway.metric('headwater_limit_used{limit="qos2"}')).toBe(0);
    expect(await gateway.metric('headwater_limit_used{limit="sessions"}')).toBe(0);
    expect(
      await gateway.metric(
        'headwater_ingress_sessions_ended_total{reason="it was away for too long"}',
      ),
    ).toBe(1);
    expect(gateway.notices.some(({ text }) => text.includes("session of 'away' has ended"))).toBe(
      true,
    );
    const { client: back } = await tryConnect(gateway.port, { id: 'away', clean: false }, BAD);
    expect(back.received()[2]).toBe(0);
  });
});

describe('shares', () => {
  it('however many take what they can, the next one gets something, and the whole is never passed', () => {
    const share = new Share('sessions', 1000);
    const got = Array.from({ length: 8 }, (_, who) => {
      let count = 0;
      while (share.take(`p${who}`)) count++;
      return count;
    });
    expect(got).toEqual([500, 250, 125, 63, 31, 16, 8, 4]);
    expect(share.used).toBeLessThanOrEqual(1000);
    share.give('p0', 500);
    expect(share.take('p9', 200)).toBe(true);
  });

  it.each([
    ['192.0.2.7', '192.0.2.7'],
    ['::ffff:192.0.2.7', '192.0.2.7'],
    ['2001:db8:0:1:aaaa:bbbb:cccc:dddd', '2001:db8:0:1::/64'],
    ['2001:db8:0:1::2', '2001:db8:0:1::/64'],
    ['2001:DB8::1', '2001:db8:0:0::/64'],
    ['fe80::1%eth0', 'fe80:0:0:0::/64'],
    ['::1', '::1'],
  ])('an address stands for its network: %s is %s', (address, group) => {
    expect(addressGroup(address)).toBe(group);
  });
});
