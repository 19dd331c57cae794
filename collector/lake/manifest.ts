/**
 * What the lake must hold, kept in the lake itself and read by nobody who only wants the rows (`docs/decisions/0011`):
 *
 *   _manifest/ZONE/date=YYYY-MM-DD/WRITER.json   the files of a day that a writer answers for, each with its checksums
 *   _manifest/roots/ZONE/WRITER.json             its days, each with the digest of its files, what of each epoch it has, and
 *                                                days that were being said when it was written; that of `readings` also
 *                                                the files of the past (`past.ts`) that must be there
 *
 * WRITER is LOG-PARTITION as in the files' names. Each object is `{"crc32c":"HHHHHHHH","of":…}`, the checksum of the text
 * after `"of":`. A file of which several writers speak is as the entry with the highest `gen` says. A digest is the sum
 * of its files' digests modulo 2^64: independent of their order, and a day whose manifest is lost proves its files by it.
 */
import { createHash } from 'node:crypto';
import { crc32c } from '../../shared/frame/crc32c.ts';
import { RangeSet, type Range } from '../../shared/model/ranges.ts';
import { current, parseKey, fileOf, type LakeFile, type Zone } from './layout.ts';

export interface Sum {
  bytes: number;
  /** CRC-32C of all bytes, hexadecimal. */
  crc: string;
}

/** A row group: where it begins, how long it is, its rows and its CRC-32C. */
export type GroupSum = [at: number, bytes: number, rows: number, crc: string];

/** Epoch → sequences that the rows may be of; nothing outside of them is there. */
export type Spans = Record<string, Range[]>;

export interface FileEntry extends Sum {
  key: string;
  rows: number;
  groups: GroupSum[];
  spans: Spans;
  /** Of raw: rows that no span is of; not said where there are none, or no others. */
  bare?: number;
  /** Of these status reports of gateways; not said where there are none. */
  reports?: number;
  /** Counts up as the entry changes. */
  gen: number;
  /** It is being replaced: it may be one of these already. */
  or?: Sum[];
  /** It counts no more: all its rows were replaced, or it is lost and set aside until its rows are here again. */
  gone?: 'emptied' | 'damaged' | 'missing';
  /** Of a lost one: why, and since when, epoch milliseconds. */
  reason?: string;
  since?: number;
  /** Of a lost one: no source has all of its rows any more. */
  final?: true;
}

export interface DateSeal {
  files: number;
  rows: number;
  bytes: number;
  digest: string;
  /** Files that are lost: whoever starts has to know without reading every day. Left out when there are none. */
  lost?: number;
}

/** Sequences of an epoch, and the dates between which the files lie that have them. */
export interface EpochSpan {
  ranges: Range[];
  from: string;
  to: string;
}

/** A file of the past that must be there. */
export interface PastEntry {
  key: string;
  bytes: number;
  /** It was merged from these, which count no more. */
  of?: string[];
}

/** In roots of `readings`. */
export interface PastList {
  /** What was replaced before is not kept, epoch milliseconds. */
  sinceMs?: number;
  /** Days before it were deleted on purpose, in all zones, epoch milliseconds. */
  forgottenMs?: number;
  files: PastEntry[];
}

export interface Root {
  zone: Zone;
  writer: string;
  dates: Record<string, DateSeal>;
  /** Gateway → epoch. */
  spans: Record<string, Record<string, EpochSpan>>;
  /** Days being said by a commit that no step of the log answers for: what their manifests have counts, whatever stands here. */
  under?: string[];
  past?: PastList;
}

export interface DateManifest {
  zone: Zone;
  writer: string;
  date: string;
  files: FileEntry[];
}

export const writerOf = (log: string, partition: number): string => `${log}-${partition}`;

export const MANIFESTS = '_manifest/';
export const rootFolder = (zone: Zone): string => `${MANIFESTS}roots/${zone}/`;
export const dateFolder = (zone: Zone, date: string): string => `${MANIFESTS}${zone}/date=${date}/`;

