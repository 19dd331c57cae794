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
import {
  HEADER_AGAIN,
  TOPIC_COMMANDS,
  TOPIC_LEDGER,
  TOPIC_READINGS,
  type Produced,
} from '../log/log.ts';
import { seriesName } from '../store/store.ts';
import { Cardinality, type SeriesLimits } from './cardinality.ts';
import type { CodecState, MessageContext } from './codecs/context.ts';
import { decodeRecord, takeTags, type DecodedReading } from './decoder.ts';
import type { Mappings } from './mapping/mappings.ts';

/** Readings in one record: enough to be cheap, few enough to stay below Kafka's usual megabyte. */
const READINGS_PER_RECORD = 1000;
/** From the gateway's receipt to the arrival at the collector: what takes longer is late. */
const LATE_MS = 10_000;
/** What is known of fields, in the ledger topic: `meta/` and the series' name. */
export const META_PREFIX = 'meta/';

/** A frame to be decoded, and how. */
export interface FrameJob {
  frame: Buffer;
  header: FrameHeader;
  arrivedMs: number;
  /** Puts the gateway's clock right, microseconds. */
  offsetUs: number;
  isFresh: (sequence: number) => boolean;
  /** The readings were written under this correction before: those that move say where they were. */
  usedUs?: number;
  state: CodecState;
  /** Partition of the ledger topic that goes with it. */
  partition: number;
  /** Whether every message of the epoch between two sequences has been decoded. */
  hasAll: (from: number, to: number) => boolean;
  /** Its readings have been said before: it was put back into the log. */
  isAgain?: boolean;
  /** Decoded once more, after the mappings have changed. */
  replay?: Replay;
}

/** What a replay needs to know, and what it tells. */
export interface Replay {
  isWanted: (message: FrameRecord) => boolean;
  /** Mappings that were in force before. */
  older: readonly Mappings[];
  onDecoded: (sequence: number, readings: number) => void;
  onQuarantined: (sequence: number) => void;
}

export class FrameDecoder {
  decodedMessages = 0;
  decodedReadings = 0;
  emptyMessages = 0;
  lateReadings = 0;
  mappings: Mappings;

  private readonly quarantine: (item: Quarantined) => Produced;
  private readonly cardinality: Cardinality;
  /** What has been said of fields already, by the tags of their series. */
  private readonly said = new WeakMap<Record<string, string>, Map<string, string>>();

  constructor(
    mappings: Mappings,
    limits: SeriesLimits,
    quarantine: (item: Quarantined) => Produced,
  ) {
    this.mappings = mappings;
    this.cardinality = new Cardinality(limits);
    this.quarantine = quarantine;
  }

  /** The fresh messages of a frame. */
  readings(job: FrameJob): Produced[] {
    const { frame, header, arrivedMs, offsetUs, usedUs } = job;
    const { gateway, epoch } = header;
    const produced: Produced[] = [];
    const seed = identitySeed(gateway, epoch);
    let readings: Reading[] = [];
    let removed: Reading[] = [];
    const { replay } = job;
    const isAgain = replay !== undefined || job.isAgain === true;
    const flush = (): void => {
      if (readings.length + removed.length > 0)
        produced.push(this.record(header, arrivedMs, readings, removed, isAgain));
      readings = [];
      removed = [];
    };
    const context = this.contextOf(job, produced);
    for (const message of readRecords(frame, header)) {
      if (!job.isFresh(message.sequence)) continue;
      if (replay !== undefined && !replay.isWanted(message)) continue;
      if (usedUs === undefined && replay === undefined) this.decodedMessages++;
      const deviceReceivedUs = message.receivedUs;
      this.place(context, message, deviceReceivedUs + offsetUs, arrivedMs);
      const late = arrivedMs - message.receivedUs / 1000 > LATE_MS;
      try {
        const decoded = decodeRecord(message, seed, context, this.mappings);
        if (decoded.length === 0) this.emptyMessages++;
        if (usedUs === undefined) this.admit(job, message.client, decoded);
        else {
          this.place(context, message, deviceReceivedUs + usedUs, arrivedMs);
          this.markMoved(decoded, decodeRecord(message, seed, context, this.mappings));
        }
        if (replay !== undefined) {
          removed.push(...this.leftBehind(message, seed, context, decoded, replay.older));
          replay.onDecoded(message.sequence, decoded.length);
        }
        for (const reading of decoded) {
          this.tell(job, reading, produced);
          if (late) {
            reading.late = true;
            this.lateReadings++;
          }
          readings.push(reading);
        }
        if (readings.length >= READINGS_PER_RECORD) flush();
      } catch (error) {
        if (!(error instanceof Undecodable)) throw error;
        if (usedUs !== undefined) continue;
        produced.push(this.setAside(header, message, error.message));
        if (replay === undefined) continue;
        // What an older mapping made of it is no longer said by anything.
        removed.push(...this.leftBehind(message, seed, context, [], replay.older));
        replay.onQuarantined(message.sequence);
      }
    }
    flush();
    return produced;
  }

