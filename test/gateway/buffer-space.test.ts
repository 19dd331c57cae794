/** The shares of the last part of a full buffer, without the buffer: what it says of itself is set here. */
import { expect, it } from 'vitest';
import { Share } from '../../shared/access/shares.ts';
import { realEnv } from '../../shared/env/env.ts';
import { Seldom } from '../../shared/access/seldom.ts';
import type { MessageBuffer } from '../../gateway/buffer/buffer.ts';
import type { Ticket } from '../../gateway/buffer/ticket.ts';
import { Identities } from '../../gateway/ingress/identities.ts';
import { BufferSpace } from '../../gateway/ingress/space.ts';

const WHOLE = 1000;

class Disk {
  lastBytesUsed = 1;
  readonly lastBytes = WHOLE;
  readonly state = { kind: 'open' as const };
  kept: [Buffer, Buffer][] = [];
  remember(key: Buffer, value: Buffer): void {
    this.kept = [[key, value]];
  }
  entries(): Promise<[Buffer, Buffer][]> {
    return Promise.resolve(this.kept);
  }
}

function run(disk: Disk): { space: BufferSpace; share: Share; said: string[] } {
  const env = realEnv();
  const said: string[] = [];
  const share = new Share('buffer_space', WHOLE);
  const space = new BufferSpace(
    disk as unknown as MessageBuffer<Ticket>,
    share,
    new Identities('owner', 60, env),
    ({ text }) => void said.push(text),
    new Seldom(() => env.clock.monotonicUs()),
  );
  return { space, share, said };
}

/** Takes what it can, ten bytes at a time. */
function take(space: BufferSpace, principal: string): number {
  let taken = 0;
  while (taken < 2 * WHOLE && space.takes(principal, 10)) taken += 10;
  return taken;
}

it('one alone has all of it, one of two has half of what is left', async () => {
  const { space, said } = run(new Disk());
  await space.load();
  space.see('user bad');
  expect(take(space, 'user bad')).toBe(2 * WHOLE);
  expect(said).toEqual([]);
  space.close();

  const two = run(new Disk());
  two.space.see('user good');
  two.space.see('user bad');
  expect(take(two.space, 'user bad')).toBe(WHOLE / 2);
  expect(take(two.space, 'user good')).toBe(WHOLE / 4);
  expect(two.said[0]).toContain("'user bad' has its share of the rest");
  two.space.close();
});

it('a restart gives nobody a new share, and forgets nobody who was here', async () => {
  const disk = new Disk();
  const before = run(disk);
  before.space.see('user good');
  before.space.see('user bad');
  const taken = take(before.space, 'user bad');
  disk.lastBytesUsed = taken;
  before.space.close();

  const after = run(disk);
  await after.space.load();
  expect(after.space.takes('user bad', 10)).toBe(false);
  expect(after.space.takes('user good', 10)).toBe(true);
  after.space.close();
});

it('what the uplink takes comes free for everybody in proportion', () => {
  const share = new Share('buffer_space', WHOLE);
  share.add('bad', 500);
  share.add('good', 100);
  share.become(300);
  expect([share.of('bad'), share.of('good'), share.used]).toEqual([250, 50, 300]);
  share.become(0);
  expect(share.holders()).toEqual([]);
  // What nobody is known to have taken is not anybody's to be given again.
  share.become(800);
  expect(share.room('bad')).toBe(100);
});
