/**
 * Readings that come to the collector itself by HTTP. The collector is then a gateway of its own name: messages that
 * arrive together become one frame, with an epoch of this process and sequences, appended to the raw log; the answer is
 * sent when the log has it on stable storage. From there on they are like all others.
 */
import type { Identity } from '../../shared/access/tokens.ts';
import { maySee } from '../../shared/access/tokens.ts';
import type { Env } from '../../shared/env/env.ts';
import { HeadwaterError, messageOf } from '../../shared/errors.ts';
import { FrameBuilder } from '../../shared/frame/builder.ts';
import { CLOCK_ASSUMED } from '../../shared/frame/frame.ts';
import type { HttpMessage, IngestSink } from '../../shared/http/ingest.ts';
import { TOPIC_RAW, type Log, type LogRecord } from '../log/log.ts';

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
  ) {
    this.env = env;
    this.log = log;
    this.gateway = gateway;
    this.bodyBytesMax = bodyBytesMax;
    this.refuse = refuse;
    this.epoch = env.random.bytes(8);
  }

  mayPublish(identity: Identity): boolean {
    return maySee(identity, this.gateway);
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
        for (const { failed } of group) failed(error);
      }
    }
    this.writing = false;
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
    const value = builder.finish(identity, this.nextSequence, CLOCK_ASSUMED, true);
    this.nextSequence += group.length;
    const headers = { arrived: String(Math.round(wallUs / 1000)), lane: '0' };
    return { key: this.gateway, headers, value };
  }

  /** The same frame until the log has it: its sequences are given, and what comes twice is taken once. */
  private async append(record: LogRecord): Promise<void> {
    for (let attempt = 1; ; attempt++) {
      try {
        await this.log.append(TOPIC_RAW, [record]);
        return;
      } catch (error) {
        if (attempt >= TRIES)
          throw new HeadwaterError('LOG_UNAVAILABLE', messageOf(error), { cause: error });
        await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
      }
    }
  }
}
