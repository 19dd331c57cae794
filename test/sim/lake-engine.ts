/**
 * The lake's files without native code: rows as JSON in row groups, with a footer that says where they lie, as Parquet has
 * it. It checks no more of them than DuckDB does: what is damaged may be read and be wrong, and it is the lake that has to
 * see that. It keeps the contract of `collector/lake/engine.ts`, and its order of rows.
 */
import { readFile, rm, mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type {
  FileEngine,
  FileRows,
  LakeFrame,
  LakeReading,
  LakeResult,
  MadeFile,
  Rewritten,
  Step,
  StoredFrame,
  WrittenFile,
} from '../../collector/lake/engine.ts';
import type { RowRange } from '../../collector/lake/groups.ts';
import type { Zone } from '../../collector/lake/layout.ts';
import { union, type Spans } from '../../collector/lake/manifest.ts';
import type { Facts } from '../../collector/lake/parquet-facts.ts';
import type { PastRow, Replacing } from '../../collector/lake/parquet-past.ts';
import type { PlainRecords } from '../../collector/lake/parquet-plain.ts';
import type { Dead } from '../../collector/lake/parquet-rows.ts';
import { readingRows, type RawRow, type ReadingRow } from '../../collector/lake/rows.ts';
import { nanosOf } from '../../collector/duckdb/nanos.ts';
import { operatingError } from '../../contracts/errors.ts';
import { HeadwaterError, messageOf } from '../../shared/errors.ts';
import { readingsOf } from '../../shared/model/readings-record.ts';

const MAGIC = 'HWS1';
const GROUP_ROWS = 8;

/** A frame's bytes are base64. */
type FrameRow = Omit<RawRow, 'frame'> & { frame: string };
/** Of files of the past: until when it was so, and whether there was none. */
type StoredReading = ReadingRow & { untilMs?: number; absent?: boolean };
type Row = FrameRow | StoredReading;
type Group = Facts['groups'][number];

function encodeRows(rows: readonly Row[]): Buffer {
  const parts = [Buffer.from(MAGIC)];
  const groups: Group[] = [];
  let at = MAGIC.length;
  for (let from = 0; from < rows.length; from += GROUP_ROWS) {
    const some = rows.slice(from, from + GROUP_ROWS);
    const bytes = Buffer.from(JSON.stringify(some));
    parts.push(bytes);
    groups.push({ at, bytes: bytes.length, rows: some.length });
    at += bytes.length;
  }
  const footer = JSON.stringify(groups);
  parts.push(Buffer.from(`${footer}${String(footer.length).padStart(8, '0')}${MAGIC}`));
  return Buffer.concat(parts);
}

const groupsIn = (bytes: Buffer): Group[] => {
  const end = bytes.length - MAGIC.length - 8;
  const isOne =
    end > 0 &&
    bytes.toString('latin1', 0, MAGIC.length) === MAGIC &&
    bytes.toString('latin1', end + 8) === MAGIC;
  if (!isOne) throw new Error('No magic bytes found: it is not a Parquet file');
  const length = Number(bytes.toString('latin1', end, end + 8));
  return JSON.parse(bytes.toString('utf8', end - length, end)) as Group[];
};

const rowsInGroup = (bytes: Buffer, { at, bytes: length }: Group): Row[] =>
  JSON.parse(bytes.toString('utf8', at, at + length)) as Row[];

/** Throws when it cannot be read. */
export const rowsIn = (bytes: Buffer): Row[] =>
  groupsIn(bytes).flatMap((group) => rowsInGroup(bytes, group));

const isReading = (row: Row): row is StoredReading => 'reading' in row;
const timeNs = ({ reading: { timeMs, ns } }: StoredReading): bigint => nanosOf(timeMs, ns);
const placeOf = ({ gateway, record: { epoch }, reading }: StoredReading): string =>
  `${gateway}/${epoch}/${reading.sequence}/${reading.index}`;

const frameOf = ({ gateway, epoch, kind, firstSequence, count, frame }: FrameRow): string =>
  `${gateway}/${epoch}/${kind}/${firstSequence}/${count}/${frame}`;
const identityOf = (zone: Zone, row: Row): string =>
  !isReading(row)
    ? frameOf(row)
    : zone === 'readings'
      ? placeOf(row)
      : `${placeOf(row)}/${row.record.revision}/${row.removed}`;

const less = <T>(a: T, b: T): number => (a < b ? -1 : a > b ? 1 : 0);
function order(a: Row, b: Row): number {
  if (!isReading(a) || !isReading(b)) return (a as FrameRow).offset - (b as FrameRow).offset;
  return (
    less(a.series, b.series) ||
    less(timeNs(a), timeNs(b)) ||
    a.record.revision - b.record.revision ||
    a.reading.sequence - b.reading.sequence ||
    a.reading.index - b.reading.index
  );
}

/** Sequences of each record of the log: of those of readings from the first up to the last. */
function recordSpans(
  rows: readonly Row[],
): { gateway: string; epoch: string; a: number; b: number }[] {
  const records = new Map<string, { gateway: string; epoch: string; a: number; b: number }>();
  for (const row of rows) {
    if (!isReading(row)) {
      const { gateway, epoch, kind, firstSequence: a, count } = row;
      if (kind >= 0 && kind <= 3)
        records.set(String(records.size), { gateway, epoch, a, b: a + Math.max(1, count) - 1 });
      continue;
    }
    const { gateway, record, reading } = row;
    const { epoch, log, partition, offset } = record;
    const name = `${gateway}/${epoch}/${log}/${partition}/${offset}`;
    const { a, b } = records.get(name) ?? { a: reading.sequence, b: reading.sequence };
    const span = { a: Math.min(a, reading.sequence), b: Math.max(b, reading.sequence) };
    records.set(name, { gateway, epoch, ...span });
  }
  return [...records.values()].sort((x, y) => x.a - y.a || x.b - y.b);
}

function factsOf(zone: Zone, bytes: Buffer): Facts {
  const groups = groupsIn(bytes);
  const rows = groups.reduce((sum, group) => sum + group.rows, 0);
  if (zone === 'results') return { rows, groups, spans: {} };
  const spans = recordSpans(rowsIn(bytes)).map(({ epoch, a, b }): Spans => ({ [epoch]: [[a, b]] }));
  return { rows, groups, spans: union(spans) };
}

const isDead = (row: Row, { epoch, sequence, index, timeNs: only }: Dead): boolean =>
  isReading(row) &&
  row.record.epoch === epoch &&
  row.reading.sequence === sequence &&
  row.reading.index === index &&
  (only === undefined || only === timeNs(row));

/** What a row says, without where it came from. */
const contentOf = (row: StoredReading): string =>
  JSON.stringify([
    placeOf(row),
    String(timeNs(row)),
    row.series,
    Object.entries(row.reading.fields).sort(),
  ]);

const stored = (row: ReadingRow): StoredReading => {
  const { was: _, ...reading } = row.reading;
  return { ...row, reading };
};

async function rowsOf(paths: readonly string[]): Promise<Row[]> {
  const all: Row[] = [];
  for (const path of paths) all.push(...rowsIn(await readFile(path)));
  return all;
}

const readingRowsOf = async (paths: readonly string[]): Promise<StoredReading[]> =>
  (await rowsOf(paths)).filter(isReading);

const frameRowsOf = async (paths: readonly string[]): Promise<FrameRow[]> =>
  (await rowsOf(paths)).filter((row): row is FrameRow => !isReading(row));

const asStored = ({ frame, ...row }: FrameRow): LakeFrame => ({
  ...row,
  frame: Buffer.from(frame, 'base64'),
});

export class SimEngine implements FileEngine {
  private readonly folder: string;
  private readonly losesRows: boolean;
  private made = 0;
  private turn: Promise<unknown> = Promise.resolve();

  /** `losesRows`: a control, a merge has a row twice in the place of another one. */
  constructor(folder: string, losesRows: boolean) {
    this.folder = folder;
    this.losesRows = losesRows;
  }

  async open(): Promise<void> {
    await rm(this.folder, { recursive: true, force: true });
    await mkdir(this.folder, { recursive: true });
  }

  private inTurn<T>(doing: string, work: () => Promise<T>): Promise<T> {
    const run = this.turn.then(async () => {
      try {
        return await work();
      } catch (error) {
        if (operatingError(error) !== undefined) throw error;
        throw new HeadwaterError('LAKE_UNAVAILABLE', `the lake: ${doing}: ${messageOf(error)}`, {
          cause: error,
        });
      }
    });
    this.turn = run.catch(() => undefined); // The caller sees it; the next one takes its turn.
    return run;
  }

  private async put(rows: readonly Row[]): Promise<{ path: string; bytes: Buffer }> {
    const path = join(this.folder, `${this.made++}.parquet`);
    const bytes = encodeRows(rows.toSorted(order));
    try {
      await writeFile(path, bytes);
    } catch (error) {
      await rm(path, { force: true });
      throw error;
    }
    return { path, bytes };
  }

  private async write(zone: Zone, rows: readonly Row[]): Promise<MadeFile> {
    const { path, bytes } = await this.put(rows);
    return { path, facts: factsOf(zone, bytes) };
  }

  facts(zone: Zone, path: string): Promise<Facts> {
    return this.inTurn('reading a file', async () => factsOf(zone, await readFile(path)));
  }

  sequences(path: string): Promise<Spans> {
    return this.inTurn('reading a file', async () =>
      union(
        (await readingRowsOf([path])).map(
          ({ record: { epoch }, reading: { sequence } }): Spans => ({
            [epoch]: [[sequence, sequence]],
          }),
        ),
      ),
    );
  }

  writeRaw(rows: readonly RawRow[]): Promise<MadeFile> {
    return this.inTurn('writing a file', () =>
      this.write(
        'raw',
        rows.map((row) => ({ ...row, frame: row.frame.toString('base64') })),
      ),
    );
  }

  writeReadings(
    zone: 'readings' | 'results',
    given: readonly ReadingRow[],
    plain: PlainRecords | undefined,
  ): Promise<Step | undefined> {
    return this.inTurn('writing files', async () => {
      const rows = given.map(stored);
      for (const { offset, value } of plain?.records ?? []) {
        const batch = readingsOf(value);
        if (plain === undefined || batch === undefined) return undefined;
        const { log, partition } = plain;
        rows.push(...readingRows(batch, { log, partition, offset }, false).map(stored));
      }
      const spans = new Map<string, Spans>();
      const ends = new Map<string, number>();
      let overlaps = false;
      for (const { gateway, epoch, a, b } of recordSpans(rows)) {
        spans.set(gateway, union([spans.get(gateway) ?? {}, { [epoch]: [[a, b]] }]));
        const before = ends.get(`${gateway}/${epoch}`) ?? -1;
        overlaps ||= a <= before;
        ends.set(`${gateway}/${epoch}`, Math.max(before, b));
      }
      const folders = new Map<string, StoredReading[]>();
      for (const row of rows) {
        const folder = `${row.date} ${row.gateway}`;
        folders.set(folder, [...(folders.get(folder) ?? []), row]);
      }
      const files: WrittenFile[] = [];
      try {
        for (const own of folders.values()) {
          const { date, gateway } = own[0] as ReadingRow; // A group has one.
          files.push({ date, gateway, ...(await this.write(zone, own)) });
        }
      } catch (error) {
        for (const { path } of files) await rm(path, { force: true });
        throw error;
      }
      return { files, spans, overlaps };
    });
  }

  private async less(path: string, rows: readonly Row[]): Promise<Rewritten> {
    const { path: rewritten, facts } = await this.write('readings', rows);
    return { path, rewritten, facts };
  }

  without(paths: readonly string[], dead: readonly Dead[]): Promise<Rewritten[]> {
    return this.inTurn('rewriting files', async () => {
      const done: Rewritten[] = [];
      for (const path of paths) {
        const rows = await rowsOf([path]);
        const rest = rows.filter((row) => !dead.some((each) => isDead(row, each)));
        if (rest.length < rows.length) done.push(await this.less(path, rest));
      }
      return done;
    });
  }

  past(what: Replacing): Promise<{ path: string; untilMs: number } | undefined> {
    return this.inTurn('keeping what was', async () => {
      const { paths, dead, fresh, more, late } = what;
      const rows: StoredReading[] = [];
      const gone = new Set<string>();
      const said = new Set(fresh.map(contentOf));
      for (const row of await readingRowsOf(paths)) {
        const own = dead.filter((each) => each.gateway === row.gateway && isDead(row, each));
        if (own.length === 0) continue;
        gone.add(placeOf(row));
        const untilMs = Math.min(...own.map(({ endedMs }) => endedMs));
        if (!said.has(contentOf(row))) rows.push({ ...row, untilMs, absent: false });
      }
      const lateRows = new Set(late.map(({ row }) => row));
      const known = new Set(gone);
      for (const { row } of more) if (!lateRows.has(row)) known.add(placeOf(row));
      const first = new Map<string, PastRow>();
      for (const each of late) {
        const name = placeOf(each.row);
        if (!known.has(name) && each.endedMs < (first.get(name)?.endedMs ?? Infinity))
          first.set(name, each);
      }
      for (const { row, endedMs } of more)
        rows.push({ ...stored(row), untilMs: endedMs, absent: false });
      for (const { row, endedMs } of first.values())
        rows.push({ ...stored(row), untilMs: endedMs, absent: true });
      if (rows.length === 0) return undefined;
      const { path } = await this.put(rows);
      return { path, untilMs: Math.round(Math.max(...rows.map(({ untilMs = 0 }) => untilMs))) };
    });
  }

  mergePast(paths: readonly string[]): Promise<string> {
    return this.inTurn('merging what was', async () => {
      const rows = await rowsOf(paths);
      return (await this.put(rows)).path;
    });
  }

  known(paths: readonly string[], rows: readonly RawRow[]): Promise<Set<number>> {
    return this.inTurn('looking for frames', async () => {
      const name = (row: Pick<FrameRow, 'epoch' | 'kind' | 'firstSequence' | 'frame'>): string =>
        `${row.epoch}/${row.kind}/${row.firstSequence}/${row.frame}`;
      const there = new Set((await frameRowsOf(paths)).map(name));
      const isThere = (row: RawRow): boolean =>
        there.has(name({ ...row, frame: row.frame.toString('base64') }));
      return new Set(rows.flatMap((row, place) => (isThere(row) ? [place] : [])));
    });
  }

  frames(path: string): Promise<StoredFrame[]> {
    return this.inTurn('reading frames', async () => (await frameRowsOf([path])).map(asStored));
  }

  part(zone: Zone, path: string, ranges: readonly RowRange[]): Promise<MadeFile> {
    return this.inTurn('reading a damaged file', async () => {
      const bytes = await readFile(path);
      const rows: Row[] = [];
      let at = 0;
      for (const group of groupsIn(bytes)) {
        if (ranges.some(([from, to]) => from <= at && at < to))
          rows.push(...rowsInGroup(bytes, group));
        at += group.rows;
      }
      return await this.write(zone, rows);
    });
  }

  apart(zone: Zone, path: string, others: readonly string[]): Promise<Rewritten> {
    return this.inTurn('comparing files', async () => {
      const there = new Set((await rowsOf(others)).map((row) => identityOf(zone, row)));
      const rows = await rowsOf([path]);
      const rest = rows.filter((row) => !there.has(identityOf(zone, row)));
      const { path: rewritten, facts } = await this.write(zone, rest);
      return { path, rewritten, facts };
    });
  }

  merge(zone: Zone, paths: readonly string[]): Promise<MadeFile> {
    return this.inTurn('merging files', async () => {
      const rows = await rowsOf(paths);
      const [first] = rows;
      if (this.losesRows && first !== undefined) rows[rows.length - 1] = first;
      return await this.write(zone, rows);
    });
  }

  async close(): Promise<void> {
    await this.turn;
  }
}

/** As DuckDB's are told. */
const read = <T>(rows: Promise<T>): Promise<T> =>
  rows.catch((error: unknown) => {
    throw new HeadwaterError('LAKE_UNAVAILABLE', `the lake: reading rows: ${messageOf(error)}`);
  });

export const simRows: FileRows = {
  async newestRevision(paths) {
    const rows = await read(readingRowsOf(paths));
    return rows.reduce((newest, { record }) => Math.max(newest, record.revision), 0);
  },

  async *readings(paths, fromMs, toMs): AsyncGenerator<LakeReading> {
    for (const row of await read(readingRowsOf(paths))) {
      const { measurement, tags, fields, timeMs, ns } = row.reading;
      if (timeMs < fromMs || timeMs >= toMs) continue;
      const { log, partition, offset } = row.record;
      const origin = { log, partition, offset };
      const id = placeOf(row);
      yield { series: row.series, measurement, tags, fields, timeMs, ns, id, origin };
    }
  },

  async *frames(paths): AsyncGenerator<LakeFrame> {
    const rows = await read(frameRowsOf(paths));
    rows.sort((a, b) => a.arrivedMs - b.arrivedMs || a.offset - b.offset);
    for (const row of rows) if (row.kind >= 0) yield asStored(row);
  },

  async *results(paths): AsyncGenerator<LakeResult> {
    const newest = new Map<string, StoredReading>();
    for (const row of await read(readingRowsOf(paths))) {
      const { record, removed } = newest.get(placeOf(row)) ?? row;
      const by =
        row.record.revision - record.revision ||
        row.record.offset - record.offset ||
        Number(removed) - Number(row.removed);
      if (by >= 0) newest.set(placeOf(row), row);
    }
    for (const name of [...newest.keys()].sort()) {
      const { gateway, record, reading, removed } = newest.get(name) as StoredReading; // Its key.
      const { epoch, revision } = record;
      if (!removed) yield { gateway, epoch, revision, reading };
    }
  },
};
