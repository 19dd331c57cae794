/**
 * The decode stage: raw frames → readings, once in effect (law 3).
 *
 * Every sequence of every epoch that has been decoded is in a range set; the set is committed in the same step as the
 * readings and the offsets, so a frame that arrives twice adds nothing, however it came to be sent again.
 */
import { messageOf } from '../../shared/errors.ts';
import { Undecodable } from '../../shared/codecs/codec.ts';
import {
  KIND_RECORDS,
  checkFrame,
  readRecords,
  type FrameHeader,
} from '../../shared/frame/frame.ts';
import { RangeSet } from '../../shared/model/ranges.ts';
import { identitySeed, type Quarantined, type Reading } from '../../shared/model/reading.ts';
import { encodeReadings } from '../../shared/model/readings-record.ts';
import { encodeQuarantined } from '../../shared/model/quarantine-record.ts';
import type { Notify } from '../../shared/telemetry/log.ts';
import { CounterBy } from '../../shared/telemetry/metrics.ts';
import {
  TOPIC_LEDGER,
  TOPIC_QUARANTINE,
  TOPIC_RAW,
  TOPIC_READINGS,
  type Log,
  type Produced,
  type StoredRecord,
} from '../log/log.ts';
import { runStage, type Stage } from '../log/stage.ts';
import { decodeRecord } from './decoder.ts';
import type { Mappings } from './mapping.ts';

/** Readings in one record: enough to be cheap, few enough to stay below Kafka's usual megabyte. */
const READINGS_PER_RECORD = 1000;
const STATE_PREFIX = 'decoded/';

export class DecodeStage {
  readonly quarantinedBy = new CounterBy('reason');
  decodedMessages = 0;
  decodedReadings = 0;
  duplicateMessages = 0;
  emptyMessages = 0;

  private readonly log: Log;
  private readonly mappings: Mappings;
  private readonly notify: Notify;
  /** Partition → `gateway/epoch` → sequences decoded. */
  private readonly done = new Map<number, Map<string, RangeSet>>();
  private stage: Stage | undefined;

  constructor(log: Log, mappings: Mappings, notify: Notify) {
    this.log = log;
    this.mappings = mappings;
    this.notify = notify;
  }

  start(): void {
    this.stage = runStage({
      name: 'decode',
      log: this.log,
      notify: this.notify,
      consumer: {
        group: 'headwater-decode',
        topic: TOPIC_RAW,
        from: 'start',
        bytesMax: 1024 * 1024,
        // Also after a step that was not committed: its sequences must not stay in the sets.
        onAssign: async (partition) => {
          await this.load(partition);
          return undefined;
        },
        onRevoke: (partition) => this.done.delete(partition),
      },
      step: (records) => this.step(records),
    });
  }

  private async load(partition: number): Promise<void> {
    const sets = new Map<string, RangeSet>();
    for (const { key, value } of await this.log.state(TOPIC_LEDGER, partition, STATE_PREFIX)) {
      const { ranges } = JSON.parse(value.toString('utf8')) as { ranges: [number, number][] };
      sets.set(key.slice(STATE_PREFIX.length), new RangeSet(ranges));
    }
    this.done.set(partition, sets);
  }

  private step(records: StoredRecord[]): Promise<Produced[]> {
    const produced: Produced[] = [];
    const touched = new Map<string, { partition: number; set: RangeSet }>();
    for (const record of records) {
      try {
        const header = checkFrame(record.value);
        const set = this.setOf(record.partition, `${header.gateway}/${header.epoch}`);
        touched.set(`${header.gateway}/${header.epoch}`, { partition: record.partition, set });
        this.frame(record, header, set, produced);
      } catch (error) {
        // A frame that was whole on arrival is damaged in the log: its bytes go where a person sees them.
        this.quarantine(produced, {
          gateway: record.key,
          epoch: '',
          sequence: 0,
          index: 0,
          client: '',
          topic: '',
          reason: messageOf(error),
          receivedMs: Number(record.headers['arrived'] ?? 0),
          payload: record.value,
        });
      }
    }
    for (const [key, { partition, set }] of touched) {
      const [gateway = '', epoch = ''] = key.split('/');
      produced.push({
        topic: TOPIC_LEDGER,
        partition,
        key: `${STATE_PREFIX}${key}`,
        headers: {},
        value: Buffer.from(JSON.stringify({ gateway, epoch, ranges: set.ranges })),
      });
    }
    return Promise.resolve(produced);
  }

  private setOf(partition: number, key: string): RangeSet {
    let sets = this.done.get(partition);
    if (sets === undefined) this.done.set(partition, (sets = new Map()));
    let set = sets.get(key);
    if (set === undefined) sets.set(key, (set = new RangeSet()));
    return set;
  }

  private frame(
    record: StoredRecord,
    header: FrameHeader,
    set: RangeSet,
    produced: Produced[],
  ): void {
    const { gateway, epoch, firstSequence, count } = header;
    const last = firstSequence + count - 1;
    if (set.covers(firstSequence, last)) {
      this.duplicateMessages += count;
      return;
    }
    const fresh = set.touches(firstSequence, last)
      ? (sequence: number) => !set.has(sequence)
      : () => true;
    const arrivedMs = Number(record.headers['arrived'] ?? 0);
    if (header.kind !== KIND_RECORDS) {
      set.add(firstSequence, last);
      return;
    }
    const seed = identitySeed(gateway, epoch);
    let readings: Reading[] = [];
    const flush = (): void => {
      if (readings.length === 0) return;
      this.decodedReadings += readings.length;
      produced.push({
        topic: TOPIC_READINGS,
        key: gateway,
        headers: {},
        value: encodeReadings({ gateway, epoch, arrivedMs, readings }),
      });
      readings = [];
    };
    for (const message of readRecords(record.value, header)) {
      if (!fresh(message.sequence)) {
        this.duplicateMessages++;
        continue;
      }
      this.decodedMessages++;
      try {
        const decoded = decodeRecord(message, gateway, seed, arrivedMs, this.mappings);
        if (decoded.length === 0) this.emptyMessages++;
        for (const reading of decoded) readings.push(reading);
        if (readings.length >= READINGS_PER_RECORD) flush();
      } catch (error) {
        if (!(error instanceof Undecodable)) throw error;
        const { sequence, client, topic, payload, receivedUs } = message;
        this.quarantine(produced, {
          gateway,
          epoch,
          sequence,
          index: 0,
          client,
          topic,
          reason: error.message,
          receivedMs: Math.floor(receivedUs / 1000),
          payload,
        });
      }
    }
    flush();
    set.add(firstSequence, last);
  }

  private quarantine(produced: Produced[], item: Quarantined): void {
    this.quarantinedBy.add(item.reason.replaceAll(/'[^']*'|\d+/g, '…').slice(0, 80));
    produced.push({
      topic: TOPIC_QUARANTINE,
      key: item.gateway,
      headers: {},
      value: encodeQuarantined(item),
    });
  }

  async close(): Promise<void> {
    await this.stage?.close();
  }
}