const HEAD = '{"crc32c":"';
const OF = '","of":';

export const hex = (crc: number): string => crc.toString(16).padStart(8, '0');

/** As JSON with its checksum. */
export function encodeManifest(document: object): Buffer {
  const text = Buffer.from(JSON.stringify(document));
  return Buffer.from(`${HEAD}${hex(crc32c(text))}${OF}${text.toString('utf8')}}\n`);
}

/** Undefined for what is not as it was written. Which of the two it is, the object's name says. */
export function decodeManifest(bytes: Buffer): unknown {
  const from = HEAD.length + 8 + OF.length;
  const isFramed =
    bytes.toString('latin1', 0, HEAD.length) === HEAD &&
    bytes.toString('latin1', HEAD.length + 8, from) === OF &&
    bytes.toString('latin1', bytes.length - 2) === '}\n';
  const crc = bytes.toString('latin1', HEAD.length, HEAD.length + 8);
  if (!isFramed || crc !== hex(crc32c(bytes, from, bytes.length - 2))) return undefined;
  return JSON.parse(bytes.toString('utf8', from, bytes.length - 2)) as unknown;
}

const text64 = (sum: bigint): string => BigInt.asUintN(64, sum).toString(16);

function digestOf({ key, bytes, crc }: FileEntry): bigint {
  return createHash('sha256').update(`${key} ${bytes} ${crc}`).digest().readBigUInt64BE();
}

/** Whether these bytes are what the entry says. */
export const isAs = ({ bytes, crc, or = [] }: FileEntry, sum: Sum): boolean =>
  [{ bytes, crc }, ...or].some((each) => each.bytes === sum.bytes && each.crc === sum.crc);

export const isLost = ({ gone }: FileEntry): boolean => gone === 'damaged' || gone === 'missing';

export const counts = (entry: FileEntry): boolean => entry.gone === undefined;

/** Entries whose file is neither there nor merged into one that is. */
export function absent(entries: Iterable<FileEntry>, files: readonly LakeFile[]): FileEntry[] {
  const there = new Set(files.map(({ key }) => key));
  return [...entries].filter((entry) => {
    if (!counts(entry) || there.has(entry.key)) return false;
    const file = parseKey({ key: entry.key, bytes: entry.bytes, version: '' });
    if (file === undefined) return false;
    const beside = files.filter(({ key }) =>
      key.startsWith(entry.key.slice(0, entry.key.lastIndexOf('/') + 1)),
    );
    return !current([...beside, file]).merged.includes(file);
  });
}

export function sealOf(files: readonly FileEntry[]): DateSeal {
  const seal = { files: 0, rows: 0, bytes: 0 };
  let digest = 0n;
  let lost = 0;
  for (const entry of files) {
    if (isLost(entry)) lost++;
    if (!counts(entry)) continue;
    seal.files++;
    seal.rows += entry.rows;
    seal.bytes += entry.bytes;
    digest += digestOf(entry);
  }
  const sum = { ...seal, digest: text64(digest) };
  return lost === 0 ? sum : { ...sum, lost };
}

const lastStepOf = ({ key }: FileEntry): number => fileOf(key)?.to ?? 0;

/**
 * Of these files of a day those of the newest steps, which its seal does not know: an attempt that came to no end put them. Without
 * them the others are proven to be as they were. Undefined: that is not the difference.
 */
export function beyondSeal(files: readonly FileEntry[], seal: DateSeal): FileEntry[] | undefined {
  const newest = [...files].sort((a, b) => lastStepOf(b) - lastStepOf(a));
  let digest = newest.reduce((sum, entry) => sum + digestOf(entry), 0n);
  for (const [at, entry] of newest.entries()) {
    if (newest.length - at === seal.files && text64(digest) === seal.digest)
      return newest.slice(0, at);
    digest -= digestOf(entry);
  }
  return seal.files === 0 ? newest : undefined;
}

