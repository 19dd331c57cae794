/**
 * The sample that `headwater up` shows: a week of real air-quality stations, published over MQTT as they would.
 *
 * A second start goes on where the first one stopped, without a row lost or doubled, also after a kill: rows are sent
 * in order over one connection, so the messages of the sample's client that are durable, in the gateway's buffer or
 * the raw log, are exactly the first rows of the file.
 */
import { readFile, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { TOPIC_RAW, type Log } from '../collector/log/log.ts';
import type { MessageBuffer } from '../gateway/buffer/buffer.ts';
import { fileOfPackage } from '../shared/config/root.ts';
import { codeOf } from '../shared/errors.ts';
import { KIND_RECORDS, readHeader, readRecords } from '../shared/frame/frame.ts';
import { RangeSet } from '../shared/model/ranges.ts';

export const SAMPLE_FILE = 'data/aberdeen-fleet-2019-03-10_16.csv.gz';
export const SAMPLE_ROWS = 140_504;
export const SAMPLE_TOPIC = 'aberdeen/{sensor_id}/{sensor_type}';
export const SAMPLE_CLIENT = 'headwater-sample';

/** What the topics of the sample mean. Its times name no zone, and are UTC. */
export const SAMPLE_MAPPINGS = {
  file: 'built-in sample mapping',
  text: 'mappings:\n  - topic: aberdeen/{sensor_id}/{measurement}\n    time: { from: timestamp, zone: UTC }\n',
};

export const samplePath = (): string => fileOfPackage(SAMPLE_FILE);

interface SampleState {
  rows: number;
  /** False while a replay runs: then the count is taken from the data itself. */
  clean: boolean;
}

export async function saveSample(folder: string, state: SampleState): Promise<void> {
  const path = join(folder, 'sample.json');
  await writeFile(`${path}.new`, `${JSON.stringify(state)}\n`);
  await rename(`${path}.new`, path);
}

/** Rows that are durable already. */
export async function loadSample(
  folder: string,
  buffer: MessageBuffer<never>,
  log: Log,
): Promise<number> {
  let state: SampleState;
  try {
    state = JSON.parse(await readFile(join(folder, 'sample.json'), 'utf8')) as SampleState;
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return 0;
    state = { rows: 0, clean: false };
  }
  return state.clean ? state.rows : await countDurable(buffer, log);
}

async function countDurable(buffer: MessageBuffer<never>, log: Log): Promise<number> {
  const seen = new Map<string, RangeSet>();
  const count = (frame: Buffer): void => {
    const header = readHeader(frame);
    if (header.kind !== KIND_RECORDS) return;
    const key = `${header.gateway}/${header.epoch}`;
    let set = seen.get(key);
    if (set === undefined) seen.set(key, (set = new RangeSet()));
    for (const { client, sequence } of readRecords(frame, header)) {
      if (client === SAMPLE_CLIENT) set.add(sequence, sequence);
    }
  };
  // First the buffer: what leaves it meanwhile is in the log by then, and counted once by its identity.
  for (let from: Buffer | undefined; ; ) {
    const frames = await buffer.read(from, 4 * 1024 * 1024);
    for (const { frame } of frames) count(frame);
    if (frames.length === 0) break;
    from = frames.at(-1)?.end;
  }
  const consumer = await log.consumer({
    group: `headwater-sample-${process.pid}`,
    topic: TOPIC_RAW,
    from: 'start',
    bytesMax: 4 * 1024 * 1024,
  });
  try {
    for (;;) {
      const records = await consumer.poll(1000);
      if (records.length === 0) break;
      for (const { value } of records) count(value);
    }
  } finally {
    await consumer.close();
  }
  return [...seen.values()].reduce((sum, set) => sum + set.count, 0);
}
