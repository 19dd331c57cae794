/**
 * The sample that `headwater up` shows: a week of real air-quality stations, published over MQTT as they would.
 *
 * It was measured in March 2019. Unless its true times are asked for, it is shown as if it were the week before the first
 * start: every time is moved by the same whole number of seconds, which `sample.json` remembers, so that a later start
 * adds no second week.
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
export const SAMPLE_TIME = 'timestamp';
/** Of the first row and of the last one, epoch ms. */
export const SAMPLE_FIRST_MS = Date.UTC(2019, 2, 10, 0, 0, 13);
export const SAMPLE_LAST_MS = Date.UTC(2019, 2, 16, 23, 59, 58);

/** What the topics of the sample mean. Its times name no zone, and are UTC. */
export const SAMPLE_MAPPINGS = {
  file: 'built-in sample mapping',
  text: `mappings:
  - topic: aberdeen/{sensor_id}/{measurement}
    time: { from: ${SAMPLE_TIME}, zone: UTC }
    units: { P1: µg/m³, P2: µg/m³, temperature: °C, humidity: "%", pressure: Pa, pressure_sealevel: Pa, altitude: m, lat: °, lon: ° }
`,
};

const TIME_IN_PAYLOAD = new RegExp(`"${SAMPLE_TIME}":"([^"]+)"`);

export const samplePath = (): string => fileOfPackage(SAMPLE_FILE);

export interface SampleState {
  /** Durable rows. */
  rows: number;
  /** What is added to a row's time, ms; a whole number of seconds. 0: its true time. */
  shiftMs: number;
}

/** What is added so that the last row is of `nowMs`. */
export const shiftTo = (nowMs: number): number =>
  Math.floor((nowMs - SAMPLE_LAST_MS) / 1000) * 1000;

/** The time of a row in the file's own form, moved. */
export const movedText = (text: string, shiftMs: number): string =>
  new Date(Date.parse(`${text}Z`) + shiftMs).toISOString().slice(0, 19);

/** `clean` is false while a replay runs: then the count is taken from the data itself. */
export async function saveSample(
  folder: string,
  state: SampleState & { clean: boolean },
): Promise<void> {
  const path = join(folder, 'sample.json');
  await writeFile(`${path}.new`, `${JSON.stringify(state)}\n`);
  await rename(`${path}.new`, path);
}

/**
 * What is there already; `fresh` is the shift of a sample that begins. A folder of an earlier version has no shift, and its
 * rows have their true times.
 */
export async function loadSample(
  folder: string,
  buffer: MessageBuffer<never>,
  log: Log,
  fresh: number,
): Promise<SampleState> {
  let state: { rows: number; clean: boolean; shiftMs?: number };
  try {
    state = JSON.parse(await readFile(join(folder, 'sample.json'), 'utf8')) as typeof state;
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return { rows: 0, shiftMs: fresh };
    const { rows, firstMs } = await durable(buffer, log);
    return { rows, shiftMs: firstMs === undefined ? fresh : firstMs - SAMPLE_FIRST_MS };
  }
  const { rows, clean, shiftMs = 0 } = state;
  return { rows: clean ? rows : (await durable(buffer, log)).rows, shiftMs };
}

/** The sample's messages in buffer and raw log, and the earliest time in them: that of the first row, as it was sent. */
async function durable(
  buffer: MessageBuffer<never>,
  log: Log,
): Promise<{ rows: number; firstMs: number | undefined }> {
  const seen = new Map<string, RangeSet>();
  let firstMs: number | undefined;
  const count = (frame: Buffer): void => {
    const header = readHeader(frame);
    if (header.kind !== KIND_RECORDS) return;
    const key = `${header.gateway}/${header.epoch}`;
    let set = seen.get(key);
    if (set === undefined) seen.set(key, (set = new RangeSet()));
    for (const { client, sequence, payload } of readRecords(frame, header)) {
      if (client !== SAMPLE_CLIENT) continue;
      set.add(sequence, sequence);
      const at = Date.parse(`${TIME_IN_PAYLOAD.exec(payload.toString())?.[1] ?? ''}Z`);
      if (Number.isFinite(at)) firstMs = Math.min(at, firstMs ?? at);
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
  return { rows: [...seen.values()].reduce((sum, set) => sum + set.count, 0), firstMs };
}
