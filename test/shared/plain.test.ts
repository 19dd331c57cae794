/** What is shown of names that others have made. */
import { expect, it } from 'vitest';
import { plain } from '../../shared/model/plain.ts';

it.each([
  ['usual', 'usual'],
  ['مطبخ ประเทศไทย हिन्दी Việt \u2600\ufe0f', 'مطبخ ประเทศไทย हिन्दी Việt \u2600\ufe0f'],
  ['a\u0000\u001b[31m\u009b', 'a\\u0000\\u001b[31m\\u009b'],
  ['\u202egnp.exe\u2066', '\\u202egnp.exe\\u2066'],
  [
    '\u061c\u200b\u00ad\u034f\u3164\u2800\ufeff',
    '\\u061c\\u200b\\u00ad\\u034f\\u3164\\u2800\\ufeff',
  ],
  ['\u{e0041}', '\\udb40\\udc41'],
  ['a\u2028b', 'a\\u2028b'],
])('%j', (text, expected) => {
  expect(plain(text)).toBe(expected);
});

it('marks that pile up end at the fifth, in time that grows with the length', () => {
  expect(plain(`z${'\u0301'.repeat(7)}`)).toBe(`z${'\u0301'.repeat(5)}\\u0301\\u0301`);
  const before = process.cpuUsage();
  plain('\u0301'.repeat(200_000));
  expect(process.cpuUsage(before).user / 1000).toBeLessThan(3000);
});
