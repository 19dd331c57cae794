/**
 * A rule whose past is the lake's, where lake and engine are not equally far: what the one has not yet, and the other has said,
 * is neither forgotten nor said twice. The lake goes on only when a test says so.
 */
import { join } from 'node:path';
import { describe, expect, it, type TestContext } from 'vitest';
import { Lake } from '../../collector/lake/lake.ts';
import { LocalObjects } from '../../collector/lake/local.ts';
import { LakeStage } from '../../collector/lake/stage.ts';
import { EmbeddedLog } from '../../collector/log/embedded.ts';
import { HEADER_AGAIN, TOPIC_READINGS, TOPIC_RESULTS } from '../../collector/log/log.ts';
import { topics } from '../../collector/log/topics.ts';
import { parseRules } from '../../collector/stream/rules.ts';
import { StreamStage } from '../../collector/stream/stage.ts';
import type { Reading } from '../../shared/model/reading.ts';
import { decodeReadings, encodeReadings } from '../../shared/model/readings-record.ts';
import { temporaryFolder, until } from '../support/process.ts';

const T0 = Date.UTC(2026, 4, 1);
const HOUR = 3_600_000;
const WALL = T0 + 30 * 24 * HOUR;
const RULE = parseRules(
  'rules: [{ name: w, from: { measurement: m }, window: 1h, lateness: 1h, compute: [count, sum] }]',
  'rules.yaml',
  () => '',
);

/** Each has a value of its own, a power of two, so that a sum says which are in it. */
const reading = (sequence: number, hour: number, more: Partial<Reading> = {}): Reading => ({
  ...{ measurement: 'm', tags: { id: 'a' }, fields: { value: 2 ** sequence }, sequence, index: 0 },
  ...{ timeMs: T0 + hour * HOUR + sequence, ns: 0 },
  ...more,
});

class Place {
  readonly log: EmbeddedLog;
  readonly lake: Lake;
  readonly stream: StreamStage;
  private readonly notify = (): void => undefined;

  constructor(folder = temporaryFolder()) {
    const { notify } = this;
    this.log = new EmbeddedLog(
      { folder, cacheBytes: 1 << 20, topics: topics(Infinity), now: () => T0 },
      notify,
    );
    const limits = { folder, memoryBytes: 128 << 20, cacheBytes: 1 << 20 };
    this.lake = new Lake(new LocalObjects(join(folder, 'lake')), limits);
    this.stream = new StreamStage({
      ...{ log: this.log, lake: this.lake, stateBytesMax: 1 << 20, notify },
      wallMs: () => WALL,
      explain: () => ({ reason: 'sensor_silent', text: '' }),
    });
  }

  static async open({ onTestFinished }: TestContext): Promise<Place> {
    const place = new Place();
    await place.log.open();
    await place.lake.open();
    onTestFinished(async () => {
      await place.stream.close();
      await place.lake.close();
      await place.log.close();
    });
    return place;
  }

  async say(readings: Reading[], headers: Record<string, string> = {}): Promise<void> {
    for (const each of readings) {
      const batch = { gateway: 'gw', epoch: 'e', arrivedMs: T0, readings: [each] };
      await this.log.append(TOPIC_READINGS, [{ key: 'gw', headers, value: encodeReadings(batch) }]);
    }
  }

  private async caughtUp(group: string): Promise<void> {
    await until(`${group} to have read everything`, () => {
      const known = this.log.groups().find((each) => each.group === group);
      return known?.lagRecords === 0 || undefined;
    });
  }

  /** The lake takes what there is, and then nothing more. */
  async fill(): Promise<void> {
    const { log, lake, notify } = this;
    const stage = new LakeStage({
      ...{ zone: 'readings', log, lake, notify },
      ...{ flushMs: 1, flushBytes: 1 << 20 },
    });
    stage.start();
    await this.caughtUp('headwater-lake-readings');
    await stage.close();
  }

  /** The engine has read all, and has looked at the lake twice since. */
  async read(): Promise<void> {
    await this.caughtUp('headwater-stream');
    await new Promise((resolve) => setTimeout(resolve, 2500));
  }

  /** Hour → which readings its result counts, by their numbers. */
  async windows(): Promise<Record<number, number[]>> {
    const found: Record<number, number[]> = {};
    for (const { value } of await this.log.read(TOPIC_RESULTS, 0, Infinity)) {
      const { readings, removed = [] } = decodeReadings(value);
      for (const { timeMs } of removed) delete found[(timeMs - T0) / HOUR];
      for (const { timeMs, fields } of readings) {
        const sum = Number(fields['value_sum']);
        const all = Array.from({ length: 20 }, (_, at) => at).filter((at) => sum & (1 << at));
        // One that is counted twice is a carry in the sum, and more than the count says.
        const isOnce = all.length === fields['value_count'];
        found[(timeMs - T0) / HOUR] = isOnce ? all : [Number.NaN];
      }
    }
    return found;
  }
}

describe.concurrent('the past of a rule', () => {
  it('of a lake that is behind the engine takes back nothing that the engine has said (seed 393081)', async (context) => {
    const place = await Place.open(context);
    await place.say([reading(1, -24), reading(2, 1)]);
    await place.fill();
    await place.say([reading(3, 1), reading(4, 5)]);
    // A day is settled at a time: when its turn comes the second window has been said and let go.
    // It begins with the log, as a collector that was killed before its first step, and the lake has some already.
    await place.stream.start(RULE);
    await place.read();
    expect(await place.windows()).toEqual({ '-24': [1], 1: [2, 3], 5: [4] });
    await place.fill();
    await place.read();
    expect(await place.windows()).toEqual({ '-24': [1], 1: [2, 3], 5: [4] });
  });

  it('waits until the lake has what was read before the rule came', async (context) => {
    const place = await Place.open(context);
    await place.stream.start([]);
    await place.say([reading(1, 0)]);
    await place.fill();
    await place.say([reading(2, 0), reading(3, 1)]);
    await place.read();
    await place.stream.change(RULE);
    await place.say([reading(4, 5)]);
    await place.read();
    await place.fill();
    await place.read();
    expect(await place.windows()).toEqual({ 0: [1, 2], 1: [3], 5: [4] });
  });

  it('has windows later than the first that comes, where readings are not in order', async (context) => {
    const place = await Place.open(context);
    await place.stream.start([]);
    await place.say([reading(1, 2), reading(2, 3)]);
    await place.read();
    await place.stream.change(RULE);
    // A backlog: the newest came first.
    await place.say([reading(3, 1), reading(4, 2), reading(5, 4)]);
    await place.read();
    await place.fill();
    await place.say([reading(6, 3)]);
    await place.read();
    await place.fill();
    await place.read();
    expect(await place.windows()).toEqual({ 1: [3], 2: [1, 4], 3: [2, 6], 4: [5] });
  });

  it('is whole where what comes first of a group is said again', async (context) => {
    const place = await Place.open(context);
    await place.stream.start([]);
    await place.say([reading(1, 0), reading(2, 3)]);
    await place.read();
    await place.stream.change(RULE);
    await place.say([reading(1, 0)], { [HEADER_AGAIN]: 'true' });
    await place.say([reading(3, 3), reading(4, 5)]);
    await place.read();
    await place.fill();
    await place.read();
    expect(await place.windows()).toEqual({ 0: [1], 3: [2, 3], 5: [4] });
  });
});
