/**
 * What we use of node-rdkafka 3.6, typed here, because the package is in no install of the workspace: it compiles
 * natively and has a lock of its own. `test/integration/kafka-types.test.ts` compares these names with the package.
 */
export interface KafkaError {
  code: number;
  message: string;
}

export interface Header {
  [key: string]: string | Buffer;
}

export interface Message {
  value: Buffer | null;
  key?: Buffer | string | null;
  topic: string;
  partition: number;
  offset: number;
  headers?: Header[];
}

export interface TopicPartition {
  topic: string;
  partition: number;
}

export interface TopicPartitionOffset extends TopicPartition {
  offset: number;
}

export interface Metadata {
  brokers: { id: number; host: string; port: number }[];
  topics: { name: string; partitions: { id: number; replicas: number[] }[] }[];
}

export interface Watermarks {
  lowOffset: number;
  highOffset: number;
}

type Done<T> = (error: KafkaError | null, value: T) => void;

export interface Connection {
  connect(options: { timeout: number }, done: Done<unknown>): unknown;
  disconnect(done?: () => void): unknown;
  isConnected(): boolean;
  setOauthBearerToken(token: string): unknown;
  getMetadata(options: { timeout: number }, done: Done<Metadata>): unknown;
  queryWatermarkOffsets(
    topic: string,
    partition: number,
    timeoutMs: number,
    done: Done<Watermarks>,
  ): unknown;
  on(event: 'event.error', listener: (error: KafkaError) => void): unknown;
  on(
    event: 'delivery-report',
    listener: (error: KafkaError | null, report: { opaque?: unknown }) => void,
  ): unknown;
  on(event: 'partition.eof', listener: (at: TopicPartitionOffset) => void): unknown;
}

export interface Producer extends Connection {
  setPollInterval(ms: number): unknown;
  poll(): unknown;
  produce(
    topic: string,
    partition: number,
    value: Buffer | null,
    key: string,
    timestamp: null,
    opaque: unknown,
    headers: Header[],
  ): unknown;
  flush(timeoutMs: number, done: () => void): unknown;
  initTransactions(timeoutMs: number, done: Done<void>): void;
  beginTransaction(done: Done<void>): void;
  commitTransaction(timeoutMs: number, done: Done<void>): void;
  abortTransaction(timeoutMs: number, done: Done<void>): void;
  sendOffsetsToTransaction(
    offsets: TopicPartitionOffset[],
    consumer: KafkaConsumer,
    timeoutMs: number,
    done: Done<void>,
  ): void;
}

export interface KafkaConsumer extends Connection {
  assign(partitions: (TopicPartition | TopicPartitionOffset)[]): unknown;
  unassign(): unknown;
  subscribe(topics: string[]): unknown;
  setDefaultConsumeTimeout(ms: number): void;
  consume(count: number, done: Done<Message[]>): void;
  committed(
    partitions: TopicPartition[],
    timeoutMs: number,
    done: Done<TopicPartitionOffset[]>,
  ): void;
  commitSync(offsets: TopicPartitionOffset[]): unknown;
  getWatermarkOffsets(topic: string, partition: number): Watermarks;
}

export interface AdminClient {
  createTopic(
    topic: {
      topic: string;
      num_partitions: number;
      replication_factor: number;
      config: Record<string, string>;
    },
    timeoutMs: number,
    done: (error?: KafkaError | null) => void,
  ): void;
  createPartitions(
    topic: string,
    total: number,
    timeoutMs: number,
    done: (error?: KafkaError | null) => void,
  ): void;
  disconnect(): void;
}

type Settings = Record<string, unknown>;

export interface KafkaClient {
  Producer: new (settings: Settings, topicSettings: Settings) => Producer;
  KafkaConsumer: new (settings: Settings, topicSettings: Settings) => KafkaConsumer;
  AdminClient: { create(settings: Settings, token?: string): AdminClient };
  CODES: { ERRORS: Record<string, number> };
}
