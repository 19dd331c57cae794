/**
 * What a partition of a zone's topic has given and the lake has not yet: records are gathered until there are enough or
 * they have waited long enough.
 */
import {
  TOPIC_RAW,
  TOPIC_READINGS,
  TOPIC_RESULTS,
  TOPIC_STATE,
  type Log,
  type StoredRecord,
} from '../log/log.ts';
import { fileOf, type Zone } from './layout.ts';

/** In the topic `state`: `lake/ZONE/PARTITION`. */
export const LAKE_PREFIX = 'lake/';

export const TOPIC_OF: Record<Zone, string> = {
  raw: TOPIC_RAW,
  readings: TOPIC_READINGS,
  results: TOPIC_RESULTS,
};

/** What the state topic says of a partition. */
export interface LakeState {
  /** With the partition the writer: whose files and manifests these are. */
  log: string;
  /** Of the next files; their names are made of it. */
  step: number;
  /** Everything before it is in the lake. */
  next: number;
  /** Where the writer began: from there on its rows are what the log had. */
  begins: number;
  /**
   * The log was an older copy than the lake when this writer began: records before it another one took, and what the lake has of
   * them may be newer than what the log says.
   */
  beside?: number;
  /** The log was damaged and had lost some of what it gave, when this step was the next: what files of steps before it had, it may lack. */
  holed?: number;
  /** Files of this step, and what they replace, are being written, of these dates. */
  writing?: string[];
  /** What these files are (`markOf`): others under their names are damaged, or of an attempt before it. */
  made?: string[];
  /** Being merged into this key: these are to be deleted once it is there. */
  merge?: { into: string; from: string[] };
  /** Digest of the writer's root manifest, when nothing is being written or merged. */
  seal?: string;
  /** Of raw: what an earlier writer's files have from this step on, the log is to be told again (`LakeCheck.ahead`). */
  ahead?: { log: string; from: number };
}

/** As versions before 0.2 wrote it: files were named by offsets, and there were no manifests. */
interface OldState {
  log: string;
  next: number;
  to?: number;
}

export interface Part {
  state: LakeState;
  /** Files of an attempt of an older version, if there may be some. */
  attempt?: { log: string; from: number };
  /** What the lake has is known; it is looked at before the first step. */
  isReady: boolean;
  /** Nothing was known of the partition: the log is new, or has lost what it knew. */
  isNew: boolean;
  records: StoredRecord[];
  bytes: number;
  /** Monotonic milliseconds of the oldest record. */
  since: number;
  /** Folders written to since the last merge. */
  touched: Set<string>;
  /** Folders of results that may have what comes now; '' for all. */
  suspects: Set<string>;
}

const emptyPart = (state: LakeState): Part => ({
  state,
  isReady: false,
  isNew: false,
  records: [],
  bytes: 0,
  since: 0,
  touched: new Set(),
  suspects: new Set(),
});

/** A partition as its state says, or one that nothing is known of. `id`: for a writer that begins. */
export function partOf(value: Buffer | undefined, id: () => string): Part {
  if (value === undefined)
    return {
      ...emptyPart({ log: id(), step: 1, next: 0, begins: 0 }),
      isNew: true,
      suspects: new Set(['']),
    };
  const state = JSON.parse(value.toString('utf8')) as LakeState | OldState;
  if ('step' in state) return emptyPart(state);
  const { log, next, to } = state;
  const part = emptyPart({ log: id(), step: 1, next, begins: next });
  return to === undefined ? part : { ...part, attempt: { log, from: next } };
}

/** Offset after the last record that was gathered. */
export const endOf = (records: readonly StoredRecord[]): number =>
  (records.at(-1)?.offset ?? -1) + 1;

/** Takes a record in, unless it is here already: it is tried again after a failure. */
export function take(part: Part, record: StoredRecord, now: number): void {
  if (record.offset <= (part.records.at(-1)?.offset ?? -1)) return;
  if (part.records.length === 0) part.since = now;
  part.records.push(record);
  part.bytes += record.value.length;
}

/** Whether what was gathered is enough, or has waited long enough. */
export function isDue(
  parts: Iterable<Part>,
  now: number,
  { flushMs, flushBytes }: { flushMs: number; flushBytes: number },
): boolean {
  let bytes = 0;
  let oldest = now;
  for (const part of parts) {
    if (part.records.length === 0) continue;
    bytes += part.bytes;
    oldest = Math.min(oldest, part.since);
  }
  return bytes >= flushBytes || now - oldest >= flushMs;
}

/** What the log has of the stage of a zone; with `log` '' where it has nothing. */
export async function stateOf(log: Log, zone: Zone, partition: number): Promise<LakeState> {
  const name = `${LAKE_PREFIX}${zone}/${partition}`;
  const states = await log.state(TOPIC_STATE, partition, name);
  return partOf(states.find((each) => each.key === name)?.value, () => '').state;
}

/** Whether the log still has every record that the writer of this file was given. */
export async function isAllInLog(log: Log, zone: Zone, key: string): Promise<boolean> {
  const { log: writer, partition = 0, from: step = 0 } = fileOf(key) ?? {};
  const state = await stateOf(log, zone, partition);
  const first = await log.first?.(TOPIC_OF[zone], partition);
  const from = state.beside ?? state.begins;
  if (writer !== state.log || step < (state.holed ?? 0)) return false;
  return first !== undefined && first <= from;
}
