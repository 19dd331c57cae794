/** Topics of an administrator who gave them less than records need: everything goes through all the same, or is named. */
import { createHash, randomBytes } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { take } from '../../collector/ingest/take.ts';
import { KafkaLog } from '../../collector/log/kafka.ts';
import { Parts } from '../../collector/log/kafka-parts.ts';
import type { LogRecord } from '../../collector/log/log.ts';
import {
  TOPIC_COMMANDS,
  TOPIC_LEDGER,
  TOPIC_QUARANTINE,
  TOPIC_RAW,
  TOPIC_READINGS,
  TOPIC_RESULTS,
  TOPIC_STATE,
  TOPIC_STREAM,
  topics,
} from '../../collector/log/topics.ts';
import { FrameBuilder } from '../../shared/frame/builder.ts';
import { CLOCK_SYNCHRONISED, checkFrame, readRecords } from '../../shared/frame/frame.ts';
import { decodeQuarantined, encodeQuarantined } from '../../shared/model/quarantine-record.ts';
import type { Quarantined, Reading } from '../../shared/model/reading.ts';
import { decodeReadings, encodeReadings } from '../../shared/model/readings-record.ts';
import { sharedKafka, type SharedKafka } from '../services/shared.ts';
import { makeTopic, readAll, setTopic } from '../support/kafka-admin.ts';
import { until } from '../support/process.ts';
import { FULL } from '../support/seed.ts';

const LIMITS = FULL ? [1000, 40_000, 1_000_000] : [1000, 40_000];
const PARTITIONS = 2;

let kafka: SharedKafka;
const logs = new Map<number, KafkaLog>();
const said: string[] = [];

/** As an administrator: every topic takes so little. */
async function makeTopics(limit: number): Promise<void> {
  for (const { name, compacted } of topics(1))
    await makeTopic(kafka.address, `${kafka.topicPrefix}of${limit}.${name}`, PARTITIONS, {
      'max.message.bytes': String(limit),
      ...(compacted ? { 'cleanup.policy': 'compact' } : {}),
    });
}

async function open(limit: number): Promise<KafkaLog> {
  const log = await KafkaLog.create(
    {
      brokers: kafka.address,
      topicPrefix: `${kafka.topicPrefix}of${limit}.`,
      partitions: PARTITIONS,
      topics: topics(1 << 20),
      now: () => Date.now(),
    },
    ({ event, text }) => said.push(`${event}: ${text}`),
  );
  await log.open();
  return log;
}

beforeAll(async () => {
  kafka = await sharedKafka();
  for (const limit of LIMITS) {
    await makeTopics(limit);
    logs.set(limit, await open(limit));
  }
});
afterAll(async () => {
  for (const log of logs.values()) await log.close();
});

/** Of values that are too long to be shown. */
const digest = (value: unknown): string =>
  createHash('sha256').update(JSON.stringify(value)).digest('hex');

const record = (key: string, value: Buffer): LogRecord => ({ key, value, headers: { h: '1' } });

/** What no compression takes away. */
const noise = (bytes: number): string => randomBytes(Math.ceil(bytes / 2)).toString('hex');

const readingsOf = (count: number, textBytes: number): Reading[] =>
  Array.from({ length: count }, (_, at) => ({
    measurement: 'm',
    tags: { topic: 'a/b', client: 'c' },
    fields: { n: at, note_text: noise(textBytes) },
    sequence: at + 1,
    index: 0,
    timeMs: 1_700_000_000_000 + at,
    ns: 0,
  }));

