/** Work in portions, each of which ends when others are due: it may be done to its end at once, or with their turns in between. */
import type { Turns } from '../../shared/env/turns.ts';

export type Portions<T> = Generator<undefined, T>;
export type IsDue = () => boolean;

export const never: IsDue = () => false;

/** All of it, at once. */
export function atOnce<T>(portions: Portions<T>): T {
  let next = portions.next();
  while (next.done !== true) next = portions.next();
  return next.value;
}

/** `turns`: left out where others are to have none. */
export async function inTurns<T>(
  begin: (isDue: IsDue) => Portions<T>,
  turns: Turns | undefined,
): Promise<T> {
  const portions = begin(() => turns?.isDue === true);
  let next = portions.next();
  for (; next.done !== true; next = portions.next()) await turns?.pass();
  return next.value;
}
