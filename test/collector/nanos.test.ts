import fc from 'fast-check';
import { expect, it } from 'vitest';
import { nanosOf, timeOf } from '../../collector/duckdb/nanos.ts';

it('a time is the same there and back, before 1970 too', () => {
  const ms = fc.integer({ min: -9e12, max: 9e12 });
  const ns = fc.integer({ min: 0, max: 999_999 });
  fc.assert(
    fc.property(ms, ns, (timeMs, rest) => {
      expect(timeOf(nanosOf(timeMs, rest))).toEqual({ timeMs, ns: rest });
    }),
  );
});
