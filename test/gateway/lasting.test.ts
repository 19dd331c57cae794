/** Sessions of MQTT 3.1.1 that outlive their connection, on disk like those of 5; and what a clean one is granted. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Broker5 } from '../../gateway/mqtt5/broker.ts';
import { encodeOutgoing } from '../../gateway/mqtt5/message.ts';
import { Retained } from '../../gateway/ingress/retained.ts';
import { messageKey, recordOps } from '../../gateway/mqtt5/session-disk.ts';
import { SteadyClock } from '../../gateway/mqtt5/steady-clock.ts';
import { realEnv } from '../../shared/env/env.ts';
import type { KvOp } from '../../shared/kv/kv.ts';
import { Share } from '../../shared/access/shares.ts';
import { connectPacket, packet, tryConnect } from '../support/hostile.ts';
import { encodePublish } from '../support/load.ts';
import { runGateway, type RunningGateway } from '../support/gateway.ts';
import { temporaryFolder, until } from '../support/process.ts';
import { connected, rawClient, type RawClient } from '../support/raw-mqtt.ts';

let running: RunningGateway;
beforeAll(async () => {
  running = await runGateway(temporaryFolder());
});
afterAll(async () => await running.gateway.close());

const lasting = (port: number, id: string, more = {}): Promise<RawClient> =>
  connected(port, id, connectPacket({ id, clean: false, ...more }));
const hex = (client: RawClient, from = 4): string =>
  client.received().subarray(from).toString('hex');
const ack = (first: number, id: number): Buffer => Buffer.from([first, 2, id >> 8, id & 255]);
const gone = async (client: RawClient, says = true): Promise<void> => {
  if (says) client.send([0xe0, 0]);
  else client.socket.resetAndDestroy();
  await client.closed();
};
/** A SUBSCRIBE with a QoS for each filter. */
const subscribe = (...filters: [filter: string, qos: number][]): Buffer =>
  packet(
    0x82,
    Buffer.concat([
      Buffer.from([0, 1]),
      ...filters.flatMap(([filter, qos]) => [
        Buffer.from([0, filter.length]),
        Buffer.from(filter),
        Buffer.from([qos]),
      ]),
    ]),
  );
/** PUBLISH packets as they came: QoS, DUP, id, payload. */
function publishes(
  client: RawClient,
  from: number,
): [qos: number, dup: number, id: number, payload: string][] {
  const found: [number, number, number, string][] = [];
  const bytes = client.received();
  for (let at = from; at + 2 <= bytes.length; ) {
    const first = bytes[at] as number;
    const length = bytes[at + 1] as number; // All packets here are short.
    if (first >> 4 === 3) {
      const qos = (first >> 1) & 3;
      const topicEnd = at + 4 + bytes.readUInt16BE(at + 2);
      const id = qos === 0 ? 0 : bytes.readUInt16BE(topicEnd);
      const payload = bytes.toString('utf8', topicEnd + (qos === 0 ? 0 : 2), at + 2 + length);
      found.push([qos, (first >> 3) & 1, id, payload]);
    }
    at += 2 + length;
  }
  return found;
}

