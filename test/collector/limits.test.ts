/** What is let in, every later stage can take: each limit is walked through decode, the embedded store and the lake. */
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parseMappings } from '../../collector/decode/mapping/mapping.ts';
import { Mappings } from '../../collector/decode/mapping/mappings.ts';
import { shippedMappings } from '../../collector/decode/mapping/shipped.ts';
import { DecodeStage } from '../../collector/decode/stage.ts';
import { Lake } from '../../collector/lake/lake.ts';
import { LocalObjects } from '../../collector/lake/local.ts';
import { LakeStage } from '../../collector/lake/stage.ts';
import { EmbeddedLog } from '../../collector/log/embedded.ts';
import { TOPIC_QUARANTINE, TOPIC_RAW } from '../../collector/log/log.ts';
import { topics } from '../../collector/log/topics.ts';
import { DuckDbStore } from '../../collector/store/duckdb.ts';
import { StoreStage } from '../../collector/store/stage.ts';
import { FrameBuilder } from '../../shared/frame/builder.ts';
import {
  CLOCK_SYNCHRONISED,
  CLOCK_UNKNOWN,
  KIND_ANCHOR,
  KIND_LOSS,
  KIND_STATUS,
  KIND_SUMMARY,
} from '../../shared/frame/frame.ts';
import { noteFrame } from '../../shared/frame/notes.ts';
import {
  NAME_BYTES_MAX,
  SERIES_BYTES_MAX,
  TAG_BYTES_MAX,
  TEXT_BYTES_MAX,
} from '../../shared/model/limits.ts';
import { decodeQuarantined } from '../../shared/model/quarantine-record.ts';
import { temporaryFolder, until } from '../support/process.ts';

const NOW = Date.now();
const IDENTITY = { gateway: 'gw', epoch: Buffer.alloc(8, 1), bootId: Buffer.alloc(8, 2) };

let log: EmbeddedLog;
let store: DuckDbStore;
let lake: Lake;
const stages: { close(): Promise<void> }[] = [];
const troubles: string[] = [];
let sequence = 1;
let good = 0;

beforeAll(async () => {
  const folder = temporaryFolder();
  const notify = ({ level, text }: { level: string; text: string }): void => {
    if (level !== 'info') troubles.push(text);
  };
  const now = () => Date.now();
  log = new EmbeddedLog({ folder, cacheBytes: 1 << 20, topics: topics(Infinity), now }, notify);
  await log.open();
  store = new DuckDbStore({ folder, memoryBytes: 128 << 20, now }, notify);
  await store.open();
  lake = new Lake(new LocalObjects(join(folder, 'lake')), {
    folder,
    memoryBytes: 128 << 20,
    cacheBytes: 1 << 20,
  });
  await lake.open();
  const mappings = new Mappings([
    ...parseMappings('mappings: [{topic: tagged, tagFields: [tag, more]}]', 'own'),
    ...shippedMappings().flatMap(({ file, text }) => parseMappings(text, file)),
  ]);
  const limits = { perClient: 1e6, perGateway: 1e6, fieldsPerTopic: 1e6, fieldsPerGateway: 1e6 };
  const all = [
    new DecodeStage(log, mappings, limits, notify),
    new StoreStage({ log, store, notify, fillRate: 1e6 }),
    ...(['raw', 'readings'] as const).map(
      (zone) => new LakeStage({ zone, log, lake, flushMs: 1, flushBytes: 1 << 20, notify }),
    ),
  ];
  for (const stage of all) stage.start();
  stages.push(...all);
});

afterAll(async () => {
  for (const stage of stages) await stage.close();
  await store.close();
  await lake.close();
  await log.close();
});

async function append(value: Buffer, count: number): Promise<void> {
  sequence += count;
  const headers = { arrived: String(NOW), lane: '0' };
  await log.append(TOPIC_RAW, [{ key: 'gw', value, headers }]);
}

interface Sent {
  topic: string;
  payload: string | Buffer;
  client?: string;
  properties?: Uint8Array;
}