function frameOf(payloads: readonly string[], key = 'gw'): LogRecord {
  const builder = new FrameBuilder();
  payloads.forEach((payload, at) => {
    // The second was thinned away.
    if (at === 1) return builder.skip(1e15 + at * 1000, 5e6 + at * 1000);
    builder.add(
      {
        ...{ client: 'c', topic: `t/${at % 3}`, qos: 1, retain: at % 2 === 0, dup: false },
        payload: Buffer.from(payload),
        ...(at % 5 === 0 ? { properties: Buffer.from([1, 2, 3]) } : {}),
      },
      1e15 + at * 1000,
      5e6 + at * 1000,
    );
  });
  const identity = { gateway: key, epoch: Buffer.alloc(8, 7), bootId: Buffer.alloc(8, 9) };
  return record(key, builder.finish(identity, 1, CLOCK_SYNCHRONISED, true));
}

/** As whoever decodes it sees it. */
const messagesOf = (records: readonly { value: Buffer }[]): unknown[] =>
  records.flatMap(({ value }) => {
    const header = checkFrame(value);
    return readRecords(value, header).map((message) => ({
      ...message,
      payload: message.payload.toString(),
      properties: message.properties && [...message.properties],
      monotonicUs: header.monotonicUs + message.receivedUs - header.wallUs,
    }));
  });

