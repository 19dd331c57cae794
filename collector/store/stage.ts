/**
 * The store stage: readings → store. The offset is committed after the store has acknowledged; a store that keeps
 * progress in its own transaction decides where to go on.
 */
import { messageOf } from '../../shared/errors.ts';
import { encodeQuarantined } from '../../shared/model/quarantine-record.ts';
import { decodeReadings } from '../../shared/model/readings-record.ts';
import type { ReadingBatch } from '../../shared/model/reading.ts';
import type { Notify } from '../../shared/telemetry/log.ts';
import { CounterBy } from '../../shared/telemetry/metrics.ts';
import {
  TOPIC_QUARANTINE,
  TOPIC_READINGS,
  type Log,
  type Produced,
  type StoredRecord,
} from '../log/log.ts';
import { runStage, type Stage } from '../log/stage.ts';
import type { TimeSeriesStore } from './store.ts';

export class StoreStage {
  readonly refusedBy = new CounterBy('reason');
  storedReadings = 0;
  movedReadings = 0;

  private readonly log: Log;
  private readonly store: TimeSeriesStore;
  private readonly notify: Notify;
  private stage: Stage | undefined;

  constructor(log: Log, store: TimeSeriesStore, notify: Notify) {
    this.log = log;
    this.store = store;
    this.notify = notify;
  }

  start(): void {
    this.stage = runStage({
      name: 'store',
      log: this.log,
      notify: this.notify,
      consumer: {
        group: `headwater-store-${this.store.kind}`,
        topic: TOPIC_READINGS,
        from: 'start',
        bytesMax: 2 * 1024 * 1024,
        onAssign: (partition) => this.store.progress(partition),
      },
      step: (records, offsets) => this.step(records, offsets),
    });
  }

  private async step(records: StoredRecord[], offsets: Map<number, number>): Promise<Produced[]> {
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
    const progress = produced.length === 0 ? offsets : new Map<number, number>();
    await this.removeMoved(batches);
    const refused = await this.store.write(batches, progress);
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

  /** A reading whose time was put right leaves no second point behind. Done again, it finds nothing more to remove. */
  private async removeMoved(batches: ReadingBatch[]): Promise<void> {
    const old = batches.flatMap((batch) => {
      const readings = batch.readings.flatMap(({ was, ...reading }) =>
        was === undefined ? [] : [{ ...reading, ...was }],
      );
      return readings.length === 0 ? [] : [{ ...batch, readings }];
    });
    if (old.length === 0) return;
    await this.store.remove(old);
    for (const { readings } of old) this.movedReadings += readings.length;
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

  async close(): Promise<void> {
    await this.stage?.close();
  }
}
