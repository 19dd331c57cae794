/** What an administrator does to Kafka under Headwater, and what becomes of it. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { KafkaLog, type KafkaOptions } from '../../collector/log/kafka.ts';
import type { LogConsumer, LogRecord, StoredRecord } from '../../collector/log/log.ts';
import { Places } from '../../collector/store/places.ts';
import type { TimeSeriesStore } from '../../collector/store/store.ts';
import { startKafka, type Server } from '../services/servers.ts';
import {
  ADMIN_MS,
  kafkaAdmin,
  makeTopic,
  raisePartitions,
  readAll,
} from '../support/kafka-admin.ts';
import { start, until } from '../support/process.ts';

const TOPICS = [
  { name: 'events', compacted: false },
  { name: 'output', compacted: false },
  { name: 'state', compacted: true },
];
const KEYS = Array.from({ length: 30 }, (_, at) => `key ${at}`);
const record = (key: string, value: string | Buffer): LogRecord => ({
  key,
  value: Buffer.from(value),
  headers: {},
});

let kafka: Server;
beforeAll(async () => {
  kafka = await startKafka();
});
afterAll(async () => await kafka.stop());

interface Opened {
  log: KafkaLog;
  said: string[];
}
const opened: KafkaLog[] = [];
async function open(prefix: string, more: Partial<KafkaOptions> = {}): Promise<Opened> {
  const said: string[] = [];
  const log = await KafkaLog.create(
    {
      brokers: kafka.address,
      topicPrefix: `${prefix}.`,
      partitions: 4,
      topics: TOPICS,
      now: () => Date.now(),
      ...more,
    },
    ({ event, text }) => said.push(`${event}: ${text}`),
  );
  await log.open();
  opened.push(log);
  return { log, said };
}
afterAll(async () => {
  for (const log of opened) await log.close();
});

describe('partitions raised from 4 to 8', () => {
  it.each([
    ['of all topics', TOPICS.map(({ name }) => name), 4],
    ['of some topics', ['output'], 4],
    ['in the configuration alone', [], 8],
    ['of all topics and in the configuration', TOPICS.map(({ name }) => name), 8],
  ])('%s: keys stay where their state is, nothing comes twice, and it is said', async (name, raised, configured) => {
    const prefix = name.replaceAll(' ', '-');
    const first = await open(prefix);
    const append = async (log: KafkaLog, value: string): Promise<void> =>
      await log.append(
        'events',
        KEYS.map((key) => record(key, value)),
      );
    await append(first.log, 'before');
    const places = new Map(
      (await readAll(first.log, 'events')).map(({ key, partition }) => [key, partition]),
    );
    await first.log.append(
      'state',
      KEYS.map((key) => record(key, 'kept')),
    );
    await first.log.close();
    for (const topic of raised) await raisePartitions(kafka.address, `${prefix}.${topic}`, 8);
    const { log } = await open(prefix, { partitions: configured });
    expect(log.partitions).toBe(4);
    expect(log.warnings().join('\n')).toMatch(
      raised.length > 0 ? /has 8 partitions.*and 4 are used/ : /kafka.partitions is 8.*made with 4/,
    );
    await append(log, 'after');
    const all = await readAll(log, 'events');
    expect(all).toHaveLength(60);
    for (const { key, partition } of all) expect(partition).toBe(places.get(key));
    for (const [key, partition] of places)
      expect((await log.state('state', partition, key)).map((each) => each.key)).toContain(key);
    await log.close();
  });
});

describe('topics that somebody else made', () => {
  const create = (topic: string, config: Record<string, string>): Promise<void> =>
    makeTopic(kafka.address, topic, 4, config);

  it('each setting that matters is named once, with what it means and the command that mends it', async () => {
    await create('made.events', { 'retention.ms': '3600000', 'flush.messages': '1' });
    await create('made.output', { 'max.message.bytes': '200000', 'retention.ms': '-1' });
    await create('made.state', { 'cleanup.policy': 'delete', 'flush.messages': '1' });
    const { log } = await open('made');
    const about = (topic: string, setting: string): string[] =>
      log.warnings().filter((text) => text.startsWith(`topic made.${topic} has ${setting}=`));
    expect(about('events', 'retention.ms')[0]).toContain(
      `kafka-configs.sh --bootstrap-server ${kafka.address} --alter --entity-type topics --entity-name made.events --add-config retention.ms=-1`,
    );
    expect(about('events', 'flush.messages')).toEqual([]);
    expect(about('output', 'max.message.bytes')).toHaveLength(1);
    expect(about('output', 'flush.messages')[0]).toContain('no fsync');
    expect(about('state', 'cleanup.policy')[0]).toContain('--add-config cleanup.policy=compact');
    await log.close();
  });

  it('a record that a topic does not take is LOG_TOO_LARGE, in an append and in a step, and the partition goes on', async () => {
    await create('small.output', { 'max.message.bytes': '100000' });
    await create('small.events', { 'max.message.bytes': '100000' });
    const { log } = await open('small');
    const large = Buffer.alloc(150_000);
    await expect(log.append('events', [record('a', large)])).rejects.toMatchObject({
      code: 'LOG_TOO_LARGE',
      retryable: false,
    });
    await log.append('events', [record('a', '1'), record('a', '2')]);
    const consumer = await log.consumer({
      group: 'g',
      topic: 'events',
      from: 'start',
      bytesMax: 1,
    });
    const next = async (): Promise<StoredRecord> =>
      await until('a record', async () => (await consumer.poll(200))[0]);
    const { partition, offset } = await next();
    const step = (value: Buffer | string): Promise<void> =>
      consumer.commit({
        produce: [{ ...record('a', value), topic: 'output' }],
        offsets: new Map([[partition, offset + 1]]),
      });
    await expect(step(large)).rejects.toMatchObject({ code: 'LOG_TOO_LARGE' });
    expect((await next()).value.toString()).toBe('1');
    await step('small');
    expect((await next()).value.toString()).toBe('2');
    expect((await readAll(log, 'output')).map(({ value }) => value.toString())).toEqual(['small']);
    await log.close();
  });
});

describe('consumer groups', () => {
  it('a foreign member of one of ours is told within 10 s, for as long as it is there', async () => {
    const { log, said } = await open('taken');
    const consumer = await log.consumer({
      ...{ group: 'g', topic: 'events', from: 'start', bytesMax: 1 << 20 },
    });
    const stranger = start('kcat', ['-b', kafka.address, '-G', 'taken.g', 'taken.events']);
    const told =
      /^the consumer group taken\.g has a member that is none of Headwater's \('rdkafka' at 127\.0\.0\.1\)/;
    await until('it to be told', async () => {
      await consumer.poll(50);
      return log.warnings().some((text) => told.test(text)) || undefined;
    });
    expect(said.filter((text) => told.test(text.replace('log_group: ', '')))).toHaveLength(1);
    await stranger.kill();
    await until('its end to be told', async () => {
      await consumer.poll(50);
      return said.includes("log_group: the consumer groups are Headwater's own again") || undefined;
    });
    expect(log.warnings().some((text) => told.test(text))).toBe(false);
    await log.close();
  });

  it('those of stores that are configured no more are forgotten, also by a process that never joined them', async () => {
    const { log } = await open('stores');
    const join = async (group: string): Promise<LogConsumer> => {
      const consumer = await log.consumer({
        ...{ group, topic: 'events', from: 'start', bytesMax: 1 << 20 },
      });
      await until(group, async () => {
        early.push(...(await consumer.poll(50)));
        return await log.groupNames();
      });
      return consumer;
    };
    // What joining has brought already.
    const early: StoredRecord[] = [];
    await log.append('events', [record('a', '1')]);
    for (const group of ['headwater-store-gone', 'headwater-decode']) {
      const consumer = await join(group);
      const { partition, offset } = await until(
        'it',
        async () => early.shift() ?? (await consumer.poll(100))[0],
      );
      await consumer.commit({ produce: [], offsets: new Map([[partition, offset + 1]]) });
      await consumer.close();
    }
    const other = await join('headwater-store-of-another-collector');
    const said: string[] = [];
    // All that it asks of a store.
    const store = { kind: 'embedded' } as TimeSeriesStore;
    const places = new Places(
      log,
      store,
      ({ text }) => said.push(text),
      () => 0,
    );
    await until('both', async () => (await log.groupNames()).length >= 3 || undefined);
    await places.forgetOthers(new Set(['headwater-store-mine']));
    expect((await log.groupNames()).sort()).toEqual([
      'headwater-decode',
      'headwater-store-of-another-collector',
    ]);
    expect(said).toEqual([]);
    await other.close();
    await log.close();
  });
});

describe('while it runs', () => {
  it('topics that are deleted are made again, and a consumer and a producer go on', async () => {
    const { log, said } = await open('gone');
    await log.append('events', [record('a', '1')]);
    const consumer = await log.consumer({
      group: 'g',
      topic: 'events',
      from: 'start',
      bytesMax: 1 << 20,
    });
    await until('a record', async () => (await consumer.poll(200))[0]);
    for (const topic of ['gone.events', 'gone.state', 'gone.meta'])
      await kafkaAdmin(kafka.address, (client, done) => client.deleteTopic(topic, ADMIN_MS, done));
    await until(
      'the topics',
      () => said.some((text) => text.startsWith('log_topics: ')) || undefined,
    );
    let sent = 0;
    const seen: string[] = [];
    await until(
      'a record of the new topic',
      async () => {
        await log.append('events', [record('a', `new ${sent++}`)]).catch(() => undefined);
        seen.push(
          ...(await consumer.poll(200).catch(() => [])).map(({ value }) => value.toString()),
        );
        return seen.some((text) => text.startsWith('new')) || undefined;
      },
      60_000,
    );
    expect(log.partitions).toBe(4);
    expect(log.health()).toMatchObject({ up: true });
    await log.append('state', [record('k', 'v')]);
    await log.close();
  });

  it('Kafka’s end is said within 10 s, with its reason, and its return as well', async () => {
    const { log, said } = await open('down');
    expect(log.health()).toMatchObject({ up: true, reason: '' });
    const began = Date.now();
    await kafka.kill();
    await until('the end', () => !log.health().up || undefined, 10_000);
    expect(Date.now() - began).toBeLessThan(10_000);
    expect(log.health().reason).toMatch(/refused|down|disconnect|timed out/i);
    await until(
      'it is told',
      () => said.some((text) => text.startsWith('log_down: ')) || undefined,
    );
    await kafka.restart();
    await until('its return', () => log.health().up || undefined);
    expect(said.filter((text) => text.startsWith('log_up: '))).toHaveLength(1);
    expect(said.filter((text) => text.startsWith('log_down: '))).toHaveLength(1);
    await log.close();
  });
});
