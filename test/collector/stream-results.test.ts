/** Results by their identity: log and lake say the same of each, whatever was moved, taken back or said by a clock that steps. */
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { Lake } from '../../collector/lake/lake.ts';
import { LocalObjects } from '../../collector/lake/local.ts';
import { LakeStage } from '../../collector/lake/stage.ts';
import { EmbeddedLog } from '../../collector/log/embedded.ts';
import { topics } from '../../collector/log/topics.ts';
import {
  HEADER_AGAIN,
  TOPIC_READINGS,
  TOPIC_RESULTS,
  type LogRecord,
} from '../../collector/log/log.ts';
import { Results, STREAM } from '../../collector/stream/results.ts';
import { parseRules } from '../../collector/stream/rules.ts';
import { StreamStage } from '../../collector/stream/stage.ts';
import type { Reading } from '../../shared/model/reading.ts';
import { decodeReadings, encodeReadings } from '../../shared/model/readings-record.ts';
import { temporaryFolder, until } from '../support/process.ts';

const T0 = Date.UTC(2026, 4, 1, 12);
const RULES = `rules:
  - { name: twice, from: { measurement: m }, derive: { twice: "value * 2" } }
  - { name: hourly, from: { measurement: m }, window: 1h, compute: [count, sum] }
`;

interface Site {
  log: EmbeddedLog;
  lake: Lake;
  wall: { ms: number };
  stream: StreamStage;
  close(): Promise<void>;
}

async function site(folder: string, wallMs = T0 + 86_400_000): Promise<Site> {
  const notify = (): void => undefined;
  const wall = { ms: wallMs };
  const log = new EmbeddedLog(
    { folder, cacheBytes: 1 << 22, topics: topics(Infinity), now: () => T0 },
    notify,
  );
  await log.open();
  const lake = new Lake(new LocalObjects(join(folder, 'lake')), {
    folder,
    memoryBytes: 128 << 20,
    cacheBytes: 1 << 20,
  });
  await lake.open();
  const stages = (['readings', 'results'] as const).map(
    (zone) => new LakeStage({ zone, log, lake, flushMs: 1, flushBytes: 1 << 20, notify }),
  );
  for (const stage of stages) stage.start();
  const stream = new StreamStage({
    log,
    lake,
    stateBytesMax: 64 << 20,
    wallMs: () => wall.ms,
    explain: () => ({ reason: 'sensor_silent', text: '' }),
    notify,
  });
  await stream.start(parseRules(RULES, 'rules.yaml', () => ''));
  const close = async (): Promise<void> => {
    await stream.close();
    for (const stage of stages) await stage.close();
    await lake.close();
    await log.close();
  };
  return { log, lake, wall, stream, close };
}

const reading = (sequence: number, more: Partial<Reading> = {}): Reading => ({
  measurement: 'm',
  tags: { id: 'a' },
  fields: { value: sequence },
  sequence,
  index: 0,
  timeMs: T0 + sequence * 1000,
  ns: sequence,
  ...more,
});

const say = (
  { log }: Site,
  readings: Reading[],
  more: { again?: true; removed?: Reading[] } = {},
): Promise<void> => {
  const { again, removed = [] } = more;
  const batch = { gateway: 'gw', epoch: 'e', arrivedMs: T0, readings, removed };
  const record: LogRecord = {
    key: 'gw',
    headers: again === undefined ? {} : { [HEADER_AGAIN]: 'true' },
    value: encodeReadings(batch),
  };
  return log.append(TOPIC_READINGS, [record]);
};

const line = (epoch: string, { sequence, timeMs, fields }: Reading): string =>
  `${epoch} ${sequence} ${timeMs - T0} ${JSON.stringify(fields)}`;

/** As a store has them, which takes what the log says in its order. */
async function inLog({ log }: Site): Promise<string[]> {
  const newest = new Map<string, string>();
  for (const { value } of await log.read(TOPIC_RESULTS, 0, Infinity)) {
    const { epoch, readings, removed = [] } = decodeReadings(value);
    for (const { sequence } of removed) newest.delete(`${epoch}/${sequence}`);
    for (const each of readings) newest.set(`${epoch}/${each.sequence}`, line(epoch, each));
  }
  return [...newest.values()].sort();
}

async function inLake({ lake }: Site): Promise<string[]> {
  return await lake.query({}, async (connection) => {
    const sql =
      'SELECT epoch, sequence, epoch_ms(time), CAST(to_json(fields) AS VARCHAR) FROM results';
    return (await connection.runAndReadAll(sql))
      .getRows()
      .map(([epoch, sequence, time, fields]) =>
        line(String(epoch), {
          ...reading(Number(sequence)),
          timeMs: Number(time),
          fields: JSON.parse(String(fields)) as Reading['fields'],
        }),
      )
      .sort();
  });
}

/** Every stage has read everything, several times in a row. */
async function idle({ log, stream }: Site): Promise<void> {
  let quiet = 0;
  await until('stream and lake to have everything', async () => {
    await new Promise((resolve) => setTimeout(resolve, 10));
    const groups = log.groups().filter(({ group }) => /stream|lake/.test(group));
    const isQuiet =
      groups.length >= 3 &&
      stream.waitingCorrections === 0 &&
      groups.every(({ lagRecords }) => lagRecords === 0);
    quiet = isQuiet ? quiet + 1 : 0;
    return quiet >= 5 || undefined;
  });
}

