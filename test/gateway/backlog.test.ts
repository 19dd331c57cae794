/** What waits is told as it is, or not at all. */
import { expect, it } from 'vitest';
import { Backlog } from '../../gateway/buffer/backlog.ts';
import { positionOf } from '../../gateway/buffer/position.ts';

it('nothing is told of it until all is counted that an earlier run left', () => {
  const backlog = new Backlog();
  backlog.begin(2);
  backlog.add(10, 1000);
  expect(backlog.totals).toBeUndefined();
  backlog.countPiece([], () => false);
  expect(backlog.totals).toEqual({ messages: 10, frames: 1, bytes: 1000 });
});

it('history that waits again and was larger than it was taken for: its bytes are unknown then, not none', () => {
  const backlog = new Backlog();
  backlog.begin(1);
  backlog.countPiece([], () => false);
  expect(backlog.totals).toEqual({ messages: 0, frames: 0, bytes: 0 });
  backlog.recall(20, 20 * 64);
  expect(backlog.totals).toEqual({ messages: 20, frames: undefined, bytes: 1280 });
  const released = { position: positionOf(1, 1), end: positionOf(1, 10), bytes: 60_000, count: 10 };
  backlog.remove(released);
  expect(backlog.totals).toEqual({ messages: 10, frames: undefined, bytes: undefined });
  backlog.remove(released);
  expect(backlog.totals).toEqual({ messages: 0, frames: 0, bytes: 0 });
});