const frameOf = (messages: Sent[], wallUs: number, quality = CLOCK_SYNCHRONISED): Buffer => {
  const builder = new FrameBuilder();
  for (const { topic, payload, client = 'c', ...more } of messages)
    builder.add(
      {
        client,
        topic,
        qos: 1,
        retain: false,
        dup: false,
        payload: Buffer.from(payload as string),
        ...more,
      },
      wallUs,
      1,
    );
  return builder.finish(IDENTITY, sequence, quality, true);
};

/** Sends it with a good one behind it, and waits until that is in store and lake. Returns the reasons in quarantine. */
async function walk(messages: Sent[], wallMs = NOW): Promise<string[]> {
  await append(frameOf(messages, wallMs * 1000), messages.length);
  return await goesOn();
}

async function goesOn(): Promise<string[]> {
  const value = ++good;
  await append(frameOf([{ topic: 'good', payload: `{"n":${value}}` }], NOW * 1000), 1);
  await until('the good one in the store', async () => {
    const [latest] = await store.latest({ measurement: 'good' });
    return (latest?.value as number) >= value ? true : undefined;
  });
  await until('the good one in the lake', async () => {
    const rows = await lake.query({}, async (connection) =>
      (
        await connection.runAndReadAll(
          "SELECT max(fields['n']) FROM readings WHERE measurement = 'good'",
        )
      ).getRows(),
    );
    return Number(rows[0]?.[0]) >= value ? true : undefined;
  });
  expect(troubles).toEqual([]);
  return await reasons();
}

let seen = 0;
/** New ones in quarantine. */
async function reasons(): Promise<string[]> {
  const consumer = await log.consumer({
    group: `look-${Math.floor(performance.now() * 1000)}`,
    topic: TOPIC_QUARANTINE,
    from: 'start',
    bytesMax: 1 << 30,
  });
  const all: string[] = [];
  try {
    while (consumer.ended().size < log.partitions)
      for (const { value } of await consumer.poll(50)) all.push(decodeQuarantined(value).reason);
  } finally {
    await consumer.close();
  }
  const fresh = all.slice(seen);
  seen = all.length;
  return fresh;
}

const stored = async (measurement: string): Promise<Record<string, unknown>> =>
  Object.fromEntries(
    (await store.latest({ measurement })).map(({ field, value }) => [field, value]),
  );

