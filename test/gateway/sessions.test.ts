/** A session by itself: packet ids, and what is offered of what is retained. */
import { describe, expect, it } from 'vitest';
import type { Message, Outgoing } from '../../gateway/mqtt5/message.ts';
import { RetainedOffers } from '../../gateway/mqtt5/offers.ts';
import { Session, type SessionLink } from '../../gateway/mqtt5/session.ts';

const message: Message = {
  ...{ topic: 't', payload: Buffer.alloc(0), qos: 1, retain: false, publisher: '' },
  ...{ forwarded: undefined, expiresAtMs: undefined },
};
const out = (sequence: number, qos = 1): Outgoing => ({
  ...{ message, qos, retain: false, subscriptionId: undefined, shared: undefined, sequence },
});
function sessionWith(deliver?: SessionLink['deliver'], isFull = () => false) {
  const ids: number[] = [];
  const drops: string[] = [];
  const session = new Session('each', {
    done: () => undefined,
    inFlight: (_session, _id, _out, _state, durable) => durable?.(),
    dropped: (why) => void drops.push(why),
    nowMs: () => 0,
  });
  session.resume({
    receiveMaximum: 65_535,
    get isFull() {
      return isFull();
    },
    release: () => undefined,
    deliver: deliver ?? ((_out, id) => ids.push(id) > 0),
  });
  return { session, ids, drops };
}

describe('packet ids', () => {
  it.each([
    ['in memory', () => 0],
    ['on disk, by their sequence', (at: number) => 65_000 + at],
  ])('65,535 ids are in use at most, and each again when it is free: messages %s', (_where, sequence) => {
    const { session, ids } = sessionWith();
    for (let at = 0; at < 70_000; at++) session.send(out(sequence(at)));
    expect(ids).toHaveLength(65_535);
    expect(new Set(ids).size).toBe(65_535);
    expect(ids.every((id) => id >= 1 && id <= 65_535)).toBe(true);
    for (const id of [777, 5, 65_535]) session.acknowledged(id);
    expect(ids.slice(65_535).toSorted((a, b) => a - b)).toEqual([5, 777, 65_535]);
    session.acknowledged(40_000);
    session.acknowledged(40_000); // Nobody's, or of the next with this id: it is in use once.
    expect(session.queuedCount).toBe(70_000 - 5);
  });
});

describe('what is offered', () => {
  const offersOf = (session: Session, count: number, qosMax: number): void => {
    session.offer(
      new RetainedOffers({
        more: (after) =>
          Array.from({ length: Math.min(7, count - after) }, (_, at) => ({
            topic: `${after + at}`,
            order: after + at + 1,
          })),
        retained: (topic) => (topic === '1' ? undefined : message),
        isWanted: () => true,
        qosMax,
        end: () => undefined,
        give: () => session.send(out(0, qosMax)),
      }),
    );
  };

  it('at QoS 0 stops while the client does not read, and goes on; nothing is dropped', () => {
    let isFull = false;
    let sent = 0;
    const deliver = (): boolean => {
      sent++;
      isFull = sent === 5;
      return true;
    };
    const { session, drops } = sessionWith(deliver, () => isFull);
    offersOf(session, 11, 0);
    expect(sent).toBe(5);
    isFull = false;
    session.pump();
    expect([sent, drops]).toEqual([10, []]);
  });

  it('at QoS 1 is never more than a part of what a session may have unacknowledged', () => {
    const { session, ids } = sessionWith();
    offersOf(session, 1001, 1);
    expect(session.queuedCount).toBe(200);
    for (let at = 0; at < 1000; at++) session.acknowledged(ids[at] ?? 0);
    expect([ids.length, session.queuedCount]).toEqual([1000, 0]);
  });
});
