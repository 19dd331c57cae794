/** What `curl --data` sends: it calls everything a form, and what it sends is seldom one. */
import { expect, it } from 'vitest';
import { encodeProperties } from '../../shared/mqtt/properties.ts';
import { decodeMessage } from '../support/decode.ts';

const FORM = 'application/x-www-form-urlencoded';

it.each([
  ['{"kwh": 4}', { kwh: 4 }],
  ['  {"kwh":4,"note":"a=b"}', { kwh: 4, note_text: 'a=b' }],
  ['21.5', { value: 21.5 }],
  ['climate,room=kitchen kwh=4', { kwh: 4 }],
  ['kwh=4&note=a%20b', { kwh: 4, note_text: 'a b' }],
])('%s called a form becomes what it is', (payload, fields) => {
  const properties = encodeProperties({ contentType: FORM, user: [] });
  const [reading, ...more] = decodeMessage('plant/meter', payload, { properties });
  expect(more).toEqual([]);
  expect(reading?.fields).toEqual(fields);
});