  /** Points that older mappings gave this message and that are not where the present one puts them, or have other fields. */
  private leftBehind(
    message: FrameRecord,
    seed: number,
    context: MessageContext,
    decoded: Reading[],
    older: readonly Mappings[],
  ): Reading[] {
    const addressOf = ({ measurement, tags, timeMs, ns }: Reading): string =>
      `${seriesName({ measurement, field: '', tags })} ${timeMs} ${ns}`;
    const present = new Map(decoded.map((reading) => [addressOf(reading), reading]));
    const gone = new Map<string, Reading>();
    for (const mappings of older) {
      for (const reading of this.quietly(message, seed, context, mappings)) {
        const address = addressOf(reading);
        const now = present.get(address);
        const stays =
          now !== undefined &&
          Object.keys(reading.fields).every((name) => Object.hasOwn(now.fields, name));
        if (!stays) gone.set(address, reading);
      }
    }
    return [...gone.values()];
  }

  private quietly(
    message: FrameRecord,
    seed: number,
    context: MessageContext,
    mappings: Mappings,
  ): Reading[] {
    try {
      return decodeRecord(message, seed, { ...context, ask: () => undefined }, mappings);
    } catch (error) {
      if (error instanceof Undecodable) return [];
      throw error;
    }
  }

  private contextOf({ header, state, hasAll }: FrameJob, produced: Produced[]): MessageContext {
    const { gateway, epoch } = header;
    return {
      gateway,
      epoch,
      sequence: 0,
      topic: '',
      receivedMs: 0,
      latestMs: 0,
      state,
      hasAll,
      ask: ({ topic, payload }) =>
        produced.push({ topic: TOPIC_COMMANDS, key: gateway, headers: { topic }, value: payload }),
    };
  }

  /** One context serves all messages of a frame. */
  private place(
    context: MessageContext,
    message: FrameRecord,
    receivedUs: number,
    arrivedMs: number,
  ): void {
    message.receivedUs = receivedUs;
    context.sequence = message.sequence;
    context.topic = message.topic;
    context.receivedMs = Math.floor(receivedUs / 1000);
    context.latestMs = Math.max(context.receivedMs, arrivedMs);
  }

  /** All of a message or nothing of it. */
  private admit({ state }: FrameJob, client: string, decoded: DecodedReading[]): void {
    for (const { measurement, tags } of decoded)
      this.cardinality.admit(state, client, measurement, tags);
  }

  /** Units and names, once, and again when they change. */
  private tell({ partition }: FrameJob, reading: DecodedReading, produced: Produced[]): void {
    const { meta, measurement, tags, fields } = reading;
    if (meta === undefined) return;
    delete reading.meta;
    let said = this.said.get(tags);
    if (said === undefined) this.said.set(tags, (said = new Map()));
    for (const [name, what] of meta) {
      const text = JSON.stringify(what);
      for (const field of [name, `${name}_text`, `${name}_bool`]) {
        const key = `${measurement}\0${field}`;
        if (!Object.hasOwn(fields, field) || said.get(key) === text) continue;
        said.set(key, text);
        produced.push({
          topic: TOPIC_LEDGER,
          partition,
          key: `${META_PREFIX}${seriesName({ measurement, field, tags })}`,
          headers: {},
          value: Buffer.from(text),
        });
      }
    }
  }

  private markMoved(decoded: Reading[], before: Reading[]): void {
    for (const [index, reading] of decoded.entries()) {
      const old = before[index];
      if (old !== undefined && (old.timeMs !== reading.timeMs || old.ns !== reading.ns))
        reading.was = { timeMs: old.timeMs, ns: old.ns };
    }
  }

  private record(
    header: FrameHeader,
    arrivedMs: number,
    readings: Reading[],
    removed: Reading[] = [],
    isAgain = false,
  ): Produced {
    const { gateway, epoch } = header;
    this.decodedReadings += readings.length;
    return {
      topic: TOPIC_READINGS,
      key: gateway,
      headers: isAgain ? { [HEADER_AGAIN]: 'true' } : {},
      value: encodeReadings({ gateway, epoch, arrivedMs, readings, removed }),
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
    // All of one identity in one record: a store may take what comes later under it for a correction.
    return readings.length === 0 ? [] : [this.record(header, arrivedMs, readings)];
  }

  /** Names as the topic's first mapping gives them. */
  private meaning(
    gateway: string,
    { topic, measurement, tags: ownTags, constants, numbers }: SummarySeries,
  ): Pick<Reading, 'measurement' | 'tags' | 'fields'> {
    const meaning = this.mappings.of(gateway, topic);
    const [first] = meaning.candidates;
    const bare = first?.names.get('field') ?? first?.mapping.rules[0]?.field ?? 'value';
    const fields: [string, number][] = [];
    for (const [name, [count, min, max, mean]] of Object.entries(numbers)) {
      const field = name === 'value' && measurement === undefined ? bare : name;
      fields.push(
        [`${field}_min`, min],
        [`${field}_max`, max],
        [`${field}_mean`, mean],
        [`${field}_count`, count],
      );
    }
    const tags = { ...ownTags, ...(first?.tags ?? meaning.tags) };
    for (const [name, source] of first?.mapping.rules[0]?.tags ?? [])
      if ('constant' in source) tags[name] = source.constant;
    takeTags(new Map(Object.entries(constants)), first?.mapping.rules[0]?.tagFields ?? [], tags);
    return {
      measurement: measurement ?? first?.measurement ?? meaning.measurement,
      tags: this.mappings.shared(tags),
      fields: Object.fromEntries(fields),
    };
  }
}
