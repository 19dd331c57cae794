/** What the console says of refused connections: every reason, seldom, and never without end. */
import { expect, it } from 'vitest';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Audit } from '../../shared/access/audit.ts';
import { Refusals, mistakeOf } from '../../shared/access/refusals.ts';
import { Seldom } from '../../shared/access/seldom.ts';
import { temporaryFolder } from '../support/process.ts';

const MINUTE_US = 60_000_000;

it('once a minute for an address and reason, 20 lines a minute in all, and how many were not told', () => {
  let nowUs = 0;
  const told: string[] = [];
  const refusals = new Refusals(
    () => nowUs,
    ({ text }) => void told.push(text),
    'refused',
  );
  for (let each = 0; each < 1000; each++) refusals.say('192.0.2.1', 'wrong', 'wrong of 1');
  refusals.say('192.0.2.1', 'late', 'late of 1');
  expect(told).toEqual([
    'wrong of 1',
    'late of 1 (since the last such line 999 more were refused)',
  ]);
  // Addresses of one network of IPv6 are one.
  for (let each = 0; each < 50; each++) refusals.say(`2001:db8::1:${each}`, 'wrong', 'wrong of v6');
  expect(told).toHaveLength(3);
  for (let each = 0; each < 100_000; each++)
    refusals.say(`10.${each >> 16}.${(each >> 8) & 255}.${each & 255}`, 'wrong', 'flood');
  expect(told).toHaveLength(20);
  nowUs += MINUTE_US;
  refusals.say('192.0.2.1', 'wrong', 'again');
  expect(told.at(-1)).toMatch(/^again \(since the last such line \d{5} more were refused\)$/);
});

it('names the mistakes of whoever set a device up, and nothing else', () => {
  expect(mistakeOf('protocol version 6 is not spoken here', '3, 4, 5')).toBe(
    "it speaks MQTT's protocol version 6; spoken here: 3, 4, 5",
  );
  expect(mistakeOf('the first packet is not a CONNECT', '')).toMatch(/HTTP or TLS/);
  expect(mistakeOf('the client closed', '')).toBeUndefined();
});

it('of lines that strangers can bring about each has a share: ever new keys of one mute no other', () => {
  let nowUs = 0;
  const seldom = new Seldom(() => nowUs);
  let said = 0;
  for (let each = 0; each < 5000; each++)
    if (seldom.may(`too large id-${each}`, '192.0.2.1') !== undefined) said++;
  expect(said).toBe(60);
  expect(seldom.may('buffer share of another', '192.0.2.2')).toBe(0);
  nowUs += MINUTE_US;
  expect(seldom.may('too large id', '192.0.2.1')).toBe(0);
});

it('who floods the audit log hides nobody else in it, and what was not written is counted', async () => {
  const folder = temporaryFolder();
  const audit = new Audit(
    folder,
    () => 1e12,
    () => undefined,
  );
  for (let each = 0; each < 5000; each++)
    audit.say({ event: 'refused', address: `2001:db8::${each.toString(16)}`, reason: 'wrong' });
  audit.say({ event: 'approved', user: 'admin', address: '192.0.2.9', about: 'roof-1' });
  audit.say({ event: 'reloaded', about: 'acl.yaml' });
  await audit.close();
  const lines = readFileSync(join(folder, 'audit.log'), 'utf8')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as { event: string; suppressedBefore?: number });
  expect(lines.filter(({ event }) => event === 'refused')).toHaveLength(50);
  expect(lines.slice(50)).toMatchObject([
    { event: 'approved', suppressedBefore: 4950 },
    { event: 'reloaded' },
  ]);
});

it('what a stranger calls himself reaches no terminal from the audit log: C1, bidirectional controls and line ends are escaped', async () => {
  const folder = temporaryFolder();
  const audit = new Audit(
    folder,
    () => 1e12,
    () => undefined,
  );
  const evil = 'a\u009b31m\u202e\u2028\nforged';
  audit.say({ event: 'refused', client: evil, address: '192.0.2.1' });
  await audit.close();
  const text = readFileSync(join(folder, 'audit.log'), 'utf8');
  expect(text).toMatch(/^[ -~]+\n$/);
  expect(JSON.parse(text)).toMatchObject({ client: evil });
});