describe.each(LIMITS)('topics that take %i bytes', (limit) => {
  const log = (): KafkaLog => logs.get(limit) as KafkaLog;
  /** More than one record takes, of pieces that each fit. */
  const many = Math.ceil((limit * 2.5) / 300);
  const piece = 300;

  it.each([
    TOPIC_READINGS,
    TOPIC_RESULTS,
    TOPIC_STREAM,
  ])('%s: the same readings in more records, removals first', async (topic) => {
    const readings = readingsOf(many, piece);
    const removed = readings.slice(0, 3).map((each) => ({ ...each, timeMs: each.timeMs - 1 }));
    const batch = { gateway: topic, epoch: 'e', arrivedMs: 5, readings, removed, revision: 7 };
    await log().append(topic, [record(topic, encodeReadings(batch))]);
    const all = (await readAll(log(), topic)).filter(({ key }) => key === topic);
    expect(all.length).toBeGreaterThan(1);
    const batches = all.map(({ value }) => decodeReadings(value));
    expect(batches.flatMap((each) => each.readings)).toEqual(readings);
    expect(batches.flatMap((each) => each.removed ?? [])).toHaveLength(3);
    expect(batches.findLastIndex((each) => (each.removed ?? []).length > 0)).toBeLessThan(
      batches.findIndex((each) => each.readings.length > 0),
    );
    for (const each of batches) expect(each).toMatchObject({ revision: 7, arrivedMs: 5 });
    for (const { headers } of all) expect(headers['h']).toBe('1');
  });

  it('one reading alone that is too large goes to quarantine by reference, in the step, and nothing waits behind it', async () => {
    const consumer = await log().consumer({
      ...{ group: 'step', topic: TOPIC_RAW, from: 'start', bytesMax: 1 << 20 },
    });
    await log().append(TOPIC_RAW, [frameOf(['1'], 'step')]);
    const { partition, offset } = await until('it', async () =>
      (await consumer.poll(200)).find(({ key }) => key === 'step'),
    );
    const [small, large, behind] = readingsOf(3, 20) as [Reading, Reading, Reading];
    large.fields['note_text'] = noise(limit * 2);
    const value = encodeReadings({
      ...{ gateway: 'step', epoch: 'e', arrivedMs: 5 },
      readings: [small, large, behind],
    });
    await consumer.commit({
      produce: [{ ...record('step', value), topic: TOPIC_READINGS }],
      offsets: new Map([[partition, offset + 1]]),
    });
    await consumer.close();
    const kept = (await readAll(log(), TOPIC_READINGS)).filter(({ key }) => key === 'step');
    expect(kept.flatMap((each) => decodeReadings(each.value).readings)).toEqual([small, behind]);
    const aside = (await readAll(log(), TOPIC_QUARANTINE))
      .map((each) => decodeQuarantined(each.value))
      .find(({ gateway }) => gateway === 'step');
    expect(aside).toMatchObject({ epoch: 'e', sequence: 2, index: 1, topic: 'a/b', client: 'c' });
    expect(aside?.reason).toContain('larger than Kafka');
  });

  it('raw: the same messages in more frames; one alone that is too large is not taken, and the others are', async () => {
    const payloads = Array.from({ length: many }, (_, at) => `${at} ${noise(piece)}`);
    const frame = frameOf(payloads);
    await log().append(TOPIC_RAW, [frame]);
    const all = (await readAll(log(), TOPIC_RAW)).filter(({ key }) => key === 'gw');
    expect(all.length).toBeGreaterThan(1);
    expect(digest(messagesOf(all))).toBe(digest(messagesOf([frame])));
    const mixed = frameOf(['a', 'b', noise(limit * 2), 'd', 'e'], 'mixed');
    await expect(log().append(TOPIC_RAW, [mixed])).rejects.toMatchObject({ code: 'LOG_TOO_LARGE' });
    const { tooLarge } = await take(log(), [frameOf(['x'], 'mixed2'), mixed]);
    expect(messagesOf(tooLarge)).toMatchObject([{ sequence: 3 }]);
    const rest = (await readAll(log(), TOPIC_RAW)).filter(({ key }) => key === 'mixed');
    expect(messagesOf(rest).map((each) => (each as { sequence: number }).sequence)).toEqual([
      1, 4, 5,
    ]);
  });

  it('quarantine and commands: what is shown of a payload is cut, and says so', async () => {
    const item: Quarantined = {
      ...{ gateway: 'q', epoch: 'e', sequence: 9, index: 0, client: 'c', topic: 't'.repeat(400) },
      ...{
        reason: `no: ${'r'.repeat(300)}`,
        receivedMs: 4,
        payload: Buffer.from(noise(limit * 2)),
      },
    };
    await log().append(TOPIC_QUARANTINE, [record('q', encodeQuarantined(item))]);
    await log().append(TOPIC_COMMANDS, [
      { key: 'q', value: Buffer.from(noise(limit * 2)), headers: { topic: 'x/y' } },
    ]);
    const [cut, command] = (await readAll(log(), TOPIC_QUARANTINE))
      .filter(({ key }) => key === 'q')
      .map(({ value }) => decodeQuarantined(value));
    expect(cut).toMatchObject({ epoch: 'e', sequence: 9, receivedMs: 4 });
    expect(cut?.reason).toMatch(/the first \d+ of its \d+ bytes are kept here$/);
    expect(cut?.payload.equals(item.payload.subarray(0, cut.payload.length))).toBe(true);
    expect(command).toMatchObject({ gateway: 'q', topic: 'x/y' });
    expect(await readAll(log(), TOPIC_COMMANDS)).toEqual([]);
  });

  it.each([
    TOPIC_LEDGER,
    TOPIC_STATE,
  ])('%s: a value in parts is whole for its readers, also after it was replaced and removed', async (topic) => {
    const seen = new Map<string, string>();
    const watch = await log().watch(topic, (records) => {
      for (const { key, value } of records) seen.set(key, value.toString());
    });
    const say = (value: string): Promise<void> =>
      log().append(topic, [record('k/1', Buffer.from(value)), record('k/2', Buffer.from('two'))]);
    const partition = log().partitionOf('k/1');
    const state = async (of: KafkaLog): Promise<string | undefined> =>
      (await of.state(topic, partition, 'k/1')).map(({ value }) => value.toString())[0];
    const values = [noise(limit * 3), noise(limit * 2), 'small', noise(limit * 4)];
    for (const value of values) {
      await say(value);
      expect(await state(log())).toBe(value);
      await until('the watcher', () => seen.get('k/1') === value || undefined);
    }
    const again = await open(limit);
    expect(await state(again)).toBe(values.at(-1));
    await again.append(topic, [record('k/1', Buffer.alloc(0))]);
    const keys = (await again.state(topic, partition, '')).map(({ key }) => key);
    expect(keys.filter((key) => key.startsWith('k/1'))).toEqual([]);
    await until('the watcher', () => seen.get('k/1') === '' || undefined);
    expect([...seen.keys()].sort()).toEqual(['k/1', 'k/2']);
    await again.close();
    await watch.close();
  });
});

