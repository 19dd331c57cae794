/**
 * Makes readings, as records of the `readings` topic, of the messages in a frame, and of summaries. What cannot be read
 * goes aside with its reason and holds up nobody (law 5): a message, or a part of it while the rest is taken.
 *
 * What a mapping leaves over of a message is counted, and told once for a topic and what it is: as an item of the
 * quarantine, where a person looks for what is missing.
 */
import { createHash } from 'node:crypto';
import { Undecodable, type Problem } from '../../shared/codecs/codec.ts';
import { messageOf } from '../../shared/errors.ts';
import {
  KIND_SUMMARY,
  readRecords,
  type FrameHeader,
  type FrameRecord,
} from '../../shared/frame/frame.ts';
import { identitySeed, type Quarantined, type Reading } from '../../shared/model/reading.ts';
import { encodeReadings } from '../../shared/model/readings-record.ts';
import { Remembered } from '../../shared/model/remembered.ts';
import { TOPIC_COMMANDS, TOPIC_READINGS, type Produced } from '../log/log.ts';
import { Admission, type SeriesLimits } from './admission.ts';
import type { MessageContext } from './codecs/context.ts';
import { decodeRecord, reasonOf, type DecodedMessage, type DecodedReading } from './decoder.ts';
import type { Mappings } from './mapping/mappings.ts';
import { headersOf, type FrameJob, type Replay } from './frame-job.ts';
import { FieldNotes } from './field-notes.ts';
import { leftBehind, moved, without } from './left-behind.ts';
import { atOnce, never, type Portions } from './portions.ts';
import { summaryChanges } from './summary-readings.ts';

/** Readings in one record, and bytes of the messages they are of: enough to be cheap, few enough to stay below Kafka's usual megabyte. */
const READINGS_PER_RECORD = 1000;
const BYTES_PER_RECORD = 256 * 1024;
/** After so many messages whoever decodes is asked whether others are due: some take milliseconds each. */
const ASKED_EVERY = 4;
const COMMAND_TOPIC_CHARS_MAX = 4096;
/** Leftovers that have been told, remembered; beyond it they are told again. */
const TOLD_MAX = 10_000;
/** Beyond 9999, and before 1970, no gateway received anything: what a list of the quarantine can show. */
const RECEIPT_MS_MAX = 253_402_300_799_999;
/** From the gateway's receipt to the arrival at the collector: what takes longer is late. */
const LATE_MS = 10_000;

export class FrameDecoder {
  decodedMessages = 0;
  decodedReadings = 0;
  emptyMessages = 0;
  lateReadings = 0;
  /** Numbers that were none (NaN, infinities), and messages of which a mapping left something over. */
  omittedValues = 0;
  leftOverMessages = 0;
  mappings: Mappings;

  private readonly quarantine: (item: Quarantined) => Produced;
  private readonly admission: Admission;
  private readonly told = new Remembered<true>(TOLD_MAX);
  private readonly notes = new FieldNotes();

  constructor(
    mappings: Mappings,
    limits: SeriesLimits,
    quarantine: (item: Quarantined) => Produced,
  ) {
    this.mappings = mappings;
    this.admission = new Admission(limits);
    this.quarantine = quarantine;
  }

  /** The fresh messages of a frame, or what is left of thinned ones. */
  readings(job: FrameJob): Produced[] {
    return atOnce(this.portions(job));
  }

