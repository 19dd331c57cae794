/**
 * Readings that come to the collector itself by HTTP. The collector is then a gateway of its own name: messages that
 * arrive together become one frame, with an epoch of this process and sequences, appended to the raw log; the answer is
 * sent when the log has it on stable storage. From there on they are like all others.
 */
import type { Env } from '../../shared/env/env.ts';
import { HeadwaterError, hasCode, messageOf } from '../../shared/errors.ts';
import { FrameBuilder } from '../../shared/frame/builder.ts';
import {
  CLOCK_ASSUMED,
  CLOCK_SYNCHRONISED,
  CLOCK_UNKNOWN,
  KIND_ANCHOR,
  readHeader,
} from '../../shared/frame/frame.ts';
import { noteFrame } from '../../shared/frame/notes.ts';
import type { HttpMessage, IngestSink } from '../../shared/http/ingest.ts';
import { TOPIC_RAW, type Log, type LogRecord } from '../log/log.ts';
import { HEADER_UNSETTLED } from '../log/topics.ts';
import type { CollectorClock } from './clock.ts';

interface Waiting {
  message: HttpMessage;
  done: () => void;
  failed: (error: unknown) => void;
}

/** Payload bytes of one frame, before compression. */
const FRAME_BYTES_MAX = 2 * 1024 * 1024;
/** Waiting for the log; beyond it senders are told to try again. */
const WAITING_BYTES_MAX = 32 * 1024 * 1024;
const TRIES = 20;
const RETRY_MS = 500;

export class LogSink implements IngestSink {
  readonly bodyBytesMax: number;
  acceptedMessages = 0;
  private readonly env: Env;
  private readonly log: Log;
  private readonly gateway: string;
  private readonly refuse: () => string | undefined;
  private readonly clock: CollectorClock;
  private readonly epoch: Buffer;
  private nextSequence = 1;
  private queue: Waiting[] = [];
  private queuedBytes = 0;
  private writing = false;

  constructor(
    env: Env,
    log: Log,
    gateway: string,
    bodyBytesMax: number,
    refuse: () => string | undefined,
    clock: CollectorClock,
  ) {
    this.clock = clock;
    clock.onChange(() => this.tellTime());
    this.env = env;
    this.log = log;
    this.gateway = gateway;
    this.bodyBytesMax = bodyBytesMax;
    this.refuse = refuse;
    this.epoch = env.random.bytes(8);
  }

  /** Every topic: whether somebody may write here at all was asked before. */
  mayPublish(): boolean {
    return true;
  }

  accept(message: HttpMessage): Promise<void> {
    const why = this.refuse();
    if (why !== undefined) return Promise.reject(new HeadwaterError('LOG_UNAVAILABLE', why));
    if (this.queuedBytes > WAITING_BYTES_MAX)
      return Promise.reject(
        new HeadwaterError(
          'LOG_UNAVAILABLE',
          'more is arriving than the log takes: try again in a moment',
        ),
      );
    return new Promise((resolve, reject) => {
      this.queue.push({ message, done: resolve, failed: reject });
      this.queuedBytes += message.payload.length;
      if (!this.writing) void this.drain();
    });
  }

  private async drain(): Promise<void> {
    this.writing = true;
    // What arrives in the same turn of the event loop goes together.
    await new Promise((resolve) => setImmediate(resolve));
    while (this.queue.length > 0) {
      const group: Waiting[] = [];
      for (let bytes = 0; bytes < FRAME_BYTES_MAX; ) {
        const next = this.queue.shift();
        if (next === undefined) break;
        group.push(next);
        bytes += next.message.payload.length;
      }
      for (const { message } of group) this.queuedBytes -= message.payload.length;
      try {
        await this.append(this.record(group));
        this.acceptedMessages += group.length;
        for (const { done } of group) done();
      } catch (error) {
        // Of one that is too large alone nothing was written: the others go without it.
        if (group.length > 1 && hasCode(error, 'LOG_TOO_LARGE')) await this.appendEach(group);
        else for (const { failed } of group) failed(error);
      }
    }
    this.writing = false;
  }

  private async appendEach(group: readonly Waiting[]): Promise<void> {
    for (const each of group) {
      try {
        await this.append(this.record([each]));
        this.acceptedMessages++;
        each.done();
      } catch (error) {
        each.failed(error);
      }
    }
  }

  private record(group: Waiting[]): LogRecord {
    const builder = new FrameBuilder();
    const { clock, bootId } = this.env;
    const [wallUs, monotonicUs] = [clock.wallUs(), clock.monotonicUs()];
    for (const { message } of group) {
      const { properties, ...rest } = message;
      builder.add(
        {
          ...rest,
          qos: 1,
          retain: false,
          dup: false,
          ...(properties === undefined ? {} : { properties }),
        },
        wallUs,
        monotonicUs,
      );
    }
    const identity = { gateway: this.gateway, epoch: this.epoch, bootId };
    const value = builder.finish(identity, this.nextSequence, this.quality(), true);
    this.nextSequence += group.length;
    return { key: this.gateway, headers: this.headers(), value };
  }

  private quality(): number {
    if (this.clock.doubt !== undefined) return CLOCK_UNKNOWN;
    return this.clock.isSettled ? CLOCK_ASSUMED : CLOCK_SYNCHRONISED;
  }

  private headers(): Record<string, string> {
    const headers = { arrived: String(Math.round(this.clock.nowMs())), lane: '0' };
    return this.clock.isSettled ? headers : { ...headers, [HEADER_UNSETTLED]: 'true' };
  }

  /** The clock is known now, or better than it was: what was received before is placed by an anchor, as a gateway's is. */
  private tellTime(): void {
    if (this.nextSequence === 1 || this.clock.doubt !== undefined) return;
    const { clock, bootId } = this.env;
    const [wallUs, monotonicUs] = [clock.wallUs(), clock.monotonicUs()];
    const identity = { gateway: this.gateway, epoch: this.epoch, bootId };
    const boot = bootId.toString('hex');
    const anchor = { boot, monotonicUs, wallUs, errorUs: 1000, basis: 'own clock' as const };
    const stamp = { wallUs, monotonicUs, clockQuality: this.quality() };
    const value = noteFrame(KIND_ANCHOR, anchor, identity, this.nextSequence++, stamp);
    const record = { key: this.gateway, headers: this.headers(), value };
    // What is not told now is told with the next step; the log says for itself why it takes nothing.
    void this.append(record).catch(() => undefined);
  }

  /** The same frame until the log has it: its sequences are given, and what comes twice is taken once. */
  private async append(record: LogRecord): Promise<void> {
    for (let attempt = 1; ; attempt++) {
      try {
        await this.log.append(TOPIC_RAW, [record]);
        return;
      } catch (error) {
        if (hasCode(error, 'LOG_TOO_LARGE')) {
          const { firstSequence, count } = readHeader(record.value);
          // Its sequences are not in the log: what comes next may have them.
          if (this.nextSequence === firstSequence + count) this.nextSequence = firstSequence;
          throw error;
        }
        if (attempt >= TRIES)
          throw new HeadwaterError('LOG_UNAVAILABLE', messageOf(error), { cause: error });
        await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
      }
    }
  }
}
