/** What the collector says of gateways: a state once it has held, its reason, what is gone; the same from any collector. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Fields } from '../../collector/fleet/fields.ts';
import { FIRST_MS, TROUBLE_MS, Teller } from '../../collector/fleet/teller.ts';
import type { EpochRecord } from '../../collector/ledger/epoch-ledger.ts';
import { LedgerView, type Link, HELD_USED } from '../../collector/ledger/view.ts';
import { EmbeddedLog } from '../../collector/log/embedded.ts';
import { TOPIC_LEDGER, TOPIC_RESULTS, type LogConsumer } from '../../collector/log/log.ts';
import { topics } from '../../collector/log/topics.ts';
import { decodeReadings } from '../../shared/model/readings-record.ts';
import type { Reading } from '../../shared/model/reading.ts';
import { temporaryFolder } from '../support/process.ts';

/** Half past an hour. */
const T0 = 1_790_001_000_000;
const HOUR_MS = 3_600_000;
const EPOCH = 'aaaaaaaaaaaaaaaa';
const S = 1000;

let log: EmbeddedLog;
let ledger: LedgerView;
let teller: Teller;
let results: LogConsumer;
let nowMs: number;
const notices: string[] = [];

const open = (fields?: Fields): Teller =>
  new Teller({
    ...{ log, ledger, fields },
    locationOf: (gateway) => (gateway === 'barn' ? [57.1, -2.1] : undefined),
    nowMs: () => nowMs,
    monotonicMs: () => nowMs,
    notify: ({ text }) => void notices.push(text),
  });

beforeEach(async () => {
  nowMs = T0;
  notices.length = 0;
  log = new EmbeddedLog(
    { folder: temporaryFolder(), cacheBytes: 1 << 20, topics: topics(Infinity), now: () => nowMs },
    () => undefined,
  );
  await log.open();
  ledger = new LedgerView(log);
  await ledger.start();
  teller = open();
  results = await log.consumer({
    ...{ group: 'test', topic: TOPIC_RESULTS, from: 'start', bytesMax: 1 << 20 },
  });
});
afterEach(async () => {
  await teller.close();
  await results.close();
  await ledger.close();
  await log.close();
});

/** Into the ledger, and waits until it is seen there. */
async function note(
  key: string,
  value: object,
  headers: Record<string, string> = {},
): Promise<void> {
  let isSeen = false;
  const watch = await log.watch(TOPIC_LEDGER, (records) => {
    isSeen ||= records.some((record) => record.key === 'seen/me');
  });
  await log.append(TOPIC_LEDGER, [
    { key, headers, value: Buffer.from(JSON.stringify(value)) },
    { key: 'seen/me', headers: {}, value: Buffer.from(String(nowMs)) },
  ]);
  while (!isSeen) await new Promise((resolve) => setImmediate(resolve));
  await watch.close();
}

const link = (connected: boolean): Promise<void> =>
  note('link/barn', { connected, at: nowMs } satisfies Link);
const account = (record: Partial<EpochRecord>): Promise<void> =>
  note(`decoded/barn/${EPOCH}`, { ranges: [], statusMs: nowMs, ...record });

/** Looks as often as it does by itself. */
async function pass(ms: number): Promise<void> {
  const endMs = nowMs + ms;
  while (nowMs < endMs) {
    nowMs = Math.min(endMs, nowMs + 5 * S);
    await teller.look();
  }
}

async function told(): Promise<Reading[]> {
  const records = await results.poll(0);
  return records.flatMap(({ value }) => decodeReadings(value).readings);
}

const wordsOf = (readings: readonly Reading[]): unknown[] =>
  readings.map(({ fields, timeMs }) => [
    fields['state_text'],
    fields['event_text'],
    (timeMs - T0) / S,
  ]);