  /** The same in portions, each of which ends when others are due. */
  *portions(job: FrameJob, isDue = never): Portions<Produced[]> {
    if (job.header.kind === KIND_SUMMARY) return this.summary(job);
    const { frame, header, arrivedMs, offsetUs, usedUs, replay } = job;
    // What comes into force meanwhile is for the next frame.
    const { mappings } = this;
    const { gateway, epoch } = header;
    const produced: Produced[] = [];
    const seed = identitySeed(gateway, epoch);
    let readings: Reading[] = [];
    let removed: Reading[] = [];
    let bytes = 0;
    const headers = headersOf(job);
    const flush = (): void => {
      if (readings.length + removed.length > 0)
        produced.push(this.record(header, arrivedMs, readings, headers, removed));
      readings = [];
      removed = [];
      bytes = 0;
    };
    const context = this.contextOf(job, produced);
    const take = (message: FrameRecord): void => {
      if (!job.isFresh(message.sequence)) return;
      if (replay !== undefined && !replay.isWanted(message)) return;
      if (usedUs === undefined && replay === undefined) this.decodedMessages++;
      const deviceReceivedUs = message.receivedUs;
      this.place(context, message, deviceReceivedUs + offsetUs, arrivedMs);
      const late = arrivedMs - message.receivedUs / 1000 > LATE_MS;
      try {
        const decoded = decodeRecord(message, seed, context, mappings);
        let taken = this.admit(job, message, decoded);
        if (usedUs !== undefined) {
          this.place(context, message, deviceReceivedUs + usedUs, arrivedMs);
          const before = decodeRecord(message, seed, context, mappings);
          removed.push(...without(before.readings, decoded.readings));
          taken = moved(taken, before.readings);
        }
        const isWhole = this.tellProblems(job, message, decoded, produced);
        if (replay !== undefined) {
          removed.push(...this.left(job, replay, context, message, deviceReceivedUs, taken));
          replay.onDecoded(message.sequence, taken.length, isWhole);
        }
        for (const reading of taken) {
          this.notes.take(reading, job.partition, produced);
          if (late) {
            reading.late = true;
            this.lateReadings++;
          }
          readings.push(reading);
        }
        bytes += message.payload.length;
        if (readings.length >= READINGS_PER_RECORD || bytes >= BYTES_PER_RECORD) flush();
      } catch (error) {
        if (usedUs !== undefined) return;
        produced.push(this.setAside(header, message, asReason(error)));
        if (replay === undefined) return;
        // What an older mapping made of it is no longer said by anything.
        removed.push(...this.left(job, replay, context, message, deviceReceivedUs, []));
        replay.onQuarantined(message.sequence);
      }
    };
    let count = 0;
    for (const message of readRecords(frame, header)) {
      if (++count % ASKED_EVERY === 0 && isDue()) yield;
      take(message);
    }
    flush();
    return produced;
  }

  /** The readings of a message that the stores can take; what they cannot becomes a problem. Throws Undecodable. */
  private admit(
    { state, usedUs }: FrameJob,
    { client, topic }: FrameRecord,
    decoded: DecodedMessage,
  ): DecodedReading[] {
    const { readings, problems } = decoded;
    let hasRefused = false;
    for (const reading of readings) {
      const refused = this.admission.admit(state, client, topic, reading);
      if (refused === undefined) continue;
      hasRefused = true;
      for (const reason of refused) problems.push({ reason });
    }
    const taken = hasRefused ? readings.filter(hasFields) : readings;
    if (taken.length === 0) {
      if (usedUs === undefined && problems.length === 0) this.emptyMessages++;
      if (problems.length > 0 && problems.every(({ part }) => part === undefined))
        throw new Undecodable(reasonOf(problems));
    }
    return taken;
  }

  /** What of a message is not taken, while the rest is. True when all of it is. */
  private tellProblems(
    { header, usedUs }: FrameJob,
    message: FrameRecord,
    { problems, omitted, left, readings }: DecodedMessage,
    produced: Produced[],
  ): boolean {
    if (problems.length === 0 && omitted === 0 && left === undefined) return true;
    if (usedUs !== undefined) return true;
    this.omittedValues += omitted;
    const whole: Problem[] = [];
    for (const problem of problems) {
      const { reason, part } = problem;
      if (part === undefined) whole.push(problem);
      // 0 is the message itself, which may lie there as well.
      else
        produced.push(
          this.setAside(header, { ...message, payload: part.payload }, reason, part.index + 1),
        );
    }
    const reasons = whole.length === 0 ? [] : [reasonOf(whole)];
    if (left !== undefined) {
      this.leftOverMessages++;
      const names = left.paths.join(', ');
      if (this.isNews(`${header.gateway}\0${message.topic}\0${names}`))
        reasons.push(
          `mapping '${left.mapping}' leaves out ${names} (said once for this topic; a point or field that leads there takes it, rest: false says that it is not wanted)`,
        );
    }
    if (reasons.length === 0) return whole.length === problems.length;
    const rest = readings.length > 0 ? '; the rest of the message is stored' : '';
    produced.push(this.setAside(header, message, `${reasons.join('; ')}${rest}`));
    return false;
  }