describe('sessions of 3.1.1 through a restart', () => {
  it('[MQTT-3.1.2-4] [MQTT-3.1.2-5] [MQTT-4.1.0-1] subscriptions, queued messages, QoS 2 both ways and wills come back', async () => {
    const data = temporaryFolder();
    let gateway = await runGateway(data);
    const away = await lasting(gateway.port, 'away');
    away.send(subscribe(['q/#', 2]));
    await away.bytes(9);
    const from = await lasting(gateway.port, 'from', { will: { topic: 'q/will', payload: 'w' } });
    from.send(encodePublish('q/a', 'two', 2, 1));
    expect((await from.bytes(8)).subarray(4).toString('hex')).toBe('50020001');
    await until('the message', () => publishes(away, 9)[0]);
    const two = publishes(away, 9)[0]?.[2] ?? 0;
    away.send(ack(0x50, two));
    await until(
      'its PUBREL',
      () => hex(away).endsWith(ack(0x62, two).toString('hex')) || undefined,
    );
    await gone(away, false);
    for (let i = 0; i < 5; i++) from.send(encodePublish('q/a', `m${i}`, 1, 10 + i));
    await from.bytes(8 + 5 * 4);
    // What is on disk is all there is; the will's client is cut by the end.
    await gateway.gateway.close();
    gateway = await runGateway(data);
    const back = await lasting(gateway.port, 'away');
    expect(back.received()[2]).toBe(1);
    // The PUBREL that is owed, not the message again [MQTT-4.4.0-1].
    await until('all', () => publishes(back, 4).length >= 6 || undefined);
    expect(hex(back).startsWith(ack(0x62, two).toString('hex'))).toBe(true);
    expect(publishes(back, 4).map(([qos, , , payload]) => [qos, payload])).toEqual([
      ...[0, 1, 2, 3, 4].map((i) => [1, `m${i}`]),
      [0, 'w'],
    ]);
    // The same id as before the restart is the same message: stored once [MQTT-4.3.3-2].
    const again = await lasting(gateway.port, 'from');
    again.send(encodePublish('q/a', 'two', 2, 1, 8));
    await again.bytes(8);
    again.send(ack(0x62, 1));
    expect((await again.bytes(12)).subarray(8).toString('hex')).toBe('70020001');
    back.send(
      Buffer.concat(
        publishes(back, 4)
          .slice(0, 5)
          .map(([, , id]) => ack(0x40, id)),
      ),
    );
    expect(publishes(back, 4)).toHaveLength(6);
    await gone(back);
    const empty = await lasting(gateway.port, 'away');
    expect(empty.received()[2]).toBe(1);
    expect(publishes(empty, 4)).toEqual([]);
    await gateway.gateway.close();
  });

  it('what waits has its packet id from its first delivery on, also after a restart', async () => {
    const data = temporaryFolder();
    let gateway = await runGateway(data);
    const each = await lasting(gateway.port, 'each');
    each.send(subscribe(['id/+', 2]));
    await each.bytes(9);
    const from = await connected(gateway.port, 'from');
    for (let i = 1; i <= 4; i++) from.send(encodePublish('id/a', `m${i}`, 2, i));
    await until('four', () => publishes(each, 9).length === 4 || undefined);
    const before = publishes(each, 9);
    await gateway.gateway.close();
    gateway = await runGateway(data);
    const back = await lasting(gateway.port, 'each');
    await until('four again', () => publishes(back, 4).length === 4 || undefined);
    expect(publishes(back, 4).map(([, , id, payload]) => [id, payload])).toEqual(
      before.map(([, , id, payload]) => [id, payload]),
    );
    await gateway.gateway.close();
  });
});

describe('sessions of 3.1.1 on one gateway', () => {
  it('[MQTT-3.8.4-5] [MQTT-3.9.3-2] a return code for each filter in order, 0x80 for one that is refused', async () => {
    const each = await lasting(running.port, 'codes');
    each.send(subscribe(['a', 0], ['$share/g/a', 1], ['b', 2], ['a', 1], ['$SYS/#', 1]));
    expect((await each.bytes(13)).subarray(4).toString('hex')).toBe('900700010080020180');
  });

  it('[MQTT-3.1.2-6] a clean session ends one that lasts, and a session without anything in it leaves nothing', async () => {
    const { port } = running;
    const count = (): Promise<number> => running.metric('headwater_ingress_mqtt5_sessions');
    const each = await lasting(port, 'ends');
    each.send(subscribe(['ends', 1]));
    await each.bytes(9);
    await gone(each);
    const before = await count();
    await gone(await connected(port, 'ends'));
    expect(await count()).toBe(before - 1);
    expect((await tryConnect(port, { id: 'ends', clean: false })).client.received()[2]).toBe(0);
    const publisher = await lasting(port, 'only-publishes');
    const within = await count();
    await gone(publisher);
    await until('its end', async () => ((await count()) === within - 1 ? true : undefined));
  });

  it('3.1 has no session present, and its session lasts as well', async () => {
    const id = Buffer.from('00064d514973647003000000000c6f6c642d70726f746f636f6c', 'hex');
    for (const expected of ['no', 'yes']) {
      const each = await rawClient(running.port);
      each.send(packet(0x10, id));
      expect((await each.bytes(4)).subarray(0, 4).toString('hex')).toBe('20020000');
      if (expected === 'no') {
        each.send(subscribe(['old', 1]));
        await each.bytes(9);
        await gone(each);
        const from = await connected(running.port, 'old-from');
        from.send(encodePublish('old', 'kept', 1, 1));
        await from.bytes(8);
      } else await until('what waited', () => publishes(each, 4)[0]);
    }
  });
});

