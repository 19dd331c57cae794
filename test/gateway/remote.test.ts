/** What a gateway keeps of settings from afar, through a kill at every step. */
import { readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import type { RemoteAcceptance } from '../../gateway/choices.ts';
import { Remote } from '../../gateway/remote.ts';
import type { RemoteConfig } from '../../shared/model/remote.ts';
import { temporaryFolder } from '../support/process.ts';

const SECURE = 'mqtts://collector.example:8885';
const config = (letter: string, settings: RemoteConfig['settings']): RemoteConfig => ({
  gateway: 'gw',
  revision: letter.repeat(16),
  settings,
  backAfterSeconds: 30,
});
/** As a process that begins on the folder, whatever became of the one before. */
const begun = (folder: string, acceptance: RemoteAcceptance = 'secure'): Remote =>
  new Remote(
    folder,
    'gw',
    acceptance,
    () => 7,
    () => undefined,
  );

it('killed at any step it goes on from there: on trial, proven, or back', async () => {
  const folder = temporaryFolder();
  expect(await begun(folder).begin()).toEqual({});
  expect(await begun(folder).offer(config('a', { 'uplink.statusMs': 500 }), SECURE)).toBe(true);
  // Killed before the parts were opened again.
  const second = begun(folder);
  expect(await second.begin()).toEqual({ 'uplink.statusMs': 500 });
  expect(second.report()).toEqual({ trying: 'a'.repeat(16) });
  await second.prove();
  // Killed before that could be told.
  const third = begun(folder);
  expect(third.report()).toEqual({ applied: 'a'.repeat(16) });
  expect(third.backAfterSeconds).toBeUndefined();
  expect(await third.offer(config('a', { 'uplink.statusMs': 500 }), SECURE)).toBe(false);
  expect(await third.offer(config('b', { 'uplink.statusMs': 900 }), SECURE)).toBe(true);
  await third.back('no uplink');
  // Killed before the parts were opened again.
  const fourth = begun(folder);
  expect(await fourth.begin()).toEqual({ 'uplink.statusMs': 500 });
  const failed = { revision: 'b'.repeat(16), state: 'rolled back', why: 'no uplink' };
  expect(fourth.report()).toEqual({ applied: 'a'.repeat(16), failed });
  expect(await fourth.offer(config('b', { 'uplink.statusMs': 900 }), SECURE)).toBe(false);
});

it('settings that end the process again and again are given up', async () => {
  const folder = temporaryFolder();
  await begun(folder).offer(config('a', { 'uplink.statusMs': 500 }), SECURE);
  const starts: object[] = [];
  for (let start = 0; start < 6; start++) starts.push(await begun(folder).begin());
  expect(starts.slice(0, 5)).toEqual(Array(5).fill({ 'uplink.statusMs': 500 }));
  expect(starts[5]).toEqual({});
  expect(begun(folder).report().failed?.why).toMatch(/started 5 times/);
});

it('a damaged file is set aside, and what this version does not know is refused with its reason', async () => {
  const folder = temporaryFolder();
  const path = join(folder, 'remote.json');
  for (const text of ['{"good":', '[]x', '{"good":{"revision":1}}', '{"trial":{}}', 'null']) {
    writeFileSync(path, text);
    expect(await begun(folder).begin(), text).toEqual({});
  }
  expect(readdirSync(folder)).toContain('remote.json.damaged-7');
  const good = { revision: 'a'.repeat(16), settings: { 'uplink.gone': 1 } };
  writeFileSync(path, JSON.stringify({ good }));
  const remote = begun(folder);
  expect(await remote.begin()).toEqual({});
  expect(remote.report().failed).toMatchObject({ state: 'refused', revision: good.revision });
  // Of a trial that it cannot take, what was in force before counts.
  const before = { revision: 'c'.repeat(16), settings: { 'uplink.statusMs': 400 } };
  writeFileSync(
    path,
    JSON.stringify({ good: before, trial: { ...good, backAfterSeconds: 9, starts: 0 } }),
  );
  expect(await begun(folder).begin()).toEqual({ 'uplink.statusMs': 400 });
  expect(JSON.parse(readFileSync(path, 'utf8'))).toMatchObject({ good: before });
});

it('they are taken from who proved itself alone, unless the gateway says otherwise', async () => {
  const offer = async (acceptance: RemoteAcceptance, collector: string): Promise<string> => {
    const remote = begun(temporaryFolder(), acceptance);
    await remote.offer(config('a', { 'uplink.statusMs': 500 }), collector);
    return remote.report().failed?.why ?? 'taken';
  };
  expect(await offer('secure', SECURE)).toBe('taken');
  expect(await offer('secure', 'mqtt://127.0.0.1:1884')).toBe('taken');
  expect(await offer('secure', 'mqtt://collector.example:1884')).toMatch(
    /does not prove who it is/,
  );
  expect(await offer('any', 'mqtt://collector.example:1884')).toBe('taken');
  expect(await offer('never', SECURE)).toMatch(/takes no settings/);
});