  private isNews(what: string): boolean {
    const short = createHash('sha256').update(what).digest('base64');
    if (this.told.get(short) === true) return false;
    this.told.set(short, true);
    return true;
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
      ask: ({ topic, payload }) => {
        // A log's headers have a limit, and no node has such a name.
        if (topic.length <= COMMAND_TOPIC_CHARS_MAX)
          produced.push({
            topic: TOPIC_COMMANDS,
            key: gateway,
            headers: { topic },
            value: payload,
          });
      },
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

  /** What a message wrote elsewhere: by older mappings, and under other corrections of its clock. */
  private left(
    { header, arrivedMs }: FrameJob,
    { older, elsewhereUs }: Replay,
    context: MessageContext,
    message: FrameRecord,
    deviceReceivedUs: number,
    taken: readonly Reading[],
  ): Reading[] {
    const seed = identitySeed(header.gateway, header.epoch);
    const gone = leftBehind(message, seed, context, taken, older);
    for (const offsetUs of elsewhereUs) {
      this.place(context, message, deviceReceivedUs + offsetUs, arrivedMs);
      gone.push(...leftBehind(message, seed, context, taken, [...older, this.mappings]));
    }
    return gone;
  }

  private record(
    header: FrameHeader,
    arrivedMs: number,
    readings: Reading[],
    headers: Record<string, string>,
    removed: Reading[] = [],
  ): Produced {
    const { gateway, epoch } = header;
    this.decodedReadings += readings.length;
    return {
      topic: TOPIC_READINGS,
      key: gateway,
      headers,
      value: encodeReadings({ gateway, epoch, arrivedMs, readings, removed }),
    };
  }

  private setAside(header: FrameHeader, message: FrameRecord, reason: string, index = 0): Produced {
    const { gateway, epoch } = header;
    const { sequence, client, topic, payload, receivedUs } = message;
    const receivedMs = Math.min(Math.max(Math.floor(receivedUs / 1000), 0), RECEIPT_MS_MAX);
    return this.quarantine({
      gateway,
      epoch,
      sequence,
      index,
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
    const { kind, firstSequence: sequence, wallUs: receivedUs } = header;
    if (kind === KIND_SUMMARY)
      return [
        this.setAside(header, { ...NO_MESSAGE, sequence, receivedUs, payload: frame }, reason),
      ];
    return readRecords(frame, header)
      .filter(({ sequence }) => isFresh(sequence))
      .map((message) => this.setAside(header, message, reason));
  }

  private summary(job: FrameJob): Produced[] {
    const { header, arrivedMs, replay } = job;
    const { readings, removed, count } = summaryChanges(job, this.mappings);
    replay?.onDecoded(header.firstSequence, count, false);
    // All of one identity in one record: a store may take what comes later under it for a correction.
    const isNothing = readings.length + removed.length === 0;
    return isNothing ? [] : [this.record(header, arrivedMs, readings, headersOf(job), removed)];
  }
}

/** In the place of one that is not known. */
const NO_MESSAGE = {
  ...{ client: '', topic: '', qos: 0, retain: false, dup: false },
  properties: undefined,
};

const hasFields = ({ fields }: Reading): boolean => {
  for (const _name in fields) return true;
  return false;
};

/** A fault of our own stands for one message: the others go on, and the item says whose fault it is. */
const asReason = (error: unknown): string =>
  error instanceof Undecodable
    ? error.message
    : `a fault of Headwater's, please report it with this payload: ${messageOf(error)}`;