describe('how a gateway stands', () => {
  it('is said a minute after it came, and again each hour, so that every range has it', async () => {
    await link(true);
    await pass(FIRST_MS - S);
    expect(await told()).toEqual([]);
    await pass(10 * S);
    const [first, ...more] = await told();
    expect(more).toEqual([]);
    expect(first).toMatchObject({
      measurement: 'headwater_gateways',
      tags: { gateway: 'barn' },
      timeMs: T0,
      fields: { state_text: 'fresh', waiting: 0, missing: 0, latitude: 57.1, longitude: -2.1 },
    });
    expect(first?.fields['event_text']).toBeUndefined();
    nowMs += HOUR_MS;
    await teller.look();
    const [again] = await told();
    expect(again?.timeMs).toBe(Math.floor(nowMs / HOUR_MS) * HOUR_MS);
    expect(again?.fields).toMatchObject({ state_text: 'fresh' });
  });

  it('a link that comes and goes is no news; an outage is, at the moment it began, and so is what came late', async () => {
    await link(true);
    await pass(FIRST_MS + 5 * S);
    await told();
    await link(false);
    await pass(TROUBLE_MS - 5 * S);
    await link(true);
    await pass(60 * S);
    expect(await told()).toEqual([]);
    const outMs = nowMs;
    await link(false);
    await pass(600 * S);
    const backMs = nowMs;
    await link(true);
    await account({ waiting: [[1, 700]], next: 701 });
    await pass(5 * S);
    await account({ ranges: [[1, 700]], next: 701 });
    await pass(20 * S);
    const words = await told();
    expect(wordsOf(words)).toEqual([
      ['silent', 'outage', (outMs - T0) / S],
      ['fresh', 'back', (backMs - T0) / S],
    ]);
    expect(words[1]?.fields).toMatchObject({
      late: 700,
      reason_text: 'barn is back after 10 min; 700 messages came late',
    });
  });

  it('a backlog that takes its time is on its way, until it is complete', async () => {
    await link(true);
    await pass(FIRST_MS + 5 * S);
    await account({ waiting: [[1, 900]], next: 901 });
    for (const [at, next] of [100, 400, 700].entries()) {
      await pass(10 * S);
      await account({ ranges: [[1, next]], waiting: [[next + 1, 900]], next: 901 });
      if (at === 0) await pass(5 * S);
    }
    await account({ ranges: [[1, 900]], next: 901 });
    await pass(30 * S);
    const words = (await told()).slice(1);
    expect(words.map(({ fields }) => fields['event_text'])).toEqual(['backfill', 'complete']);
    expect(words[0]?.fields['waiting']).toBeGreaterThan(0);
    expect(words[1]?.fields['late']).toBe(900);
  });

  it('frames that wait for a clock make it unsure', async () => {
    await link(true);
    await note(`held/barn/0b/${EPOCH}/1`, { any: 1 });
    await pass(TROUBLE_MS + 5 * S);
    expect((await told())[0]?.fields).toMatchObject({ state_text: 'unsure', held: 1 });
  });

  it('frames whose readings are written wait only for a better clock: nothing is unsure', async () => {
    await link(true);
    await note(`held/barn/0b/${EPOCH}/1`, { any: 1 });
    await pass(TROUBLE_MS + 5 * S);
    // Kept until it cannot move any more; nothing of it is missing from a store.
    await note(`held/barn/0b/${EPOCH}/1`, { any: 1 }, { [HELD_USED]: '1500000' });
    await pass(TROUBLE_MS + 5 * S);
    const words = await told();
    expect(words.map(({ fields }) => fields['state_text'])).toEqual(['unsure', 'fresh']);
    expect(words[1]?.fields['held']).toBe(0);
  });

  it('of what never was connected nothing is said, nor for ever of what is gone', async () => {
    await note(`decoded/http/${EPOCH}`, { ranges: [[1, 3]], statusMs: nowMs });
    await pass(FIRST_MS * 2);
    expect(await told()).toEqual([]);
    await link(false);
    await pass(20 * S);
    expect(wordsOf(await told())).toEqual([['silent', 'outage', 120]]);
    nowMs += 31 * 24 * HOUR_MS;
    await teller.look();
    expect(await told()).toEqual([]);
  });

  it('a log that cannot be written is tried again, and told once', async () => {
    await link(false);
    const { append } = log;
    log.append = () => Promise.reject(new Error('no room'));
    await pass(30 * S);
    expect(notices).toEqual(['how gateways stand could not be noted: no room']);
    log.append = append;
    await pass(5 * S);
    expect(wordsOf(await told())).toEqual([['silent', 'outage', 0]]);
  });
});

describe('what is gone', () => {
  const lost = [{ from: 9, to: 12, cause: 'dropped' as const, reason: 'full', since: T0 + 7 }];
  const missing = [
    { from: 3, to: 5, since: T0 + 7 },
    { from: 7, to: 7, since: T0 + 7 },
  ];

  it('is said with since when and why, each a point of its own, and is taken back when it comes after all', async () => {
    await link(true);
    await account({ lost, missing, next: 13 });
    await pass(5 * S);
    const gone = await told();
    expect(gone.map(({ tags, fields }) => [tags['cause'], fields['messages']])).toEqual([
      ['dropped', 4],
      ['missing', 3],
      ['missing', 1],
    ]);
    expect(gone[0]).toMatchObject({
      measurement: 'headwater_losses',
      timeMs: T0 + 7,
      fields: { from: 9, to: 12, epoch_text: EPOCH, reason_text: 'full' },
    });
    expect(new Set(gone.map(({ ns }) => ns)).size).toBe(3);
    await account({ ranges: [[3, 5]], lost, missing: missing.slice(1), next: 13 });
    await pass(5 * S);
    const [back, ...more] = await told();
    expect(more).toEqual([]);
    const { sequence, index, timeMs, ns } = gone[1] as Reading;
    expect(back).toMatchObject({ sequence, index, timeMs, ns, fields: { messages: 0 } });
  });

  it('another collector says the same of it, and a later start nothing of what is long past', async () => {
    await link(true);
    await account({ lost, next: 13 });
    await pass(5 * S);
    const first = await told();
    teller = open();
    await pass(5 * S);
    expect(await told()).toEqual(first);
    nowMs += 48 * HOUR_MS;
    teller = open();
    await teller.look();
    expect(await told()).toEqual([]);
  });
});

it('units and names of fields are said once they have held for a minute, and each day', async () => {
  const fields = new Fields(log, () => nowMs);
  await fields.start();
  teller = open(fields);
  const series = JSON.stringify(['climate', 'temperature', 'gateway', 'barn']);
  await note(`meta/${series}`, { unit: '°C', name: 'Air' });
  await pass(FIRST_MS + 5 * S);
  const [said, ...more] = await told();
  expect(more).toEqual([]);
  expect(said).toMatchObject({
    measurement: 'headwater_fields',
    tags: { measurement: 'climate', field: 'temperature' },
    fields: { unit_text: '°C', name_text: 'Air' },
  });
  nowMs += 24 * HOUR_MS;
  await teller.look();
  expect(await told()).toHaveLength(1);
  await fields.close();
});
