/**
 * What the lake asks of whoever writes and reads its files: which rows they have, and no more than that. What a file is
 * called, whether it is whole and what must be there is the lake's own. Ours are `parquet.ts` and `parquet-read.ts`; the
 * simulation has one that needs no native code.
 *
 * A file is made beside the lake, and whoever asked for it puts it there or discards it. What cannot be done now, for want
 * of disk or memory, throws LAKE_UNAVAILABLE and leaves no file behind.
 */
import { messageOf } from '../../shared/errors.ts';
import type { Reading } from '../../shared/model/reading.ts';
import type { RowRange } from './groups.ts';
import type { Zone } from './layout.ts';
import type { Spans } from './manifest.ts';
import type { Facts } from './parquet-facts.ts';
import type { Replacing } from './parquet-past.ts';
import type { PlainRecords } from './parquet-plain.ts';
import type { Dead } from './parquet-rows.ts';
import type { Origin, RawRow, ReadingRow } from './rows.ts';

/** As operating systems and DuckDB say it, of any call. */
const DISK =
  /out of memory|no space|too many open|i\/o error|input\/output error|read-only file system|disk quota|stale file handle/i;

/** It is the disk's trouble or the memory's, and says nothing of the file or the record at hand. */
export const isOfDisk = (error: unknown): boolean => DISK.test(messageOf(error));

export interface MadeFile {
  path: string;
  facts: Facts;
}

export interface WrittenFile extends MadeFile {
  /** YYYY-MM-DD. */
  date: string;
  gateway: string;
}

/** A file without some of its rows. */
export interface Rewritten {
  path: string;
  rewritten: string;
  facts: Facts;
}

/** A row of the zone `raw`, as a file has it. */
export interface StoredFrame {
  frame: Buffer;
  headers: Record<string, string>;
  kind: number;
  epoch: string;
  firstSequence: number;
}

/** What the rows of a step are of. */
export interface Step {
  files: WrittenFile[];
  /** Gateway → sequences. */
  spans: Map<string, Spans>;
  /** Two records say something of the same sequence: one may replace the other. */
  overlaps: boolean;
}

export interface FileEngine {
  open(): Promise<void>;
  /** What is to be known of a file that is there. */
  facts(zone: Zone, path: string): Promise<Facts>;
  /** The sequences that a file of readings has, each for itself. */
  sequences(path: string): Promise<Spans>;
  /** A file with these frames, to be given to the store. */
  writeRaw(rows: readonly RawRow[]): Promise<MadeFile>;
  /**
   * Files of readings or results, one for each date and gateway. `plain` are records of the log that the engine may take
   * apart by itself: see `isPlain`. Undefined: one of them is not what it seemed, and all have to come as rows.
   */
  writeReadings(
    zone: 'readings' | 'results',
    rows: readonly ReadingRow[],
    plain: PlainRecords | undefined,
  ): Promise<Step | undefined>;
  /** Of these files, each that has rows of those that are dead, without them. */
  without(paths: readonly string[], dead: readonly Dead[]): Promise<Rewritten[]>;
  /** What a step replaces, as a file of the past, and until when the last of it was so; undefined: nothing changes. */
  past(what: Replacing): Promise<{ path: string; untilMs: number } | undefined>;
  /** A file with the rows of all of these files of the past. Throws LAKE_UNAVAILABLE when it has not as many. */
  mergePast(paths: readonly string[]): Promise<string>;
  /** Which of these frames are in these files, byte for byte: their places in the list. */
  known(paths: readonly string[], rows: readonly RawRow[]): Promise<Set<number>>;
  /** What can be read of the frames of a file that is damaged. Throws when nothing can. */
  frames(path: string): Promise<StoredFrame[]>;
  /** These rows of a file, as they lie in it: of other row groups nothing is read. */
  part(zone: Zone, path: string, rows: readonly RowRange[]): Promise<MadeFile>;
  /** The rows of a file that none of the others has, as a file. */
  apart(zone: Zone, path: string, others: readonly string[]): Promise<Rewritten>;
  /** A file with the rows of all of them. */
  merge(zone: Zone, paths: readonly string[]): Promise<MadeFile>;
  close(): Promise<void>;
}

/** A frame of the zone `raw`. */
export interface LakeFrame extends StoredFrame {
  gateway: string;
  count: number;
}

/** A row of readings, as a rule needs it. */
export interface LakeReading
  extends Pick<Reading, 'measurement' | 'tags' | 'fields' | 'timeMs' | 'ns'> {
  series: string;
  /** Its identity. */
  id: string;
  /** The record of `readings` that it came with, by the writer that was given it. */
  origin: Origin;
}

/** A result as it is now. */
export interface LakeResult {
  gateway: string;
  epoch: string;
  revision: number;
  reading: Reading;
}

/** Rows of files for those who work on them one by one; SQL over them is `Lake.query`. Throws LAKE_UNAVAILABLE. */
export interface FileRows {
  /** The highest revision; 0: there is none. */
  newestRevision(paths: readonly string[]): Promise<number>;
  /** Numbers of readings of [fromMs, toMs), in any order. */
  readings(paths: readonly string[], fromMs: number, toMs: number): AsyncIterable<LakeReading>;
  /** Whole frames, in the order in which they came. */
  frames(paths: readonly string[]): AsyncIterable<LakeFrame>;
  /** Results in their newest revisions, those of one gateway and epoch after each other. */
  results(paths: readonly string[]): AsyncIterable<LakeResult>;
}
