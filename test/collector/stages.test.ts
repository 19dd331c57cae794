/** Decode and store over a log whose writes fail now and then: every reading once in effect, all the same. */
import { describe, expect, it } from 'vitest';
import { Mappings } from '../../collector/decode/mapping/mappings.ts';
import { DecodeStage } from '../../collector/decode/stage.ts';
import { EmbeddedLog } from '../../collector/log/embedded.ts';
import { topics } from '../../collector/log/topics.ts';
import {
  TOPIC_QUARANTINE,
  TOPIC_RAW,
  TOPIC_READINGS,
  type LogRecord,
} from '../../collector/log/log.ts';
import { DuckDbStore } from '../../collector/store/duckdb.ts';
import { gathered } from '../support/gathered.ts';
import { StoreStage } from '../../collector/store/stage.ts';
import { CLOCK_SYNCHRONISED } from '../../shared/frame/frame.ts';
import { FrameBuilder } from '../../shared/frame/builder.ts';
import { LevelDatabase } from '../../shared/kv/classic-level.ts';
import type { KvOp } from '../../shared/kv/kv.ts';
import { decodeQuarantined } from '../../shared/model/quarantine-record.ts';
import { temporaryFolder, until } from '../support/process.ts';
import { seeded } from '../support/seed.ts';

const EPOCH = Buffer.from('0102030405060708', 'hex');
let nextSequence = 1;
let nextValue = 0;

function frame(count: number, poison = false): LogRecord {
  const builder = new FrameBuilder();
  for (let i = 0; i < count; i++) {
    builder.add(
      {
        client: 'c',
        topic: 'hall/1/n',
        qos: 1,
        retain: false,
        dup: false,
        payload: Buffer.from(poison && i === 0 ? '{"n":' : `{"n":${nextValue++}}`),
      },
      1.7e15,
      1,
    );
  }
  const value = builder.finish(
    { gateway: 'gw', epoch: EPOCH, bootId: Buffer.alloc(8) },
    nextSequence,
    CLOCK_SYNCHRONISED,
    true,
  );
  nextSequence += count;
  return { key: 'gw', value, headers: { arrived: '1700000000000', lane: '0' } };
}

/** Writes fail at random: before anything is on disk, or after all of it is (F2). */
class Shaky extends LevelDatabase {
  static chance: () => number = () => 1;
  static failures = 0;
  override async write(ops: KvOp[], options: { sync: boolean }): Promise<void> {
    const lot = Shaky.chance();
    if (lot < 0.04) {
      Shaky.failures++;
      throw new Error('IO error: No space left on device');
    }
    await super.write(ops, options);
    if (lot < 0.08) {
      Shaky.failures++;
      throw new Error('IO error: reported as failed, but written');
    }
  }
}

describe('decode and store', () => {
  it('through failing writes of the log, resends and damage: each reading once, poison in quarantine', async () => {
    const { seed, next } = seeded();
    const folder = temporaryFolder();
    const log = new EmbeddedLog(
      {
        folder,
        cacheBytes: 1 << 20,
        topics: topics(Infinity),
        now: () => Date.now(),
        createDatabase: (path) => new Shaky(path),
        reopenMs: 5,
      },
      () => undefined,
    );
    await log.open();
    const store = new DuckDbStore(
      { folder, memoryBytes: 128 << 20, now: () => Date.now() },
      () => undefined,
    );
    await store.open();
    const decode = new DecodeStage(
      log,
      new Mappings([]),
      { perClient: 1e6, perGateway: 1e6 },
      () => undefined,
    );
    const storing = new StoreStage({
      log,
      store,
      notify: () => undefined,
      fillRate: 1e6,
    });
    decode.start();
    storing.start();
    Shaky.chance = next;
    const records: LogRecord[] = [];
    for (let i = 0; i < 150; i++) {
      const record = frame(1 + Math.floor(next() * 40), i === 70);
      records.push(record);
      // As a gateway does: sent until it is acknowledged, and now and then once more.
      const again =
        next() < 0.2
          ? [record, records[Math.floor(next() * records.length)] as LogRecord]
          : [record];
      for (const each of again) {
        await until(
          'the log to take it',
          async () =>
            (await log.append(TOPIC_RAW, [each]).then(
              () => true,
              () => undefined,
            )) ?? undefined,
        );
      }
    }
    Shaky.chance = () => 1;
    await log.append(TOPIC_RAW, [{ key: 'gw', value: Buffer.from('not a frame'), headers: {} }]);
    await until(
      `everything stored, seed ${seed}`,
      async () => {
        const [count] = await gathered(store.query({ measurement: 'n', fn: 'count' }));
        const lag = log.groups().reduce((sum, { lagRecords }) => sum + (lagRecords ?? 1), 0);
        return lag === 0 && (count?.points[0]?.[1] as number) >= nextValue ? true : undefined;
      },
      25_000,
    );
    const [series] = await gathered(store.query({ measurement: 'n' }));
    const values = series?.points.map(([, value]) => value as number).sort((a, b) => a - b);
    expect(values, `seed ${seed}`).toEqual(Array.from({ length: nextValue }, (_, i) => i));
    expect(Shaky.failures).toBeGreaterThan(5);
    const consumer = await log.consumer({
      group: 'look',
      topic: TOPIC_QUARANTINE,
      from: 'start',
      bytesMax: 1 << 20,
    });
    const quarantined = (await consumer.poll(100)).map(({ value }) => decodeQuarantined(value));
    expect(
      quarantined.map(({ reason, payload }) => [reason.replace(/:.*/, ''), payload.toString()]),
    ).toEqual([
      ['not JSON', '{"n":'],
      ['frame refused', 'not a frame'],
    ]);
    // The readings themselves are there once too, for every other consumer of the topic.
    const reader = await log.consumer({
      group: 'count',
      topic: TOPIC_READINGS,
      from: 'start',
      bytesMax: 1 << 30,
    });
    let readings = 0;
    for (let batch = await reader.poll(50); batch.length > 0; batch = await reader.poll(50)) {
      for (const { value } of batch)
        readings += (JSON.parse(value.toString()) as { readings: unknown[] }).readings.length;
    }
    expect(readings).toBe(nextValue);
    await decode.close();
    await storing.close();
    await store.close();
    await log.close();
  });
});
