/** Notes in the log that cannot be written now: the newest of each name is there in the end, and one line speaks for all. */
import { expect, it } from 'vitest';
import { Noting } from '../../collector/log/noting.ts';
import type { Timers } from '../../shared/env/timers.ts';

/** Every wait is over when `pass` says so. */
function heldTimers(): { timers: Timers; waits: number[]; pass: () => Promise<void> } {
  const [due, waits]: [(() => void)[], number[]] = [[], []];
  const after: Timers['after'] = (ms, work) => {
    waits.push(ms);
    due.push(work);
    return { cancel: () => undefined };
  };
  const pass = async (): Promise<void> => {
    for (const work of due.splice(0)) work();
    await new Promise((resolve) => setImmediate(resolve));
  };
  return { timers: { after, every: after }, waits, pass };
}

it('what cannot be written is tried again, less and less often, the newest of each name alone; one line speaks for all', async () => {
  const { timers, waits, pass } = heldTimers();
  const [written, told]: [string[], unknown[]] = [[], []];
  let isAway = true;
  const noting = new Noting(timers, (error) => void told.push((error as Error).message));
  const note = async (name: string, text: string): Promise<void> =>
    await noting.note(name, async () => {
      await Promise.resolve();
      if (isAway) throw new Error(`away: ${text}`);
      written.push(text);
    });
  await note('a', 'a1');
  await Promise.all([note('a', 'a2'), note('b', 'b1')]);
  for (let tries = 0; tries < 6; tries++) await pass();
  expect(written).toEqual([]);
  expect(told).toEqual(['away: a1']);
  expect(waits).toEqual([500, 1000, 2000, 4000, 8000, 10_000, 10_000]);
  isAway = false;
  // A newer one is written at once, and the older one never.
  await note('a', 'a3');
  await pass();
  expect(written).toEqual(['a3', 'b1']);
  await pass();
  expect(waits).toHaveLength(7);
  isAway = true;
  await note('b', 'b2');
  expect(told).toEqual(['away: a1', 'away: b2']);
  // It stops though nothing answers, and asks no more.
  await noting.close();
  await note('b', 'b3');
  expect([written.length, waits.length]).toEqual([2, 8]);
});

it('notes of one name are written one after another, and of those that wait the newest alone; those of others do not wait for them', async () => {
  const { timers } = heldTimers();
  const written: string[] = [];
  let goOn = (): void => undefined;
  const slow = new Promise<void>((resolve) => (goOn = resolve));
  let begins = (): void => undefined;
  const begun = new Promise<void>((resolve) => (begins = resolve));
  const noting = new Noting(timers, () => undefined);
  const first = noting.note('a', async () => {
    begins();
    await slow;
    written.push('a1');
  });
  await begun;
  const later = ['a2', 'a3'].map((text) =>
    noting.note('a', async () => await Promise.resolve(void written.push(text))),
  );
  await noting.note('b', async () => await Promise.resolve(void written.push('b')));
  expect(written).toEqual(['b']);
  goOn();
  await Promise.all([first, ...later]);
  expect(written).toEqual(['b', 'a1', 'a3']);
  await noting.close();
});