describe.concurrent('of each result log and lake say the same', () => {
  const moved = (sequence: number, byMs: number): Reading => {
    const old = reading(sequence);
    return {
      ...old,
      timeMs: old.timeMs + byMs,
      was: { timeMs: old.timeMs, ns: old.ns },
    };
  };

  it.each([
    ['earlier', -500],
    ['later', 500],
    ['to another day', 86_400_000],
  ])('when its reading moves: %s', async (_, byMs) => {
    const at = await site(temporaryFolder());
    await say(at, [reading(1), reading(2), reading(3)]);
    await idle(at);
    await say(at, [moved(1, byMs), moved(2, byMs)]);
    await idle(at);
    expect((await inLog(at)).filter((text) => text.startsWith('twice'))).toHaveLength(3);
    expect(await inLake(at)).toEqual(await inLog(at));
    await at.close();
  });

  it('when it moves in the step that makes it, and again', async () => {
    const at = await site(temporaryFolder());
    await say(at, [reading(1), reading(2)]);
    await say(at, [moved(1, -500)]);
    const second = moved(1, 700);
    await say(at, [{ ...second, was: { timeMs: T0 + 500, ns: 1 } }]);
    await idle(at);
    expect(await inLog(at)).toContain('twice/gw/e 1 1700 {"twice":2}');
    expect(await inLake(at)).toEqual(await inLog(at));
    await at.close();
  });

  it('when the clock has stepped back since it was said, also over a restart', async () => {
    const folder = temporaryFolder();
    const at = await site(folder);
    await say(at, [reading(1), reading(2)]);
    await idle(at);
    at.wall.ms = T0 - 3_600_000;
    await say(at, [reading(1, { fields: { value: 10 } })], { again: true });
    await idle(at);
    await at.close();
    const next = await site(folder, T0 - 7_200_000);
    await say(next, [reading(2, { fields: { value: 20 } })], { again: true });
    await idle(next);
    expect((await inLog(next)).filter((text) => text.startsWith('twice'))).toEqual([
      'twice/gw/e 1 1000 {"twice":20}',
      'twice/gw/e 2 2000 {"twice":40}',
    ]);
    expect(await inLake(next)).toEqual(await inLog(next));
    await next.close();
  });

  it('when the reading, decoded again, has no longer what the rule needs', async () => {
    const at = await site(temporaryFolder());
    await say(at, [reading(1), reading(2)]);
    await idle(at);
    await say(at, [reading(1, { fields: { other: 1 } })], { again: true });
    await idle(at);
    expect((await inLog(at)).filter((text) => text.startsWith('twice'))).toEqual([
      'twice/gw/e 2 2000 {"twice":4}',
    ]);
    expect(await inLake(at)).toEqual(await inLog(at));
    await at.close();
  });
});

describe.concurrent('a log that is new beside a lake', () => {
  /** Two readings, and the log is lost; the clock is behind by then. */
  async function withoutLog(): Promise<Site> {
    const folder = temporaryFolder();
    const first = await site(folder);
    await say(first, [reading(1), reading(2)]);
    await idle(first);
    await first.close();
    rmSync(join(folder, 'log'), { recursive: true });
    return await site(folder, T0 - 3_600_000);
  }

  it('goes on with revisions where the lost one was', async () => {
    const at = await withoutLog();
    await say(at, [reading(1, { fields: { value: 10 } })], { again: true });
    await idle(at);
    expect(await inLake(at)).toContain('twice/gw/e 1 1000 {"twice":20}');
    await at.close();
  });

  it('has the readings of the lake in its windows', async () => {
    const at = await withoutLog();
    await say(at, [reading(3)]);
    await idle(at);
    const windows = (await inLake(at)).filter((text) => text.startsWith('hourly'));
    expect(windows).toEqual([
      expect.stringMatching(/^hourly\S* \d+ 0 \{"value_count":3(\.0)?,"value_sum":6(\.0)?\}$/),
    ]);
    await at.close();
  });
});

describe('what a step says', () => {
  it('is the last word on each identity, however many there are', () => {
    const results = new Results(STREAM);
    for (let n = 1; n <= 1200; n++) results.remove('r/x', reading(n, { timeMs: 5 }));
    for (let n = 1200; n >= 1; n -= 2) results.add('r/x', reading(n));
    results.remove('r/x', reading(2));
    const there = new Map<number, number>();
    let before = 0;
    for (const { value } of results.records(100, T0)) {
      const { readings, removed = [], revision = 0 } = decodeReadings(value);
      expect(revision).toBeGreaterThanOrEqual(before);
      before = revision;
      for (const { sequence } of removed) there.delete(sequence);
      for (const { sequence } of readings) there.set(sequence, revision);
    }
    expect(there.size).toBe(599);
    expect(there.has(2)).toBe(false);
    expect(new Set(there.values())).toEqual(new Set([101]));
  });
});