describe('what a subscriber is granted', () => {
  it.each([
    'clean',
    'lasting',
  ])('[MQTT-3.3.5-1] [MQTT-3.8.4-6] overlapping filters and wildcards: once, at the highest QoS granted, never above (%s)', async (kind) => {
    const { port } = running;
    const open = (id: string): Promise<RawClient> =>
      kind === 'clean' ? connected(port, id) : lasting(port, id);
    const t = `o-${kind}`;
    const cases: [filters: [string, number][], qos: number][] = [
      [[[`${t}/#`, 1]], 1],
      [[[`${t}/#`, 0]], 0],
      [
        [
          [`${t}/a`, 1],
          [`${t}/+`, 2],
        ],
        2,
      ],
      [
        [
          [`${t}/+`, 0],
          [`${t}/a`, 2],
        ],
        2,
      ],
      [
        [
          [`${t}/#`, 1],
          [`${t}/+`, 0],
        ],
        1,
      ],
    ];
    const listeners = await Promise.all(
      cases.map(async ([filters], i) => {
        const each = await open(`${t}-${i}`);
        each.send(subscribe(...filters));
        await each.bytes(4 + 4 + filters.length);
        return [each, 8 + filters.length] as const;
      }),
    );
    const from = await connected(port, `${t}-from`);
    from.send(encodePublish(`${t}/a`, 'x', 2, 1, 1));
    await from.bytes(8);
    for (const [i, [each, at]] of listeners.entries()) {
      await until(`message ${i}`, () => publishes(each, at)[0]);
      each.send([0xc0, 0]);
      await until('PINGRESP', () => hex(each).endsWith('d000') || undefined);
      expect(
        publishes(each, at).map(([qos]) => qos),
        `case ${i}`,
      ).toEqual([cases[i]?.[1]]);
    }
    // What is retained keeps to what is granted as well.
    const late = await open(`${t}-late`);
    late.send(subscribe([`${t}/#`, 1]));
    await until('what is retained', () => publishes(late, 9)[0]);
    expect(publishes(late, 9)[0]?.[0]).toBe(1);
  });
});

describe('the clock of the sessions', () => {
  const sessionOn = (): {
    broker: Broker5;
    clock: { wallUs: number; monotonicUs: number };
    ended: string[];
    written: KvOp[];
  } => {
    const clock = { wallUs: 0, monotonicUs: 0 };
    const real = realEnv();
    const { wallUs, monotonicUs } = {
      wallUs: () => clock.wallUs,
      monotonicUs: () => clock.monotonicUs,
    };
    const ended: string[] = [];
    const written: KvOp[] = [];
    const broker = new Broker5(
      new SteadyClock({ ...real.clock, wallUs, monotonicUs }),
      {
        sessions: new Share('mqtt5_sessions', 10),
        messagesMax: 10,
        bytes: new Share('offline_bytes', 10_000),
      },
      {
        write: (ops) => void written.push(...ops),
        publishWill: () => undefined,
        sessionEnded: (clientId) => void ended.push(clientId),
        overflow: () => undefined,
        sessionRestored: () => undefined,
      },
    );
    return { broker, clock, ended, written };
  };
  const away = (broker: Broker5): void => {
    const session = broker.create('each', 'p');
    if (session === undefined) throw new Error('no session');
    session.expirySeconds = 60;
    broker.away(session, false);
  };
  const YEAR_2026_US = 1.79e15;

  it.each([
    'of this run',
    'of an earlier run, whose clock was right',
  ])('a clock that is set makes nobody away for longer, nor for less: a session %s', async (whose) => {
    let entries: [Buffer, Buffer][] = [];
    if (whose !== 'of this run') {
      const earlier = sessionOn();
      earlier.clock.wallUs = YEAR_2026_US;
      away(earlier.broker);
      entries = earlier.written.flatMap((op) => (op.type === 'put' ? [[op.key, op.value]] : []));
    }
    const { broker, clock, ended } = sessionOn();
    broker.start(entries);
    if (whose === 'of this run') away(broker);
    // From 1970 to 2026 in two seconds.
    clock.wallUs = YEAR_2026_US + 2e6;
    clock.monotonicUs = 2e6;
    await new Promise((resolve) => setTimeout(resolve, 1200));
    expect([ended, broker.find('each') !== undefined]).toEqual([[], true]);
    clock.wallUs += 61e6;
    clock.monotonicUs += 61e6;
    // At once for who asks for it, not at the next look.
    expect(broker.find('each')).toBeUndefined();
    expect(ended).toEqual(['each']);
    broker.close();
  });
});

