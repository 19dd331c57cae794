/**
 * The idempotent producer, with acks=all (KIP-98): what is appended outside of a step goes by it. One whose place
 * librdkafka has lost is replaced by another.
 */
import { HeadwaterError, messageOf } from '../../shared/errors.ts';
import type { Notify } from '../../shared/telemetry/log.ts';
import { MESSAGE_BYTES_MAX, headersOut, unavailable, type Client } from './kafka-client.ts';
import type { KafkaHealth } from './kafka-health.ts';
import type * as RdKafka from './rdkafka-types.ts';

export interface WriterParts {
  kafka: Client;
  /** Of every client. */
  settings: () => Record<string, unknown>;
  /** Throws LOG_UNAVAILABLE. */
  connect: (client: RdKafka.Connection) => Promise<void>;
  health: KafkaHealth;
  notify: Notify;
  /** Most that is sent to a partition at once. */
  batchBytes: () => number;
}

/** `topic` with its prefix; without a value the key of a compacted topic is removed. */
export interface Outgoing {
  topic: string;
  partition: number;
  key: string;
  value: Buffer | null;
  headers: Record<string, string>;
}

const ALL_BROKERS_DOWN = -187;
/** librdkafka's producer has lost its place for good. */
const FATAL = -150;
const AGAIN_MS = 1000;
const FLUSH_MS = 5000;

export class KafkaWriter {
  /** Undefined while there is none that works. */
  producer: RdKafka.Producer | undefined;
  private readonly parts: WriterParts;
  /** Told of its delivery, by the token that a record was sent with. */
  private readonly waiting = new Map<number, (error: unknown) => void>();
  private nextToken = 1;
  private batchBytes = Number.POSITIVE_INFINITY;
  private isClosed = false;

  constructor(parts: WriterParts) {
    this.parts = parts;
  }

  /** Whether librdkafka takes the settings, before anybody is asked for anything. Throws CONFIG_INVALID. */
  check(): void {
    this.producerOf(this.producerSettings(this.parts.batchBytes()));
  }

  /** Throws CONFIG_INVALID, LOG_UNAVAILABLE. */
  async open(): Promise<void> {
    this.producer = await this.connectProducer();
  }

  /** Throws LOG_UNAVAILABLE. */
  get present(): RdKafka.Producer {
    if (this.producer === undefined)
      throw new HeadwaterError('LOG_UNAVAILABLE', 'Kafka is not connected');
    return this.producer;
  }

  /** Another producer where topics take less than what this one sends at once. Throws LOG_UNAVAILABLE. */
  async fitBatch(): Promise<void> {
    const { producer: before } = this;
    if (before === undefined || this.parts.batchBytes() >= this.batchBytes) return;
    const producer = await this.connectProducer();
    if (this.isClosed || this.producer !== before) return void producer.disconnect();
    this.producer = producer;
    // What it was given goes first: a record that is refused comes back to its sender.
    await new Promise<void>((resolve) => before.flush(FLUSH_MS, () => resolve()));
    before.disconnect();
  }

  private async connectProducer(): Promise<RdKafka.Producer> {
    const batchBytes = (this.batchBytes = this.parts.batchBytes());
    const producer = this.producerOf(this.producerSettings(batchBytes));
    producer.setPollInterval(5);
    producer.on('event.error', (error) => this.note(producer, error));
    producer.on('delivery-report', (error, report) => {
      const token = report.opaque as number;
      const done = this.waiting.get(token);
      this.waiting.delete(token);
      done?.(error);
    });
    await this.parts.connect(producer);
    return producer;
  }

  private producerSettings(batchBytes: number): Record<string, unknown> {
    return {
      ...this.parts.settings(),
      'enable.idempotence': true,
      acks: -1,
      'linger.ms': 0,
      'message.max.bytes': MESSAGE_BYTES_MAX,
      'batch.size': batchBytes,
      'queue.buffering.max.kbytes': 128 * 1024,
      // Not acknowledged for so long: the caller decides, and the gateway still has it.
      'delivery.timeout.ms': 30_000,
      dr_cb: true,
    };
  }

  /** The first client that is made: librdkafka looks at its settings then. Throws CONFIG_INVALID. */
  private producerOf(settings: Record<string, unknown>): RdKafka.Producer {
    try {
      return new this.parts.kafka.Producer(settings, {});
    } catch (error) {
      throw new HeadwaterError('CONFIG_INVALID', `kafka.client: ${messageOf(error)}`, {
        cause: error,
      });
    }
  }

  /** librdkafka speaks of its connections. */
  private note(producer: RdKafka.Producer, error: RdKafka.KafkaError): void {
    const { health } = this.parts;
    if (error.code === ALL_BROKERS_DOWN) void health.down(error.message);
    else health.trouble = error.message;
    if (error.code === FATAL && producer === this.producer) void this.replace(error.message);
  }

  private async replace(why: string): Promise<void> {
    const { notify, health } = this.parts;
    const before = this.producer;
    this.producer = undefined;
    notify({ level: 'warn', event: 'log_producer', text: `Kafka: ${why}: connecting anew` });
    before?.disconnect();
    while (!this.isClosed && this.producer === undefined) {
      try {
        const producer = await this.connectProducer();
        if (this.isClosed) producer.disconnect();
        else this.producer = producer;
      } catch (error) {
        health.mark(messageOf(error));
        await new Promise((resolve) => setTimeout(resolve, AGAIN_MS));
      }
    }
  }

  /** Resolves when Kafka has acknowledged it. Throws LOG_UNAVAILABLE. */
  send({ topic, partition, key, value, headers }: Outgoing): Promise<void> {
    return new Promise((resolve, reject) => {
      const producer = this.present;
      const token = this.nextToken++;
      this.waiting.set(token, (error) => {
        if (error === null || error === undefined) resolve();
        else reject(unavailable(`writing to ${topic}`, error));
      });
      try {
        producer.produce(topic, partition, value, key, null, token, headersOut(headers));
      } catch (error) {
        this.waiting.delete(token);
        reject(unavailable(`writing to ${topic}`, error));
      }
    });
  }

  async close(): Promise<void> {
    this.isClosed = true;
    const { producer } = this;
    this.producer = undefined;
    if (producer === undefined) return;
    await new Promise<void>((resolve) => producer.flush(FLUSH_MS, () => resolve()));
    await new Promise<void>((resolve) => producer.disconnect(() => resolve()));
  }
}
