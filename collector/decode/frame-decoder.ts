/**
 * Makes readings, as records of the `readings` topic, of the messages in a frame, and of summaries. What cannot be read
 * goes aside with its reason and holds up nobody (law 5).
 */
import { Undecodable } from '../../shared/codecs/codec.ts';
import { readRecords, type FrameHeader, type FrameRecord } from '../../shared/frame/frame.ts';
import type { Summary, SummarySeries } from '../../shared/frame/notes.ts';
import {
  identityDigits,
  identitySeed,
  type Quarantined,
  type Reading,
} from '../../shared/model/reading.ts';
import { encodeReadings } from '../../shared/model/readings-record.ts';
import { TOPIC_READINGS, type Produced } from '../log/log.ts';
import { decodeRecord, tagsOf } from './decoder.ts';
import type { Mappings } from './mapping.ts';

/** Readings in one record: enough to be cheap, few enough to stay below Kafka's usual megabyte. */
const READINGS_PER_RECORD = 1000;
/** From the gateway's receipt to the arrival at the collector: what takes longer is late. */
const LATE_MS = 10_000;

export class FrameDecoder {
  decodedMessages = 0;
  decodedReadings = 0;
  emptyMessages = 0;
  lateReadings = 0;

  private readonly mappings: Mappings;
  private readonly quarantine: (item: Quarantined) => Produced;

  constructor(mappings: Mappings, quarantine: (item: Quarantined) => Produced) {
    this.mappings = mappings;
    this.quarantine = quarantine;
  }

  /**
   * The fresh messages of a frame. `offsetUs` puts the gateway's clock right; with `usedUs` the readings were written
   * under that correction before, and those that move say where they were.
   */
  readings(
    frame: Buffer,
    header: FrameHeader,
    arrivedMs: number,
    offsetUs: number,
    isFresh: (sequence: number) => boolean,
    usedUs?: number,
  ): Produced[] {
    const { gateway, epoch } = header;
    const produced: Produced[] = [];
    const seed = identitySeed(gateway, epoch);
    let readings: Reading[] = [];
    const flush = (): void => {
      if (readings.length > 0) produced.push(this.record(header, arrivedMs, readings));
      readings = [];
    };
    for (const message of readRecords(frame, header)) {
      if (!isFresh(message.sequence)) continue;
      if (usedUs === undefined) this.decodedMessages++;
      const deviceReceivedUs = message.receivedUs;
      message.receivedUs += offsetUs;
      const late = arrivedMs - message.receivedUs / 1000 > LATE_MS;
      try {
        const decoded = decodeRecord(message, gateway, seed, arrivedMs, this.mappings);
        if (decoded.length === 0) this.emptyMessages++;
        if (usedUs !== undefined) {
          message.receivedUs = deviceReceivedUs + usedUs;
          this.markMoved(decoded, decodeRecord(message, gateway, seed, arrivedMs, this.mappings));
        }
        for (const reading of decoded) {
          if (late) {
            reading.late = true;
            this.lateReadings++;
          }
          readings.push(reading);
        }
        if (readings.length >= READINGS_PER_RECORD) flush();
      } catch (error) {
        if (!(error instanceof Undecodable)) throw error;
        if (usedUs === undefined) produced.push(this.setAside(header, message, error.message));
      }
    }
    flush();
    return produced;
  }

  private markMoved(decoded: Reading[], before: Reading[]): void {
    for (const [index, reading] of decoded.entries()) {
      const old = before[index];
      if (old !== undefined && (old.timeMs !== reading.timeMs || old.ns !== reading.ns))
        reading.was = { timeMs: old.timeMs, ns: old.ns };
    }
  }

  private record(header: FrameHeader, arrivedMs: number, readings: Reading[]): Produced {
    const { gateway, epoch } = header;
    this.decodedReadings += readings.length;
    return {
      topic: TOPIC_READINGS,
      key: gateway,
      headers: {},
      value: encodeReadings({ gateway, epoch, arrivedMs, readings }),
    };
  }

  private setAside(header: FrameHeader, message: FrameRecord, reason: string): Produced {
    const { gateway, epoch } = header;
    const { sequence, client, topic, payload, receivedUs } = message;
    const receivedMs = Math.floor(receivedUs / 1000);
    return this.quarantine({
      gateway,
      epoch,
      sequence,
      index: 0,
      client,
      topic,
      reason,
      receivedMs,
      payload,
    });
  }

  /** All fresh messages of a frame to quarantine. */
  aside(
    frame: Buffer,
    header: FrameHeader,
    reason: string,
    isFresh: (sequence: number) => boolean,
  ): Produced[] {
    return readRecords(frame, header)
      .filter(({ sequence }) => isFresh(sequence))
      .map((message) => this.setAside(header, message, reason));
  }

  /** What is left of thinned messages: `<field>_min`, `_max`, `_mean` and `_count`, at the middle of their time. */
  summary(summary: Summary, header: FrameHeader, arrivedMs: number): Produced[] {
    const { gateway, epoch, firstSequence } = header;
    const seed = identitySeed(gateway, epoch);
    const readings = summary.series.map((series, index): Reading => {
      const ns = identityDigits(seed, firstSequence, index, 1_000_000);
      const timeMs = Math.floor((series.fromUs + series.toUs) / 2000);
      return { ...this.meaning(gateway, series), sequence: firstSequence, index, timeMs, ns };
    });
    const produced: Produced[] = [];
    for (let at = 0; at < readings.length; at += READINGS_PER_RECORD)
      produced.push(this.record(header, arrivedMs, readings.slice(at, at + READINGS_PER_RECORD)));
    return produced;
  }

  private meaning(
    gateway: string,
    { topic, measurement, tags, constants, numbers }: SummarySeries,
  ): Pick<Reading, 'measurement' | 'tags' | 'fields'> {
    const meaning = this.mappings.of(gateway, topic);
    const fields: [string, number][] = [];
    for (const [name, [count, min, max, mean]] of Object.entries(numbers)) {
      const field = name === 'value' && measurement === undefined ? meaning.field : name;
      fields.push(
        [`${field}_min`, min],
        [`${field}_max`, max],
        [`${field}_mean`, mean],
        [`${field}_count`, count],
      );
    }
    const decoded = {
      fields: new Map(Object.entries(constants)),
      ...(tags === undefined ? {} : { tags }),
    };
    return {
      measurement: measurement ?? meaning.measurement,
      tags: tagsOf(decoded, meaning),
      fields: Object.fromEntries(fields),
    };
  }
}