describe('the clock of what waits', () => {
  const brokerOn = (entries: [Buffer, Buffer][] = []) => {
    const clock = { wallUs: 0, monotonicUs: 0 };
    const steady = new SteadyClock({
      ...realEnv().clock,
      wallUs: () => clock.wallUs,
      monotonicUs: () => clock.monotonicUs,
    });
    const disk = new Map(entries.map(([key, value]) => [key.toString('hex'), value]));
    const broker = new Broker5(
      steady,
      {
        sessions: new Share('mqtt5_sessions', 10),
        messagesMax: 10,
        bytes: new Share('offline_bytes', 100_000),
      },
      {
        write: (ops) => {
          for (const op of ops)
            if (op.type === 'put') disk.set(op.key.toString('hex'), op.value);
            else disk.delete(op.key.toString('hex'));
        },
        publishWill: () => undefined,
        sessionEnded: () => undefined,
        overflow: () => undefined,
        sessionRestored: () => undefined,
      },
    );
    const kept = (): [Buffer, Buffer][] =>
      [...disk].map(([key, value]) => [Buffer.from(key, 'hex'), value]);
    const pass = (seconds: number, setBackUs = 0): void => {
      clock.wallUs += seconds * 1e6 + setBackUs;
      clock.monotonicUs += seconds * 1e6;
    };
    return { broker, steady, kept, pass };
  };
  const YEAR_2026_US = 1.79e15;
  /** A session that waits for a message which expires in a minute. */
  const queued = (at: ReturnType<typeof brokerOn>, to: KvOp[] = []): void => {
    const { broker, steady } = at;
    const session = broker.create('each', 'p');
    if (session === undefined) throw new Error('no session');
    session.expirySeconds = 3600;
    const subscription = { qos: 1, noLocal: false, retainAsPublished: false, id: undefined };
    broker.subscribe({ session, filter: 't', ...subscription });
    broker.away(session, false);
    const delivery = broker.prepare({
      ...{ topic: 't', payload: Buffer.from('x'), qos: 1, retain: false, publisher: 'p' },
      ...{ forwarded: undefined, expiresAtMs: steady.nowMs() + 60_000 },
    });
    if (delivery === undefined) throw new Error('nobody');
    to.push(...delivery.ops);
    broker.dispatch(delivery);
  };
  const delivered = (broker: Broker5): string[] => {
    const got: string[] = [];
    broker.find('each')?.resume({
      receiveMaximum: 10,
      isFull: false,
      deliver: ({ message }) => got.push(message.payload.toString()) > 0,
      release: () => undefined,
    });
    return got;
  };

  it.each([
    ['the time is learnt', 30, ['x']],
    ['its minute is over', 61, []],
  ])('a message that expires in a minute, on a gateway that boots in 1970: %s', (_when, seconds, expected) => {
    const at = brokerOn();
    queued(at);
    at.pass(seconds, YEAR_2026_US);
    // Whoever comes before the clock is looked at, and after it.
    expect(at.broker.find('each')?.queuedCount).toBe(1);
    at.steady.look();
    expect(delivered(at.broker)).toEqual(expected);
  });

  it('what an earlier run kept by a right clock does not wait for 56 years more; by a wrong one it has its minute', () => {
    const ops: KvOp[] = [];
    const right = brokerOn();
    right.pass(0, YEAR_2026_US);
    right.steady.look();
    queued(right, ops);
    const messages = ops.flatMap((op): [Buffer, Buffer][] =>
      op.type === 'put' ? [[op.key, op.value]] : [],
    );
    const next = brokerOn([...right.kept(), ...messages]);
    next.broker.start(next.kept());
    next.pass(61, YEAR_2026_US);
    next.steady.look();
    expect(delivered(next.broker)).toEqual([]);
    next.broker.close();
    // Its deadline is moved on disk as well.
    const wrong = brokerOn();
    queued(wrong);
    wrong.pass(1, YEAR_2026_US);
    wrong.steady.look();
    const after = brokerOn(wrong.kept());
    after.pass(30, YEAR_2026_US);
    after.steady.look();
    after.broker.start(after.kept());
    expect(delivered(after.broker)).toEqual(['x']);
    after.broker.close();
  });

  it('retained messages as well', () => {
    const retained = new Retained(
      new Share('retained_messages', 10),
      new Share('retained_bytes', 10_000),
    );
    const extras = { forwarded: undefined, expiresAtMs: 60_000 };
    retained.set('t', 'p', 1, Buffer.from('x'), extras);
    const message = {
      ...{ topic: 't', payload: Buffer.from('x'), qos: 1, retain: true, publisher: 'p' },
      ...extras,
    };
    const nowMs = YEAR_2026_US / 1000;
    const [op] = retained.shift(nowMs, nowMs, () => message);
    expect(op).toMatchObject({ type: 'put' });
    expect(retained.expired(nowMs).topics).toEqual([]);
    expect(message.expiresAtMs).toBe(nowMs + 60_000);
    const again = new Retained(
      new Share('retained_messages', 10),
      new Share('retained_bytes', 10_000),
    );
    const value = op?.type === 'put' ? op.value : Buffer.alloc(0);
    expect(again.load([[Buffer.from('rt'), value]])).toMatchObject([
      { topic: 't', qos: 1, extras: { expiresAtMs: nowMs + 60_000 } },
    ]);
    expect(again.expired(nowMs + 60_000).topics).toEqual(['t']);
  });

  it('who was connected when the gateway was killed is away since its start, however often it is killed again', () => {
    const first = brokerOn();
    const session = first.broker.create('each', 'p');
    if (session === undefined) throw new Error('no session');
    session.expirySeconds = 60;
    first.broker.keep(session);
    let kept = first.kept();
    for (const isThere of [true, false]) {
      const next = brokerOn(kept);
      next.pass(isThere ? 0 : 61, YEAR_2026_US);
      next.steady.look();
      next.broker.start(kept);
      expect(next.broker.find('each') !== undefined).toBe(isThere);
      kept = next.kept();
      next.broker.close();
    }
  });
});

