/** Somebody else's hand on our consumer groups and topics: nothing is skipped without a word, nothing comes twice. */
import { afterAll, beforeAll, expect, it } from 'vitest';
import { DecodeStage } from '../../collector/decode/stage.ts';
import { Mappings } from '../../collector/decode/mapping/mappings.ts';

import { loadClient } from '../../collector/log/kafka-client.ts';
import { KafkaLog } from '../../collector/log/kafka.ts';
import { TOPIC_RAW, TOPIC_READINGS, topics } from '../../collector/log/topics.ts';
import type * as RdKafka from '../../collector/log/rdkafka-types.ts';
import { FrameBuilder } from '../../shared/frame/builder.ts';
import { CLOCK_SYNCHRONISED } from '../../shared/frame/frame.ts';
import { decodeReadings } from '../../shared/model/readings-record.ts';
import { sharedKafka, type SharedKafka } from '../services/shared.ts';
import { ADMIN_MS, deleteRecords, kafkaAdmin, makeTopic, readAll } from '../support/kafka-admin.ts';
import { until } from '../support/process.ts';

const GROUP = 'headwater-decode';
let kafka: SharedKafka;
let log: KafkaLog;
let stage: DecodeStage;
const said: string[] = [];

beforeAll(async () => {
  kafka = await sharedKafka();
  log = await KafkaLog.create(
    {
      brokers: kafka.address,
      topicPrefix: kafka.topicPrefix,
      partitions: 1,
      topics: topics(1 << 20),
      now: () => Date.now(),
    },
    ({ event, text }) => said.push(`${event}: ${text}`),
  );
  await log.open();
});
afterAll(async () => await log.close());

function begin(): void {
  const limits = { perClient: 1e6, perGateway: 1e6 };
  stage = new DecodeStage(log, new Mappings([]), limits, ({ event, text }) =>
    said.push(`${event}: ${text}`),
  );
  stage.start();
}

let sequence = 0;
async function append(count: number): Promise<void> {
  for (let at = 0; at < count; at++) {
    const builder = new FrameBuilder();
    const payload = Buffer.from(`{"n":${++sequence}}`);
    const message = {
      client: 'c',
      topic: 'a/b',
      qos: 1,
      retain: false,
      dup: false,
      payload,
    } as const;
    builder.add(message, 1e15 + sequence, 5e6 + sequence);
    const identity = { gateway: 'gw', epoch: Buffer.alloc(8, 7), bootId: Buffer.alloc(8, 9) };
    const value = builder.finish(identity, sequence, CLOCK_SYNCHRONISED, true);
    await log.append(TOPIC_RAW, [{ key: 'gw', headers: { arrived: '1000000000000' }, value }]);
  }
}

/** Sequences that were decoded, in the order of the topic. */
const decoded = async (): Promise<number[]> =>
  (await readAll(log, TOPIC_READINGS)).flatMap(({ value }) =>
    decodeReadings(value).readings.map((reading) => reading.sequence),
  );
const upTo = (last: number): number[] => Array.from({ length: last }, (_, at) => at + 1);
async function allDecoded(expected = upTo(sequence)): Promise<void> {
  await until(
    `${expected.length} readings`,
    async () => (await decoded()).length >= expected.length,
  );
  expect(await decoded()).toEqual(expected);
}
const state = () => stage.running()[0]?.state();

/** As `kafka-consumer-groups.sh --reset-offsets` does it. */
async function move(offset: number): Promise<void> {
  const client = loadClient();
  const settings = { 'metadata.broker.list': kafka.address, 'group.id': log.group(GROUP) };
  const consumer: RdKafka.KafkaConsumer = new client.KafkaConsumer(settings, {});
  await new Promise<void>((resolve, reject) =>
    consumer.connect({ timeout: ADMIN_MS }, (error) => (error ? reject(error) : resolve())),
  );
  const place = { topic: log.name(TOPIC_RAW), partition: 0 };
  consumer.assign([place]);
  await until('the offset to be moved', () => {
    consumer.commitSync([{ ...place, offset }]);
    return true;
  });
  await new Promise<void>((resolve) => consumer.disconnect(() => resolve()));
}

it('offsets that are moved forwards, moved backwards or deleted: all is decoded once, and it is told', async () => {
  begin();
  await append(3);
  await allDecoded();
  await stage.close();
  const trials: [string, () => Promise<void>, RegExp][] = [
    ['forwards', () => move(6), /headwater-decode had committed in raw\/0 was moved to offset 6/],
    ['backwards', () => move(0), /was moved to offset 0, by none of Headwater's/],
    ['deleted', () => log.forget(GROUP), /had committed in raw\/0 is gone/],
  ];
  for (const [name, strike, sentence] of trials) {
    await append(3);
    await strike();
    begin();
    await allDecoded();
    expect(state()?.warnings.join('\n'), name).toMatch(sentence);
    expect(said.filter((text) => text.startsWith('decode_place: ')).at(-1), name).toMatch(sentence);
    await stage.close();
  }
  // Well again: nothing is told.
  begin();
  await append(1);
  await allDecoded();
  expect(state()).toMatchObject({ warnings: [], lostRecords: 0 });
});

it('records that were deleted before they were decoded are counted and told, while it runs and while it was away', async () => {
  await stage.close();
  const before = sequence;
  await append(4);
  deleteRecords(kafka.address, log.name(TOPIC_RAW), await log.next(TOPIC_RAW, 0));
  begin();
  await until('it to be told', () => state()?.lostRecords === 4);
  expect(state()?.warnings.join()).toMatch(/raw\/0: records from offset \d+ to \d+ were deleted/);
  await append(2);
  await allDecoded([...upTo(before), sequence - 1, sequence]);
});

it('a topic that is deleted and made again between two looks, and grown beyond its place, is read from its beginning', async () => {
  const known = await decoded();
  const topic = log.name(TOPIC_RAW);
  await kafkaAdmin(kafka.address, (client, done) => client.deleteTopic(topic, ADMIN_MS, done));
  await until('the new topic', async () => {
    await makeTopic(kafka.address, topic, 1, { 'retention.ms': '-1' });
    return true;
  });
  const first = sequence + 1;
  await until('a record in it', async () => {
    await append(1);
    return true;
  });
  await append(30);
  await until('all of it', async () => {
    const now = new Set(await decoded());
    return Array.from({ length: 31 }, (_, at) => sequence - at).every((each) => now.has(each));
  });
  const all = await decoded();
  expect(new Set(all).size).toBe(all.length);
  expect(all.filter((each) => each < first)).toEqual(known);
  await stage.close();
});
