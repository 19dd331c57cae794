/**
 * How many readings a second the processing stages take, in one process, and how that goes with the number of series and
 * of Kafka's partitions; and what the shipped anomaly function finds in data that others have labelled.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Mappings } from '../../collector/decode/mapping/mappings.ts';
import { DecodeStage } from '../../collector/decode/stage.ts';
import { Lake } from '../../collector/lake/lake.ts';
import { LocalObjects } from '../../collector/lake/local.ts';
import { LakeStage } from '../../collector/lake/stage.ts';
import { EmbeddedLog } from '../../collector/log/embedded.ts';
import { topics } from '../../collector/log/topics.ts';
import { KafkaLog } from '../../collector/log/kafka.ts';
import { TOPIC_RAW, TOPIC_READINGS, type Log, type LogRecord } from '../../collector/log/log.ts';
import { loadEngine } from '../../collector/sandbox/sandbox.ts';
import { READINGS_MAX, StreamFunction } from '../../collector/stream/function.ts';
import { parseRules } from '../../collector/stream/rules.ts';
import { StreamStage } from '../../collector/stream/stage.ts';
import { FrameBuilder } from '../../shared/frame/builder.ts';
import { CLOCK_SYNCHRONISED } from '../../shared/frame/frame.ts';
import type { Reading } from '../../shared/model/reading.ts';
import { encodeReadings } from '../../shared/model/readings-record.ts';
import { startKafka } from '../services/servers.ts';
import { ROOT, temporaryFolder, until } from '../support/process.ts';

const T0 = 1_700_000_000_000;
const PER_RECORD = 500;
const WINDOW_RULE =
  'rules: [{ name: w, from: { measurement: climate }, window: 1m, compute: [count, mean, min, max] }]';
const quiet = (): void => undefined;

/** Readings of so many series in turn, one each second of a series, two fields each. */
function readingRecords(readings: number, series: number): LogRecord[] {
  const records: LogRecord[] = [];
  const gateways = Math.min(100, Math.max(1, Math.floor(series / 10)));
  const tags = Array.from({ length: series }, (_, at) => ({
    device: `d${at}`,
    gateway: `gw${at % gateways}`,
  }));
  for (let from = 0; from < readings; from += PER_RECORD) {
    const gateway = (from / PER_RECORD) % gateways;
    const list: Reading[] = [];
    for (let at = from; at < Math.min(readings, from + PER_RECORD); at++) {
      // A record is one gateway's: its own series in turn.
      const own = Math.floor(series / gateways);
      const place = Math.floor(from / PER_RECORD / gateways) * PER_RECORD + (at - from);
      const noise = Math.imul(at + 1, 2654435761) >>> 0;
      list.push({
        measurement: 'climate',
        tags: tags[gateway + gateways * (place % own)] ?? {},
        fields: { temperature: (1500 + (noise % 1500)) / 100, humidity: (noise >>> 11) % 100 },
        sequence: at + 1,
        index: 0,
        timeMs: T0 + Math.floor(place / own) * 1000,
        ns: at % 1000,
      });
    }
    records.push({
      key: `gw${gateway}`,
      headers: {},
      value: encodeReadings({ gateway: `gw${gateway}`, epoch: 'e', arrivedMs: T0, readings: list }),
    });
  }
  return records;
}

function frames(messages: number): LogRecord[] {
  const records: LogRecord[] = [];
  for (let from = 0; from < messages; from += PER_RECORD) {
    const builder = new FrameBuilder();
    for (let at = from; at < from + PER_RECORD; at++) {
      const payload = `{"temperature":${(1500 + (at % 1000)) / 100},"humidity":${at % 100}}`;
      builder.add(
        {
          client: 'c',
          topic: `site/d${at % 100}/climate`,
          qos: 1,
          retain: false,
          dup: false,
          payload: Buffer.from(payload),
        },
        T0 * 1000,
        1,
      );
    }
    const identity = { gateway: 'gw', epoch: Buffer.alloc(8, 1), bootId: Buffer.alloc(8) };
    const value = builder.finish(identity, from + 1, CLOCK_SYNCHRONISED, true);
    records.push({ key: 'gw', value, headers: { arrived: String(T0) } });
  }
  return records;
}

async function embedded(): Promise<EmbeddedLog> {
  const options = {
    folder: temporaryFolder(),
    cacheBytes: 64 << 20,
    topics: topics(Infinity),
    now: () => T0,
  };
  const log = new EmbeddedLog(options, quiet);
  await log.open();
  return log;
}

async function filled(log: Log, topic: string, records: LogRecord[]): Promise<void> {
  for (let from = 0; from < records.length; from += 50)
    await log.append(topic, records.slice(from, from + 50));
}

/** What is timed: how much it has done, and how it ends. */
interface Work {
  done: () => number;
  close: () => Promise<void>;
}

/** So many a second, from the start until `count` are done. */
async function timed(count: number, work: () => Promise<Work>): Promise<number> {
  const begin = performance.now();
  const { done, close } = await work();
  await until('the stage to catch up', () => done() >= count || undefined, 300_000);
  const seconds = (performance.now() - begin) / 1000;
  await close();
  return Math.round(count / seconds);
}