describe('a length at its limit goes through, one beyond it goes to quarantine and the rest is stored', () => {
  const name = (length: number): string => 'ü'.repeat(length / 2);
  it('names of fields', async () => {
    const [fits, beyond] = [name(NAME_BYTES_MAX), name(NAME_BYTES_MAX + 2)];
    const payload = JSON.stringify({ [fits]: 1, [beyond]: 2, ok: 3 });
    expect(await walk([{ topic: 'f', payload }])).toEqual([
      expect.stringMatching(/name of the field 'ü+…' has more than 1024 bytes.*rest .* stored/),
    ]);
    expect(await stored('f')).toEqual({ [fits]: 1, ok: 3 });
  });
  it('measurements, of a topic of any length too', async () => {
    const long = 'm'.repeat(NAME_BYTES_MAX);
    const topics_ = [long, `${long}x`, 'x'.repeat(60_000), `a/${'b/'.repeat(20_000)}c`];
    const sent = topics_.map((topic) => ({ topic, payload: '{"v":1}' }));
    const found = await walk(sent);
    expect(found).toHaveLength(3);
    expect(await stored(long)).toEqual({ v: 1 });
  });
  it('tags, each and all together', async () => {
    const tag = (length: number): string => 't'.repeat(length);
    const of = (tag_: string, more = ''): Sent => ({
      topic: 'tagged',
      payload: JSON.stringify({ tag: tag_, more, v: tag_.length }),
    });
    const found = await walk([
      of(tag(TAG_BYTES_MAX)),
      of(tag(TAG_BYTES_MAX + 1)),
      of(tag(TAG_BYTES_MAX), tag(TAG_BYTES_MAX)),
      of('"'.repeat(TAG_BYTES_MAX), '"'.repeat(SERIES_BYTES_MAX / 4)),
    ]);
    expect(found).toEqual([
      expect.stringMatching(/the tag 'tag' has more than 16384 bytes/),
      expect.stringMatching(/together have more than 32768 bytes/),
      expect.stringMatching(/together have more than 32768 bytes/),
    ]);
    expect(await stored('tagged')).toEqual({ v: TAG_BYTES_MAX });
  });
  it('texts', async () => {
    const payload = JSON.stringify({
      fits: 'x'.repeat(TEXT_BYTES_MAX),
      beyond: 'x'.repeat(TEXT_BYTES_MAX + 1),
      ok: 1,
    });
    expect(await walk([{ topic: 'text', payload }])).toEqual([
      expect.stringMatching(/the text 'beyond_text' has more than/),
    ]);
    expect(Object.keys(await stored('text')).sort()).toEqual(['fits_text', 'ok']);
  });
  it('NUL and halves of surrogate pairs, in names, tags and texts', async () => {
    const found = await walk([
      { topic: 'nul', payload: '{"a\\u0000b":1,"t":"x\\u0000y","u":"\\ud800","ok":1}' },
      { topic: 'tagged', payload: '{"tag":"x\\u0000","v":1}' },
      { topic: 'tagged', payload: '{"tag":"\\udfff","v":1}' },
    ]);
    expect(found).toHaveLength(3);
    expect(await stored('nul')).toEqual({ ok: 1 });
  });
  it('numbers of values, points and levels', async () => {
    const many = JSON.stringify(
      Object.fromEntries(Array.from({ length: 1001 }, (_, i) => [`f${i}`, i])),
    );
    const lines = 'm v=1\n'.repeat(20_001);
    const deep = `{"a":${'['.repeat(40)}1${']'.repeat(40)}}`;
    const found = await walk([
      { topic: 'n', payload: many },
      { topic: 'n', payload: lines },
      { topic: 'n', payload: deep },
    ]);
    expect(found).toEqual([
      expect.stringMatching(/more than 1000 values/),
      expect.stringMatching(/more than 20000 lines/),
      expect.stringMatching(/nested more than 32 levels/),
    ]);
  });
});

describe('times', () => {
  it.each([
    ['beyond 2262', Date.UTC(2263, 0)],
    ['beyond all dates', 9_000_000_000_000],
    ['beyond what a date can be', 9_007_199_254_000],
    ['before 1677', Date.UTC(1600, 0)],
  ])('a frame of a time %s: its messages go to quarantine', async (_what, wallMs) => {
    const found = await walk([{ topic: 'when', payload: '{"v":1}' }], wallMs);
    if (wallMs >= Date.UTC(1678, 0) && wallMs < 9_223_372_036_853) expect(found).toEqual([]);
    else expect(found).toEqual([expect.stringMatching(/time.* beyond what stores can hold/)]);
  });
  it('at both ends of what stores hold it goes through', async () => {
    expect(await walk([{ topic: 'ends', payload: '{"v":1}' }], 9_223_372_036_000)).toEqual([]);
    expect(await walk([{ topic: 'ends', payload: '{"v":1}' }], 0)).toEqual([]);
  });
});

