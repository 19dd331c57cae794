/**
 * Trials that only their length keeps out of every run: `npm run test:long` has them, and so has a release. A run that
 * leaves them out names them at its end.
 */
import { it } from 'vitest';
import { LONG } from './names.ts';
import { FULL } from './seed.ts';

const isLong = FULL || process.env['HEADWATER_LONG'] === '1';

/** `it` for such a trial. */
export const long = (name: string, ...rest: [() => Promise<void>, number?]): void => {
  (isLong ? it : it.skip)(`${name} ${LONG}`, ...rest);
};
