/** What the gateway keeps of who connects. */
import { expect, it } from 'vitest';
import { Identities } from '../../gateway/ingress/identities.ts';
import { realEnv } from '../../shared/env/env.ts';

it('an id may connect so often in a minute; of ids that never come again nothing is kept beyond it', () => {
  let nowUs = 0;
  const clock = { wallUs: () => nowUs, monotonicUs: () => nowUs };
  const identities = new Identities('owner', 2, { ...realEnv(), clock });
  for (let at = 0; at < 3000; at++) {
    nowUs += 200_000;
    expect(identities.mayConnect(`random-${at}`)).toBe(true);
    // Five a second.
    expect(identities.counted).toBeLessThanOrEqual(301);
  }
  expect([1, 2, 3].map(() => identities.mayConnect('often'))).toEqual([true, true, false]);
  nowUs += 59_000_000;
  expect(identities.mayConnect('often')).toBe(false);
  nowUs += 2_000_000;
  expect(identities.mayConnect('often')).toBe(true);
  expect(identities.counted).toBe(1);
});
