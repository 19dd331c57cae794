/**
 * The Log contract: topics of records between the stages. Its suite is `test/contract/log.ts`.
 *
 * - `append` resolves when the records are on stable storage (embedded: after fsync; Kafka: acks=all, see its adapter).
 * - A consumer's step is atomic: what it produces and how far it has read are committed together or not at all.
 *   So each stage reads, produces and moves on once in effect, through any restart.
 * - Records of one key keep their order. A partition is read by one consumer of a group at a time.
 * - A compacted topic keeps the last value of each key.
 */
export const TOPIC_RAW = 'raw';
export const TOPIC_READINGS = 'readings';
export const TOPIC_QUARANTINE = 'quarantine';
export const TOPIC_LEDGER = 'ledger';
/** What streams and batches made of readings, in the same form as readings. */
export const TOPIC_RESULTS = 'results';
/** Readings again, keyed by what a stream rule groups by: where one gateway's partition is not enough. */
export const TOPIC_STREAM = 'stream';
/** State of stages: theirs alone, each keeps its own keys. */
export const TOPIC_STATE = 'state';
/** Messages for devices, to be published by their gateway; whoever is not connected does not get them. */
export const TOPIC_COMMANDS = 'commands';

/** Header of readings and results that were said before, and are said again by a replay or a rebuild. */
export const HEADER_AGAIN = 'again';
/** Header of raw frames that were put back into the log from the lake. */
export const HEADER_FROM_LAKE = 'from-lake';

export const LOG_CONTRACT_VERSION = 1;

/** Topics that keep the last value of each key instead of a history. */
export const COMPACTED: ReadonlySet<string> = new Set([TOPIC_LEDGER, TOPIC_STATE]);

export interface LogRecord {
  key: string;
  value: Buffer;
  headers: Record<string, string>;
}

export interface StoredRecord extends LogRecord {
  partition: number;
  offset: number;
}

export interface Produced extends LogRecord {
  topic: string;
  /** Left out: chosen by the key. A state record names the partition that it belongs to. */
  partition?: number;
}

export interface Step {
  produce: Produced[];
  /** Partition of the consumed topic → offset of the next record to read. */
  offsets: Map<number, number>;
}

export interface ConsumerOptions {
  group: string;
  topic: string;
  /** Where a group without committed offsets begins. 'end' is for watchers, which commit nothing. */
  from: 'start' | 'end';
  /**
   * A partition is now this consumer's, and its group has committed this offset in it (undefined: none). May return
   * the offset to go on from, when the consumer keeps its own progress elsewhere; undefined: the committed one.
   */
  onAssign?: (partition: number, committed: number | undefined) => Promise<number | undefined>;
  onRevoke?: (partition: number) => void;
  /** Largest sum of values that one poll returns, bytes; a larger record comes alone. */
  bytesMax: number;
}

export interface LogConsumer {
  /** Records in order, of assigned partitions; [] after `waitMs` without any. Throws LOG_UNAVAILABLE. */
  poll(waitMs: number): Promise<StoredRecord[]>;
  /**
   * Commits atomically. After LOG_FENCED or LOG_UNAVAILABLE nothing of it is visible, and the next poll goes on from
   * what was committed before: the caller forgets the state that it had built on it.
   */
  commit(step: Step): Promise<void>;
  /** Partitions of this consumer of which everything that was in the log has been returned, when it last looked. */
  ended(): ReadonlySet<number>;
  close(): Promise<void>;
}

export interface Watch {
  close(): Promise<void>;
}

export interface GroupStats {
  group: string;
  topic: string;
  /** Null: not known, as while a member of a group on Kafka waits for its part. */
  lagRecords: number | null;
}

export interface Log {
  readonly kind: string;
  /** Partitions of every topic. */
  readonly partitions: number;
  open(): Promise<void>;
  append(topic: string, records: LogRecord[]): Promise<void>;
  consumer(options: ConsumerOptions): Promise<LogConsumer>;
  /** Last values of a compacted topic's partition. */
  state(topic: string, partition: number, keyPrefix: string): Promise<LogRecord[]>;
  /** Last values of a compacted topic, and from then on every change, until it is closed; an empty value is a removal. */
  watch(topic: string, onRecords: (records: LogRecord[]) => void): Promise<Watch>;
  groups(): GroupStats[];
  /** Sentences about what does not hold as configured, for start-up and `doctor`. */
  warnings(): string[];
  close(): Promise<void>;
}