describe('what an ended session leaves', () => {
  const message = {
    topic: 't',
    payload: Buffer.from('x'),
    qos: 1,
    retain: false,
    publisher: 'p',
    forwarded: undefined,
    expiresAtMs: undefined,
  };
  const out = { message, qos: 1, retain: false, subscriptionId: undefined, shared: undefined };
  const brokerOn = (written: KvOp[]): Broker5 =>
    new Broker5(
      new SteadyClock(realEnv().clock),
      {
        sessions: new Share('mqtt5_sessions', 10),
        messagesMax: 10,
        bytes: new Share('offline_bytes', 10_000),
      },
      {
        write: (ops) => void written.push(...ops),
        publishWill: () => undefined,
        sessionEnded: () => undefined,
        overflow: () => undefined,
        sessionRestored: () => undefined,
      },
    );

  it('a copy of a message that was on its way when its session ended is removed at the next start, and is no damage', () => {
    const key = messageKey('gone', 7);
    const written: KvOp[] = [];
    const broker = brokerOn(written);
    broker.start([[key, encodeOutgoing({ ...out, sequence: 7 })]]);
    expect(written).toEqual([{ type: 'del', key }]);
    expect([broker.sessionCount, broker.droppedBy.read().length]).toEqual([0, 0]);
    broker.close();
  });

  it('a damaged, cut or empty record stops no start: that session is told as lost, its copies are none of the next one, others are there', () => {
    const written: KvOp[] = [];
    const broker = brokerOn(written);
    const kept: [Buffer, Buffer][] = [];
    for (const id of ['flipped', 'cut', 'empty', 'whole']) {
      const session = broker.create(id, 'p');
      if (session === undefined) throw new Error(id);
      session.expirySeconds = 3600;
      const [put] = recordOps(session, undefined);
      if (put?.type !== 'put') throw new Error(id);
      const value = Buffer.from(put.value);
      if (id === 'flipped') value[9] = (value[9] ?? 0) ^ 1;
      const cut = id === 'cut' ? 20 : id === 'empty' ? 0 : value.length;
      kept.push([put.key, value.subarray(0, cut)]);
      kept.push([messageKey(id, 7), encodeOutgoing({ ...out, sequence: 7 })]);
      kept.push([messageKey(id, 8), Buffer.alloc(40)]);
    }
    const next = brokerOn(written);
    expect(next.start(kept)).toEqual(['flipped', 'cut', 'empty']);
    expect(written.filter(({ type }) => type === 'del')).toHaveLength(6);
    expect([next.sessionCount, next.find('whole')?.queuedCount]).toEqual([1, 1]);
    expect(next.droppedBy.read()).toEqual([{ labels: { reason: 'damaged' }, value: 7 }]);
    next.close();
  });
});
