/** A figure with a unit of its own is told as the setting wants it. */
import { expect, it } from 'vitest';
import { COLLECTOR_CONFIG } from '../../collector/config.ts';
import { loadConfig } from '../../shared/config/spec.ts';
import { inUnit } from '../../shared/config/units.ts';

it.each([
  ['10GB', 'bytes', 10_000_000_000],
  ['1 GiB', 'bytes', 1_073_741_824],
  ['1g', 'bytes', 1_073_741_824],
  ['1.5M', 'bytes', 1_572_864],
  ['100_000', 'bytes', 100_000],
  ['2MB', 'bytes/s', 2_000_000],
  ['5m', 'seconds', 300],
  ['5 min', 's', 300],
  ['2s', 'ms', 2000],
  ['1h', 'ms', 3_600_000],
  ['500ms', 'seconds', 1],
  ['2 weeks', 'days', undefined],
  ['ten', 'bytes', undefined],
  ['-1GB', 'bytes', undefined],
  ['5m', 'messages', undefined],
])('%s of %s is %s', (text, unit, number) => {
  expect(inUnit(text, unit)).toBe(number);
});

it('a setting says what to write, where that is within its bounds', () => {
  const load = (name: string, value: string): unknown =>
    loadConfig(COLLECTOR_CONFIG, { environment: { [name]: value } });
  expect(() => load('HEADWATER_DISK_FREE_BYTES_MIN', '1 GiB')).toThrow(
    /'1 GiB' is not a whole number of bytes; write 1073741824$/,
  );
  expect(() => load('HEADWATER_LAKE_FLUSH_SECONDS', '5m')).toThrow(
    /'5m' is not a whole number of seconds; write 300$/,
  );
  expect(() => load('HEADWATER_LAKE_FLUSH_SECONDS', '5 d')).toThrow(
    /'5 d' is not a whole number of seconds$/,
  );
});