describe('keys of what is remembered', () => {
  const long = 'z'.repeat(65_500);
  it('a discovery below a long topic, and one that names a topic of 70,000 characters', async () => {
    const config = (topic: string): Sent => ({
      topic: 'homeassistant/sensor/x/config',
      payload: JSON.stringify({ state_topic: topic, unit_of_measurement: 'V', name: 'x' }),
    });
    expect(await walk([config('s'.repeat(70_000)), config('known')])).toEqual([]);
    const topic = `homeassistant/sensor/${'o'.repeat(1900)}/config`;
    expect(await walk([{ ...config('known'), topic }])).toEqual([]);
  });
  it('clients, aliases, ids and descriptions of any length', async () => {
    const found = await walk([
      { topic: 'by-client', payload: '{"v":1}', client: long },
      {
        topic: `homie/5/${'d'.repeat(1900)}/$description`,
        payload: '{"homie":"5.0","version":1,"nodes":{}}',
      },
      { topic: `homie/${'d'.repeat(1900)}/n/p/$datatype`, payload: 'string' },
      {
        topic: `spBv1.0/${'g'.repeat(900)}/NDATA/${'n'.repeat(900)}`,
        payload: Buffer.from('120408011001', 'hex'),
      },
      {
        topic: `application/${'a'.repeat(1500)}/device/b/event/up`,
        payload: '{"deduplicationId":"x","deviceInfo":{},"object":{"t":1}}',
      },
    ]);
    expect(found.filter((reason) => !/more than|alias|Sparkplug/.test(reason))).toEqual([]);
    expect(await stored('by-client')).toEqual({ v: 1 });
  });
  it('what it says of a field, of any length', async () => {
    const unit = 'u'.repeat(70_000);
    expect(
      await walk([
        {
          topic: 'homeassistant/sensor/y/config',
          payload: JSON.stringify({ state_topic: 'known', unit_of_measurement: unit }),
        },
        { topic: 'known', payload: '5' },
      ]),
    ).toEqual([]);
    expect(await stored('known')).toEqual({ value: 5 });
  });
});

describe('notes of a gateway', () => {
  const time = { wallUs: NOW * 1000, monotonicUs: 1, clockQuality: CLOCK_SYNCHRONISED };
  const long = 'e'.repeat(70_000);
  it.each([
    [
      'a loss of an epoch that is none',
      KIND_LOSS,
      { cause: 'damaged', where: 'x', reason: 'y', epoch: long },
    ],
    [
      'an anchor of a boot that is none',
      KIND_ANCHOR,
      { boot: long, monotonicUs: 1, wallUs: 1, errorUs: 1, basis: 'collector' },
    ],
    [
      'a summary of an epoch that is none',
      KIND_SUMMARY,
      { epoch: long, replaces: [[1, 2]], series: [] },
    ],
    [
      'a summary of series that are none',
      KIND_SUMMARY,
      { epoch: '0101010101010101', replaces: [[1, 2]], series: [{}] },
    ],
    [
      'a status of epochs that are none',
      KIND_STATUS,
      { epochs: [{ epoch: long, next: 1, waiting: [], history: [], lost: [] }] },
    ],
  ] as const)('%s: quarantine', async (_what, kind, note) => {
    await append(
      noteFrame(kind, note as never, IDENTITY, kind === KIND_STATUS ? 0 : sequence, time),
      1,
    );
    expect(await goesOn()).toEqual([expect.stringMatching(/not a note of kind/)]);
  });
  it('an anchor of an impossible time holds up nobody', async () => {
    await append(frameOf([{ topic: 'held', payload: '{"v":1}' }], 1000, CLOCK_UNKNOWN), 1);
    const anchor = {
      boot: '0202020202020202',
      monotonicUs: 1,
      wallUs: 9e15,
      errorUs: 1,
      basis: 'collector' as const,
    };
    await append(
      noteFrame(KIND_ANCHOR, { ...anchor, wallUs: 9.5e15 }, IDENTITY, sequence, time),
      1,
    );
    expect(await goesOn()).toEqual([expect.stringMatching(/beyond what stores can hold/)]);
  });
  it('a summary of an impossible time, or with a name beyond all limits, gives no reading', async () => {
    const series = (topic: string, fromUs: number) => ({
      client: 'c',
      topic,
      constants: {},
      numbers: { value: [1, 1, 1, 1] as [number, number, number, number] },
      fromUs,
      toUs: fromUs,
    });
    const note = {
      epoch: '0101010101010101',
      replaces: [] as [number, number][],
      series: [
        series('a', 9.9e18),
        series('b'.repeat(5000), NOW * 1000),
        series('fine', NOW * 1000),
      ],
    };
    await append(noteFrame(KIND_SUMMARY, note, IDENTITY, sequence, time), 1);
    expect(await goesOn()).toEqual([]);
    expect(await stored('fine')).toMatchObject({ value_mean: 1 });
  });
});