it('parts that a kill has left go with the next value of their key', async () => {
  const [limit] = LIMITS as [number];
  const log = logs.get(limit) as KafkaLog;
  const [parts, value] = [new Parts(), noise(limit * 3)];
  const key = 'killed/1';
  const partition = log.partitionOf(key);
  const whole = { ...record(key, Buffer.from(value)), topic: TOPIC_STATE, partition };
  const pieces = parts.outgoing(whole, value.length, limit - 200) ?? [];
  expect(pieces.length).toBeGreaterThan(2);
  await log.append(TOPIC_STATE, [record(key, Buffer.from('before'))]);
  // Whoever wrote it was killed before the last of them.
  await log.append(TOPIC_STATE, pieces.slice(0, -1));
  const left = async (): Promise<string[]> => {
    const last = new Map<string, number>();
    for (const each of await readAll(log, TOPIC_STATE))
      if (each.key.startsWith(key)) last.set(each.key, each.value.length);
    return [...last].flatMap(([name, bytes]) => (bytes === 0 || name === key ? [] : [name]));
  };
  expect(await left()).toHaveLength(pieces.length - 1);
  const again = await open(limit);
  const state = async (): Promise<string | undefined> =>
    (await again.state(TOPIC_STATE, partition, key)).map((each) => each.value.toString())[0];
  expect(await state()).toBe('before');
  for (const next of ['one', 'two']) {
    await again.append(TOPIC_STATE, [record(key, Buffer.from(next))]);
    expect(await state()).toBe(next);
  }
  expect(await left()).toEqual([]);
  await again.close();
});

it('a limit that is lowered while it runs is found out by what is refused, and holds up nothing', async () => {
  const prefix = `${kafka.topicPrefix}lowered.`;
  const log = await KafkaLog.create(
    {
      ...{ brokers: kafka.address, topicPrefix: prefix, partitions: 1, now: () => Date.now() },
      topics: topics(1 << 20),
    },
    ({ event, text }) => said.push(`${event}: ${text}`),
  );
  await log.open();
  const batch = (name: string, bytes: number) => {
    const readings = readingsOf(Math.ceil(bytes / 300), 200);
    return record(name, encodeReadings({ gateway: name, epoch: 'e', arrivedMs: 5, readings }));
  };
  // Some of what is refused was taken: outside of a step it comes again under its identity.
  const count = async (name: string): Promise<number> => {
    const own = (await readAll(log, TOPIC_READINGS)).filter(({ key }) => key === name);
    const readings = own.flatMap(({ value }) => decodeReadings(value).readings);
    return new Set(readings.map(({ sequence }) => sequence)).size;
  };
  await log.append(TOPIC_READINGS, [batch('before', 300_000)]);
  setTopic(kafka.address, `${prefix}${TOPIC_READINGS}`, 'max.message.bytes', 20_000);
  await until('it to be taken', async () => {
    try {
      await log.append(TOPIC_READINGS, [batch('after', 300_000)]);
      return true;
    } catch (error) {
      expect(error).toMatchObject({ code: 'LOG_UNAVAILABLE' });
      return undefined;
    }
  });
  expect([await count('before'), await count('after')]).toEqual([1000, 1000]);
  expect(said.join('\n')).toMatch(
    /log_topics: topic \S*lowered\.\S+ has max\.message\.bytes=20000/,
  );
  await log.close();
});

it('each is said at the start, with the command that mends it', async () => {
  const warnings = logs.get(1000)?.warnings() ?? [];
  for (const { name } of topics(1))
    expect(warnings.join('\n')).toContain(
      `topic ${kafka.topicPrefix}of1000.${name} has max.message.bytes=1000`,
    );
  expect(said.some((text) => text.startsWith('log_too_large: '))).toBe(true);
});