/** Of all days of a root: what the log keeps of it. */
export function rootDigest({ dates }: Root): string {
  let digest = 0n;
  for (const [date, seal] of Object.entries(dates)) {
    const text = `${date} ${seal.files} ${seal.digest}`;
    digest += createHash('sha256').update(text).digest().readBigUInt64BE();
  }
  return text64(digest);
}

/** Adds to `into` what `spans` of a file of this date have. */
export function widen(into: Record<string, EpochSpan>, spans: Spans, date: string): void {
  for (const [epoch, ranges] of Object.entries(spans)) {
    const before = into[epoch];
    const set = new RangeSet(before?.ranges);
    for (const [from, to] of ranges) set.add(from, to);
    into[epoch] = {
      ranges: [...set.ranges],
      from: before === undefined || date < before.from ? date : before.from,
      to: before === undefined || date > before.to ? date : before.to,
    };
  }
}

export function touches(a: Spans, b: Spans): boolean {
  return Object.entries(a).some(([epoch, ranges]) => {
    const other = b[epoch];
    if (other === undefined) return false;
    const set = new RangeSet(other);
    return ranges.some(([from, to]) => set.touches(from, to));
  });
}

/** What is in either. */
export function union(all: readonly Spans[]): Spans {
  const sets = new Map<string, RangeSet>();
  for (const spans of all)
    for (const [epoch, ranges] of Object.entries(spans)) {
      let set = sets.get(epoch);
      if (set === undefined) sets.set(epoch, (set = new RangeSet()));
      for (const [from, to] of ranges) set.add(from, to);
    }
  return Object.fromEntries([...sets].map(([epoch, set]) => [epoch, [...set.ranges]]));
}

/** What is in `spans` and not in `other`. */
export function beyond(spans: Spans, other: Spans): Spans {
  const rest: Spans = {};
  for (const [epoch, ranges] of Object.entries(spans)) {
    const set = new RangeSet(other[epoch]);
    const gaps = ranges.flatMap(([from, to]) => set.gaps(from, to));
    if (gaps.length > 0) rest[epoch] = gaps;
  }
  return rest;
}

/** Sequences of many gateways and epochs, to be added to. */
export class SpanSet {
  private readonly sets = new Map<string, Map<string, RangeSet>>();

  add(gateway: string, spans: Spans): void {
    let epochs = this.sets.get(gateway);
    if (epochs === undefined) this.sets.set(gateway, (epochs = new Map()));
    for (const [epoch, ranges] of Object.entries(spans)) {
      let set = epochs.get(epoch);
      if (set === undefined) epochs.set(epoch, (set = new RangeSet()));
      for (const [from, to] of ranges) set.add(from, to);
    }
  }

  touches(gateway: string, spans: Spans): boolean {
    const epochs = this.sets.get(gateway);
    return Object.entries(spans).some(([epoch, ranges]) =>
      ranges.some(([from, to]) => epochs?.get(epoch)?.touches(from, to) === true),
    );
  }

  covers(gateway: string, spans: Spans): boolean {
    const epochs = this.sets.get(gateway);
    return Object.entries(spans).every(([epoch, ranges]) =>
      ranges.every(([from, to]) => epochs?.get(epoch)?.covers(from, to) === true),
    );
  }

  of(gateway: string): Spans {
    const epochs = this.sets.get(gateway) ?? [];
    return Object.fromEntries([...epochs].map(([epoch, set]) => [epoch, [...set.ranges]]));
  }

  get gateways(): string[] {
    return [...this.sets.keys()];
  }

  /** By GATEWAY/EPOCH instead of epoch. */
  named(): Spans {
    return Object.fromEntries(
      [...this.sets].flatMap(([gateway, epochs]) =>
        [...epochs].map(([epoch, set]) => [`${gateway}/${epoch}`, [...set.ranges]] as const),
      ),
    );
  }

  clear(): void {
    this.sets.clear();
  }
}
