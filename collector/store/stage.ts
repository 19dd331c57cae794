/**
 * The store stage: readings and results → store. The offset is committed after the store has acknowledged; a store that keeps
 * progress in its own transaction decides where to go on.
 */
import { processTime, type Time } from '../../shared/env/env.ts';
import { messageOf } from '../../shared/errors.ts';
import { encodeQuarantined } from '../../shared/model/quarantine-record.ts';
import { decodeReadings } from '../../shared/model/readings-record.ts';
import type { ReadingBatch } from '../../shared/model/reading.ts';
import type { Notify } from '../../shared/telemetry/log.ts';
import { CounterBy } from '../../shared/telemetry/metrics.ts';
import {
  TOPIC_QUARANTINE,
  TOPIC_READINGS,
  TOPIC_RESULTS,
  type Log,
  type Produced,
  type StoredRecord,
} from '../log/log.ts';
import { runStage, type Stage } from '../stage/stage.ts';
import type { StageState } from '../stage/state.ts';
import type { Refused, TimeSeriesStore } from './store.ts';

export class StoreStage {
  readonly refusedBy = new CounterBy('reason');
  storedReadings = 0;
  movedReadings = 0;
  /** Points that a replay took away, since the mapping now in force puts them elsewhere. */
  removedReadings = 0;

  private readonly log: Log;
  private readonly store: TimeSeriesStore;
  private readonly notify: Notify;
  private readonly time: Time;
  private readonly stages: Stage[] = [];

  constructor(log: Log, store: TimeSeriesStore, notify: Notify, time: Time = processTime) {
    this.time = time;
    this.log = log;
    this.store = store;
    this.notify = notify;
  }

  start(): void {
    this.follow(TOPIC_READINGS, 'store', `headwater-store-${this.store.kind}`);
    this.follow(TOPIC_RESULTS, 'store_results', `headwater-store-results-${this.store.kind}`);
  }

  private follow(topic: string, name: string, group: string): void {
    const stage = runStage({
      name,
      touches: 'elsewhere',
      log: this.log,
      notify: this.notify,
      time: this.time,
      consumer: {
        group,
        topic,
        from: 'start',
        bytesMax: 2 * 1024 * 1024,
        onAssign: (partition) => this.store.progress(`${topic}/${partition}`),
      },
      step: (records, offsets) => this.step(topic, records, offsets),
    });
    this.stages.push(stage);
  }

  private async step(
    topic: string,
    records: StoredRecord[],
    offsets: Map<number, number>,
  ): Promise<Produced[]> {
    const batches: ReadingBatch[] = [];
    const produced: Produced[] = [];
    for (const record of records) {
      try {
        batches.push(decodeReadings(record.value));
      } catch (error) {
        // Somebody else may write to this topic too: what is not a readings record is set aside, not stumbled over.
        produced.push(this.quarantined(record.key, '', 0, 0, messageOf(error), record.value));
      }
    }
    // Progress moves in the store's own transaction only when nothing else has to be committed with it.
    const progress = new Map<string, number>();
    if (produced.length === 0)
      for (const [partition, next] of offsets) progress.set(`${topic}/${partition}`, next);
    const refused = await this.write(batches, progress);
    for (const batch of batches) this.storedReadings += batch.readings.length;
    this.storedReadings -= refused.length;
    for (const { gateway, epoch, reading, reason } of refused) {
      const payload = Buffer.from(JSON.stringify(reading));
      produced.push(
        this.quarantined(gateway, epoch, reading.sequence, reading.index, reason, payload),
      );
    }
    return produced;
  }

  /**
   * In order: where a reading moves, what was written before it is in the store by then, its old point is removed, and
   * none is left behind. Done again, it finds nothing more to remove.
   */
  private async write(batches: ReadingBatch[], progress: Map<string, number>): Promise<Refused[]> {
    const refused: Refused[] = [];
    let waiting: ReadingBatch[] = [];
    for (const batch of batches) {
      const old = batch.readings.flatMap(({ was, ...reading }) =>
        was === undefined ? [] : [{ ...reading, ...was }],
      );
      this.removedReadings += batch.removed?.length ?? 0;
      this.movedReadings += old.length;
      old.push(...(batch.removed ?? []));
      if (old.length > 0) {
        if (waiting.length > 0) refused.push(...(await this.store.write(waiting, new Map())));
        waiting = [];
        await this.store.remove([{ ...batch, readings: old }]);
      }
      waiting.push(batch);
    }
    refused.push(...(await this.store.write(waiting, progress)));
    return refused;
  }

  private quarantined(
    gateway: string,
    epoch: string,
    sequence: number,
    index: number,
    reason: string,
    payload: Buffer,
  ): Produced {
    this.refusedBy.add(reason.replaceAll(/'[^']*'|"[^"]*"|\d+/g, '…').slice(0, 80));
    const item = {
      gateway,
      epoch,
      sequence,
      index,
      client: '',
      topic: '',
      reason,
      receivedMs: 0,
      payload,
    };
    return { topic: TOPIC_QUARANTINE, key: gateway, headers: {}, value: encodeQuarantined(item) };
  }

  stageStates(): StageState[] {
    return this.stages.map((stage) => stage.state());
  }

  async close(): Promise<void> {
    await Promise.all(this.stages.map((stage) => stage.close()));
  }
}
