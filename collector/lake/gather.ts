/**
 * What a partition of a zone's topic has given and the lake has not yet: records are gathered until there are enough or
 * they have waited long enough, and what was announced before a crash exactly as it was announced.
 */
import type { StoredRecord } from '../log/log.ts';

/** What the state topic says of a partition. */
export interface LakeState {
  log: string;
  /** Everything before it is in the lake. */
  next: number;
  /** Announced: files with the offsets up to and without this one are being written. */
  to?: number;
  /**
   * The lake has rows of a log that is no more: what comes in may be among them (a gateway sends again what a log lacks),
   * and replaces them.
   */
  foreign?: boolean;
  /** Being merged into this key: these are to be deleted once it is there. */
  merge?: { into: string; from: string[] };
}

export interface Part {
  state: LakeState;
  records: StoredRecord[];
  bytes: number;
  /** Monotonic milliseconds of the oldest record. */
  since: number;
  /** Folders written to since the last merge. */
  touched: Set<string>;
}

export const freshPart = (state: LakeState): Part => ({
  state,
  records: [],
  bytes: 0,
  since: 0,
  touched: new Set(),
});

/** Offset after the last record that was gathered. */
export const endOf = (records: readonly StoredRecord[]): number =>
  (records.at(-1)?.offset ?? -1) + 1;

/** There is something to write; what was announced before a crash is written exactly so, once all of it is here again. */
export function isWhole({ records, state }: Part): boolean {
  return records.length > 0 && (state.to === undefined || endOf(records) >= state.to);
}

/** Takes a record in, unless it is here already: it is tried again after a failure. */
export function take(part: Part, record: StoredRecord, now: number): void {
  if (record.offset <= (part.records.at(-1)?.offset ?? -1)) return;
  if (part.records.length === 0) part.since = now;
  part.records.push(record);
  part.bytes += record.value.length;
}

/** Whether those that are whole are enough, or have waited long enough. */
export function isDue(
  parts: Iterable<Part>,
  now: number,
  { flushMs, flushBytes }: { flushMs: number; flushBytes: number },
): boolean {
  let bytes = 0;
  let oldest = now;
  for (const part of parts) {
    if (!isWhole(part)) continue;
    bytes += part.bytes;
    oldest = Math.min(oldest, part.since);
  }
  return bytes >= flushBytes || now - oldest >= flushMs;
}
