/**
 * The Log contract: topics of records between the stages. Its suite is `suite/log.ts`.
 *
 * - `append` resolves when the records are on stable storage. Records of one key keep their order.
 * - A consumer's step is atomic: what it produces and how far it has read are committed together or not at all. So each
 *   stage reads, produces and moves on once in effect, through any restart. A log that cannot says so
 *   (`supports.atomicStep`): see `decisions/0009`.
 * - A partition is read by one consumer of a group at a time, and one that was replaced cannot commit (LOG_FENCED).
 * - A compacted topic keeps the last value of each key; an empty value removes the key.
 * - Positions are numbers that grow within a partition: the first may be any, and there may be gaps. No stage counts with
 *   them. Partitions are the log's affair: a key stays in the partition that was first chosen for it.
 */
import type { AdapterContext } from './context.ts';
import type { OptionsSpec } from './options.ts';

export const LOG_CONTRACT_VERSION = 2;

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
  /** Sees every partition and commits nothing: no member of the group, which leaves nothing behind. 'end' means it. */
  watches?: boolean;
  /**
   * A partition is now this consumer's, and its group has committed this offset in it (undefined: none). May return
   * the offset to go on from, when the consumer keeps its own progress elsewhere; undefined: the committed one. One that
   * watches from the start is asked as well, and may begin later; a log that cannot begins at the start.
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

export interface Health {
  up: boolean;
  /** Of the present state, epoch milliseconds. */
  sinceMs: number;
  /** Why it is not up; '' while it is. */
  reason: string;
}

/** A topic as the log has to keep it; an adapter knows none by name. */
export interface TopicSpec {
  name: string;
  /** Keeps the last value of each key instead of a history. */
  compacted: boolean;
  /** May be dropped so long after it was written, milliseconds; undefined: only by `trimBytes`. */
  retentionMs?: number;
  /** May be cut at the front once every group has read it, but for so many bytes; undefined: never. */
  trimBytes?: number;
  /**
   * A record that is larger than the topic takes, as ones that are not, of other topics too: for a log whose topics may be
   * set to take less than `supports.recordBytesMax`. `bytesMax`: of key, value and headers as JSON. Throws LOG_TOO_LARGE.
   */
  split?: (record: Produced, bytesMax: number) => Produced[];
  /** Nobody reads its past, consumers begin at its end: it may be cut whether a group has read it or not. */
  live?: boolean;
}

/** What an adapter can do; the suite reads it and skips the rest with a reason. */
export interface LogSupports {
  /** A step's output, state and offsets are committed as one. */
  atomicStep: boolean;
  /** Several partitions, shared between the members of a group. */
  partitions: boolean;
  /** Several processes at once; else the log is one process's own. */
  processes: boolean;
  /** Largest record that it takes, bytes of key, value and headers together. */
  recordBytesMax: number;
}

export interface LogContext<O extends OptionsSpec = OptionsSpec> extends AdapterContext<O> {
  /** Everything that it keeps lies under this name: two logs of different namespaces share nothing. */
  namespace: string;
  topics: readonly TopicSpec[];
  /** Partitions of topics that are made now; what is there keeps its own. */
  partitions: number;
  /** Groups that read no more: what they have not read may be cut. */
  retired: readonly string[];
}

/** Who has something in a log that may be lost with it. */
export type LosesIt = 'ledger' | 'lake' | 'settings';

export interface Log {
  readonly kind: string;
  /** Partitions of every topic, as keys are spread over them. */
  readonly partitions: number;
  open(): Promise<void>;
  append(topic: string, records: LogRecord[]): Promise<void>;
  consumer(options: ConsumerOptions): Promise<LogConsumer>;
  /** Last values of a compacted topic's partition. */
  state(topic: string, partition: number, keyPrefix: string): Promise<LogRecord[]>;
  /**
   * Last values of a compacted topic, and from then on every change, until it is closed; an empty value is a removal.
   * Resolves once everything that was in it before the call has been handed on. Throws LOG_UNAVAILABLE.
   */
  watch(topic: string, onRecords: (records: LogRecord[]) => void): Promise<Watch>;
  groups(): GroupStats[];
  /** Nothing waits any longer for this group, and it begins anew if it ever comes back. It has no members. */
  forget(group: string): Promise<void>;
  /** Whether it can be read and written now, as far as it knows without asking. */
  health(): Health;
  /**
   * Offset of the oldest record that a partition still has, or of the next one where it has none. Left out by a log that
   * cannot tell: nobody knows then what a reader finds no more. Throws LOG_UNAVAILABLE.
   */
  first?(topic: string, partition: number): Promise<number>;
  /**
   * Offset that the next record of a partition has at least. Left out by a log that cannot tell. One that has it lets a watcher's
   * `onAssign` say where it begins, with `committed` undefined. Throws LOG_UNAVAILABLE.
   */
  next?(topic: string, partition: number): Promise<number>;
  /** What a group has committed in a topic, by partition; without joining it. Throws LOG_UNAVAILABLE. */
  committedBy?(group: string, topic: string): Promise<Map<number, number>>;
  /** Names of all groups that the log has, those that nobody is a member of included. Throws LOG_UNAVAILABLE. */
  groupNames?(): Promise<string[]>;
  /** Sentences about what does not hold as configured, for start-up and `doctor`. */
  warnings(): string[];
  /**
   * Whether damage was found when it was opened, now or in an earlier process, that this one has not made up for: records of any
   * topic may be gone, and what stages keep in it as well. Left out where that cannot be, or cannot be known.
   */
  hasLost?(of: LosesIt): boolean;
  /** It has made up for what it could: `hasLost` says no from now on. */
  madeUp?(of: LosesIt): Promise<void>;
  close(): Promise<void>;
}