const lakeWork = (log: Log) => async (): Promise<Work> => {
  const folder = temporaryFolder();
  const lake = new Lake(new LocalObjects(join(folder, 'lake')), {
    folder,
    memoryBytes: 512 << 20,
    cacheBytes: 1 << 20,
  });
  await lake.open();
  const stage = new LakeStage({
    zone: 'readings',
    log,
    lake,
    flushMs: 500,
    flushBytes: 16 << 20,
    notify: quiet,
  });
  stage.start();
  return {
    done: () => stage.writtenRows,
    close: async () => {
      await stage.close();
      await lake.close();
    },
  };
};

const streamWork = (log: Log) => async (): Promise<Work> => {
  const stream = new StreamStage({
    log,
    lake: undefined,
    stateBytesMax: 1 << 30,
    wallMs: () => T0,
    explain: () => ({ reason: '', text: '' }),
    notify: quiet,
  });
  await stream.start(parseRules(WINDOW_RULE, 'bench', () => ''));
  return { done: () => stream.processedReadings, close: () => stream.close() };
};

async function bySeries(readings: number, counts: readonly number[]) {
  const rows: { series: number; stream: number; lake: number }[] = [];
  for (const series of counts) {
    const log = await embedded();
    await filled(log, TOPIC_READINGS, readingRecords(readings, series));
    const stream = await timed(readings, streamWork(log));
    const lake = await timed(readings, lakeWork(log));
    rows.push({ series, stream, lake });
    await log.close();
  }
  return rows;
}

async function byPartitions(readings: number, counts: readonly number[]) {
  const kafka = await startKafka();
  const rows: { partitions: number; stream: number; lake: number }[] = [];
  try {
    for (const partitions of counts) {
      const options = {
        brokers: kafka.address,
        topicPrefix: `p${partitions}.`,
        partitions,
        topics: topics(Infinity),
        now: () => T0,
      };
      const log = await KafkaLog.create(options, quiet);
      await log.open();
      await filled(log, TOPIC_READINGS, readingRecords(readings, 1000));
      const stream = await timed(readings, streamWork(log));
      const lake = await timed(readings, lakeWork(log));
      rows.push({ partitions, stream, lake });
      await log.close();
    }
  } finally {
    await kafka.stop();
  }
  return rows;
}

async function decode(messages: number): Promise<number> {
  const log = await embedded();
  await filled(log, TOPIC_RAW, frames(messages));
  const rate = await timed(messages, () => {
    const stage = new DecodeStage(
      log,
      new Mappings([]),
      { perClient: 1e6, perGateway: 1e6 },
      quiet,
    );
    stage.start();
    const done = (): number => stage.decoder.decodedMessages;
    return Promise.resolve({ done, close: () => stage.close() });
  });
  await log.close();
  return rate;
}

/**
 * The shipped function on NAB's office temperature. An alarm is a reading that it calls unusual; right if it lies in a
 * labelled window. Recall by windows: those with an alarm in them; and by readings of the windows.
 */
export async function anomalies() {
  await loadEngine();
  const read = (name: string): string => readFileSync(join(ROOT, name), 'utf8');
  const labels = JSON.parse(read('data/nab-anomaly-windows.json')) as Record<
    string,
    [string, string][]
  >;
  const ms = (text: string): number => Date.parse(`${text.slice(0, 19).replace(' ', 'T')}Z`);
  const windows = (labels['ambient_temperature_system_failure'] ?? []).map(
    ([from, to]) => [ms(from), ms(to)] as const,
  );
  const readings = read('data/nab-ambient_temperature_system_failure.csv')
    .trim()
    .split('\n')
    .slice(1)
    .map((line) => line.split(','))
    .map(([time = '', value]) => ({
      time: ms(time),
      measurement: 'office',
      tags: {},
      fields: { temperature: Number(value) },
    }));
  const score = new StreamFunction('anomaly.ts', read('docs/examples/anomaly.ts'));
  const alarms: number[] = [];
  let state: unknown;
  for (let from = 0; from < readings.length; from += READINGS_MAX) {
    const some = readings.slice(from, from + READINGS_MAX);
    const results = score.run(state, some);
    state = results.state;
    for (const [at, fields] of results.fields.entries())
      if (fields?.['unusual'] === 1) alarms.push(some[at]?.time ?? 0);
  }
  score.close();
  const within = (time: number): boolean =>
    windows.some(([from, to]) => time >= from && time <= to);
  const right = alarms.filter(within).length;
  const labelled = readings.filter(({ time }) => within(time)).length;
  const found = windows.filter(([from, to]) =>
    alarms.some((time) => time >= from && time <= to),
  ).length;
  return {
    readings: readings.length,
    alarms: alarms.length,
    precision: alarms.length === 0 ? 0 : right / alarms.length,
    recallOfWindows: found / windows.length,
    recallOfReadings: right / labelled,
    labelledShare: labelled / readings.length,
  };
}

export async function benchProcessing(smoke: boolean, say: (text: string) => void) {
  const readings = smoke ? 5000 : 400_000;
  say('processing: decode, stream and lake stages by number of series');
  const decodeMessages = await decode(readings);
  const series = await bySeries(readings, smoke ? [10, 100] : [10, 100, 1000, 10_000, 100_000]);
  say('processing: on Kafka, by partitions');
  const partitions = await byPartitions(smoke ? 5000 : 200_000, smoke ? [2] : [1, 2, 4, 8]);
  return {
    decodeMessagesPerSecond: decodeMessages,
    readingsPerSecondBySeries: series,
    readingsPerSecondByPartitions: partitions,
    anomalies: await anomalies(),
  };
}
