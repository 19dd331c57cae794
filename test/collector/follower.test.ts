/** Who follows a topic ends at once when it is closed, whatever the log says of a poll that it was closed under. */
import { expect, it } from 'vitest';
import { Follower } from '../../collector/log/follow.ts';
import type { Log } from '../../collector/log/log.ts';

it.each([
  'under a poll',
  'while it waits to try again',
])('closed %s: it ends at once, and tells nothing', async (when) => {
  let reject: (error: Error) => void = () => undefined;
  let polls = 0;
  const failure = new Error('the consumer is closed');
  const log = {
    partitions: 1,
    health: () => ({ up: true }),
    consumer: () =>
      Promise.resolve({
        poll: () => {
          polls++;
          return new Promise((_, fail) => {
            reject = fail;
            if (when !== 'under a poll') fail(failure);
          });
        },
        ended: () => new Set(),
        close: () => Promise.resolve(reject(failure)),
      }),
  } as unknown as Log;
  const told: string[] = [];
  const follower = new Follower({
    ...{ log, event: 'followed', topic: 't', from: 'start' as const, group: 'g' },
    notify: ({ text }) => void told.push(text),
    onRecords: () => undefined,
  });
  await new Promise((resolve) => setTimeout(resolve, 20));
  const before = [...told];
  const beganMs = performance.now();
  await follower.close();
  // It waits a second between two tries.
  expect(performance.now() - beganMs).toBeLessThan(500);
  expect([polls, told]).toEqual([1, before]);
});
