/** One subscriber's trouble is nobody else's: slow ones, a receive maximum of 1, shared subscribers that die; and keep alive as the server says it. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { runGateway, type RunningGateway } from '../support/gateway.ts';
import { temporaryFolder, until } from '../support/process.ts';
import {
  P,
  ack5,
  connect5,
  connected5,
  publish5,
  reader5,
  subscribe5,
  type Client5,
} from '../support/raw-mqtt5.ts';
import { rawClient } from '../support/raw-mqtt.ts';

let running: RunningGateway;
beforeAll(async () => {
  running = await runGateway(temporaryFolder(), {
    'limits.offlineMessagesMax': '100000',
    'limits.offlineBytesMax': String(512 * 1024 * 1024),
    'limits.subscriberStallMs': '3000',
  });
});
afterAll(async () => await running.gateway.close());

async function subscribed(
  id: string,
  filter: string,
  qos: number,
  properties: number[][] = [],
): Promise<Client5> {
  const each = await connected5(running.port, id, { properties });
  each.send(subscribe5(1, [[filter, qos]]));
  await each.next(9);
  return each;
}
const publishes = (each: Client5) => each.packets().filter(({ type }) => type === 3);
/** Payloads in their order; acknowledges each at QoS 1 as it comes. */
function acknowledging(each: Client5): { payloads: string[]; look: () => void } {
  const payloads: string[] = [];
  const look = (): void => {
    for (const { payload, id } of publishes(each).slice(payloads.length)) {
      payloads.push(payload);
      each.send(ack5(4, id));
    }
  };
  return { payloads, look };
}
const numbers = (count: number): string[] => Array.from({ length: count }, (_, i) => `m${i}`);

describe('one subscriber in trouble', () => {
  it('one with a receive maximum of 1 that never acknowledges has one message; another has all, in order', async () => {
    const stuck = await subscribed('stuck', 'rm/#', 1, [P.receiveMaximum(1)]);
    const quick = await subscribed('quick', 'rm/#', 1);
    const from = await connected5(running.port, 'rm-from');
    for (const [i, payload] of numbers(300).entries())
      from.send(publish5('rm/a', payload, { qos: 1, id: i + 1 }));
    const { payloads, look } = acknowledging(quick);
    await until('all of them', () => {
      look();
      return payloads.length === 300 || undefined;
    });
    expect(payloads).toEqual(numbers(300));
    expect(publishes(stuck).map(({ payload }) => payload)).toEqual(['m0']);
    // One acknowledgement, one more.
    stuck.send(ack5(4, publishes(stuck)[0]?.id ?? 0));
    await until('the second', () => publishes(stuck).length > 1 || undefined);
    await stuck.silent().catch(() => undefined);
    expect(publishes(stuck).map(({ payload }) => payload)).toEqual(['m0', 'm1']);
  });

  it('one that does not read is cut; meanwhile another has all, and the publisher its acknowledgements', async () => {
    const lazy = await subscribed('lazy', 'slow/#', 0);
    lazy.socket.pause();
    const quick = await subscribed('reads', 'slow/#', 1);
    const from = await connected5(running.port, 'slow-from');
    const payload = 'x'.repeat(200_000);
    for (let i = 1; i <= 60; i++) {
      from.send(publish5('slow/a', payload, { qos: 1, id: i }));
      await from.next(4);
      const packet = await quick.next(3);
      quick.send(ack5(4, packet.id));
    }
    const cut =
      'headwater_ingress_connections_closed_total{reason="does not read what it subscribed to"}';
    await until('its end', async () => ((await running.metric(cut)) === 1 ? true : undefined));
    lazy.socket.resume();
    quick.send([0xc0, 0]);
    await quick.next(13);
  });

  it('100 shared subscribers of which 10 die: each message once for the group', async () => {
    const members = await Promise.all(
      Array.from({ length: 100 }, (_, i) =>
        subscribed(`m${i}`, '$share/group/shared/#', 1, [P.receiveMaximum(10)]),
      ),
    );
    const from = await connected5(running.port, 'shared-from');
    const count = 1000;
    // The ten take what they are given, acknowledge nothing, and die in the middle.
    const living = members.slice(10).map((each) => acknowledging(each));
    for (let i = 0; i < count; i++) {
      from.send(publish5('shared/a', `m${i}`, { qos: 1, id: i + 1 }));
      if (i === count / 2)
        await until('the dying to have some', () =>
          members.slice(0, 10).every((each) => publishes(each).length > 0) ? true : undefined,
        );
      if (i === count / 2) for (const { socket } of members.slice(0, 10)) socket.resetAndDestroy();
    }
    await until('all of them', () => {
      for (const { look } of living) look();
      return living.reduce((sum, { payloads }) => sum + payloads.length, 0) >= count || undefined;
    });
    const got = living.flatMap(({ payloads }) => payloads);
    expect(got.toSorted()).toEqual(numbers(count).toSorted());
    for (const { payloads } of living) expect(payloads.length).toBeGreaterThan(0);
  });
});

describe('server keep alive', () => {
  it('[MQTT-3.2.2-21] [MQTT-3.1.2-22] is said to who asks for more or for none, and kept', async () => {
    const gateway = await runGateway(temporaryFolder(), { 'limits.keepAliveMaxSeconds': '1' });
    const said = async (keepAlive: number): Promise<boolean> => {
      const each = reader5(await rawClient(gateway.port));
      each.send(connect5(`k${keepAlive}`, { keepAlive }));
      return (await each.next(2)).properties.includes('130001');
    };
    expect([await said(0), await said(60), await said(1)]).toEqual([true, true, false]);
    const silent = await connected5(gateway.port, 'silent');
    expect((await silent.next(14)).reason).toBe(0x8d);
    await gateway.gateway.close();
    // Unset, the client's own holds, and nothing is said of it.
    const own = await connected5(running.port, 'own', { keepAlive: 60 });
    expect(own.connack.properties).not.toContain('13003c');
  });
});
