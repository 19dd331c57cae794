/**
 * A step's records become files: one for each date and gateway, under the name that the step gives it. What the lake has
 * already, by its identity, is left out or replaced, so that a log that says things again changes nothing.
 *
 * First everything is made here, beside the lake; `commit` puts it there: what is replaced is announced in the manifests,
 * then the files, then the manifests say what is so.
 */
import { setImmediate } from 'node:timers/promises';
import { crc32c } from '../../shared/frame/crc32c.ts';
import { readingsOf } from '../../shared/model/readings-record.ts';
import { HEADER_AGAIN, type StoredRecord } from '../log/log.ts';
import { HEADER_SAID } from '../log/topics.ts';
import type { Part } from './gather.ts';
import type { Lake } from './lake.ts';
import { fileName, folderOf, type LakeFile, type Zone } from './layout.ts';
import { hex, union, writerOf, type FileEntry, type Spans, type Sum } from './manifest.ts';
import { listing, pastKey } from './past.ts';
import { isPlain } from './parquet-plain.ts';
import type { Facts } from './parquet-facts.ts';
import type { Step, WrittenFile } from './engine.ts';
import { Rows, filesWith, rewrite, type Replaced } from './replace.ts';
import { rawRow, readingRows, type RawRow } from './rows.ts';
import { sumFile } from './sums.ts';

/** It may take back what was said before it. */
const replaces = ({ headers, value }: StoredRecord): boolean =>
  headers[HEADER_AGAIN] !== undefined ||
  headers[HEADER_SAID] !== undefined ||
  value.includes('"was":') ||
  value.includes('"removed":');

/** Readings that are taken up in one turn of the event loop. */
const AT_ONCE = 2000;
/** Puts at once. */
const PUTS = 8;

interface NewFile {
  key: string;
  date: string;
  path: string;
  entry: FileEntry;
}

/** What a step makes, on this disk. */
export interface Prepared {
  files: NewFile[];
  replaced: Replaced[];
  /** What was so until it. */
  past?: { key: string; path: string; bytes: number };
}

interface Made {
  step: Step;
  replaced: Replaced[];
  past: { path: string; untilMs: number } | undefined;
}

const wallMs = (): number => performance.timeOrigin + performance.now();

export const datesOf = ({ files, replaced }: Prepared): string[] => [
  ...new Set([...files.map(({ date }) => date), ...replaced.map(({ file }) => file.date)]),
];

/** What the log says of a file before it is put: short, since a step may have thousands. */
export const markOf = (key: string, { bytes, crc }: Sum): string =>
  hex(crc32c(Buffer.from(`${key} ${bytes} ${crc}`)));

export const marksOf = ({ files }: Prepared): string[] =>
  files.map(({ key, entry }) => markOf(key, entry));

export const pathsOf = ({ files, replaced, past }: Prepared): string[] => [
  ...files.map(({ path }) => path),
  ...replaced.map(({ rewritten }) => rewritten),
  ...(past === undefined ? [] : [past.path]),
];

/** The entry of a file that lies here. */
export async function entryOf(key: string, path: string, facts: Facts): Promise<FileEntry> {
  const { rows, spans, bare = 0, reports = 0 } = facts;
  const sum = await sumFile(path, facts.groups);
  const counts = { ...(bare > 0 && bare < rows && { bare }), ...(reports > 0 && { reports }) };
  return { key, rows, spans, gen: 0, ...sum, ...counts };
}

const replacedBy = (old: FileEntry, { bytes, crc }: FileEntry): FileEntry => ({
  ...old,
  or: [...(old.or ?? []), { bytes, crc }],
});

type Changes = Map<string, { put: FileEntry[]; dropped: string[] }>;

function note(changes: Changes, date: string, entry: FileEntry): void {
  const own = changes.get(date);
  if (own === undefined) changes.set(date, { put: [entry], dropped: [] });
  else own.put.push(entry);
}

export class Writer {
  writtenRows = 0;
  rewrittenFiles = 0;
  private readonly lake: Lake;
  private readonly zone: Zone;

  constructor(lake: Lake, zone: Zone) {
    this.lake = lake;
    this.zone = zone;
  }

  async prepare(part: Part, partition: number, records: StoredRecord[]): Promise<Prepared> {
    return this.zone === 'raw'
      ? await this.raw(part, partition, records)
      : await this.readings(part, partition, records);
  }

  private static isOwn({ state }: Part): (file: LakeFile) => boolean {
    return (file) => file.log === state.log && file.from === state.step;
  }

  private async newFile(
    { state: { log, step } }: Part,
    partition: number,
    { date, gateway, path, facts }: WrittenFile,
  ): Promise<NewFile> {
    const key = `${folderOf(this.zone, date, gateway)}${fileName(log, partition, step, step + 1)}`;
    return { key, date, path, entry: await entryOf(key, path, facts) };
  }

  // ---- raw ----

  private async raw(part: Part, partition: number, records: StoredRecord[]): Promise<Prepared> {
    const gateways = new Map<string, RawRow[]>();
    for (const record of records) {
      const row = rawRow(record, part.state.log);
      const list = gateways.get(row.gateway);
      if (list === undefined) gateways.set(row.gateway, [row]);
      else list.push(row);
    }
    const files: NewFile[] = [];
    for (const [gateway, all] of gateways) {
      const fresh = await this.unknown(part, gateway, all);
      for (const date of new Set(fresh.map((row) => row.date))) {
        const made = await this.lake.parquet.writeRaw(fresh.filter((row) => row.date === date));
        files.push(await this.newFile(part, partition, { date, gateway, ...made }));
      }
    }
    return { files, replaced: [] };
  }

  /** Those that the lake has not, byte for byte. */
  private async unknown(part: Part, gateway: string, rows: RawRow[]): Promise<RawRow[]> {
    const seen = new Map<string, Buffer>();
    const once = rows.filter(({ epoch, kind, firstSequence, frame }) => {
      if (kind < 0) return true;
      const place = `${epoch}/${kind}/${firstSequence}`;
      if (seen.get(place)?.equals(frame) === true) return false;
      seen.set(place, frame);
      return true;
    });
    const spans = union(once.map(spanOf));
    if (!(await this.lake.catalog('raw').hasAny(gateway, spans))) return once;
    const files = await filesWith(
      this.lake,
      'raw',
      gateway,
      { spans, dates: new Set(once.map(({ date }) => date)) },
      Writer.isOwn(part),
    );
    const local = await this.lake.whole(files);
    if (local.size === 0) return once;
    const known = await this.lake.parquet.known([...local.keys()], once);
    return once.filter((_, place) => !known.has(place));
  }

  // ---- readings and results ----

  private async readings(
    part: Part,
    partition: number,
    records: StoredRecord[],
  ): Promise<Prepared> {
    // Where nothing is replaced DuckDB takes records apart by itself; the others are looked at here.
    const isSimple = this.zone === 'readings' && !records.some(replaces);
    const plain: StoredRecord[] = [];
    const others: StoredRecord[] = [];
    for (const record of records) (isSimple && isPlain(record.value) ? plain : others).push(record);
    const first = await this.step(part, partition, others, plain, false);
    if (first !== undefined && !(await this.isSaidAgain(first.step))) {
      return await this.finish(part, partition, first);
    }
    await this.drop(first);
    const second = await this.step(part, partition, records, [], this.zone === 'readings');
    return second === undefined
      ? { files: [], replaced: [] }
      : await this.finish(part, partition, second);
  }

  private async isSaidAgain({ spans, overlaps }: Step): Promise<boolean> {
    if (this.zone !== 'readings') return false;
    if (overlaps) return true;
    const catalog = this.lake.catalog('readings');
    for (const [gateway, own] of spans) if (await catalog.hasAny(gateway, own)) return true;
    return false;
  }

  private async drop(made: Made | undefined): Promise<void> {
    if (made === undefined) return;
    const { step, replaced, past } = made;
    const paths = [
      ...step.files.map(({ path }) => path),
      ...replaced.map((each) => each.rewritten),
    ];
    await this.lake.discard(past === undefined ? paths : [...paths, past.path]);
  }

  private async finish(
    part: Part,
    partition: number,
    { step, replaced, past }: Made,
  ): Promise<Prepared> {
    const files: NewFile[] = [];
    for (const file of step.files) {
      const kept = this.zone === 'results' ? await this.fresh(part, file) : file;
      if (kept !== undefined) files.push(await this.newFile(part, partition, kept));
    }
    if (past === undefined) return { files, replaced };
    const named = await pastKey(past.path, past.untilMs, part.state, partition);
    return { files, replaced, past: { ...named, path: past.path } };
  }

  /** Of results, those rows that files do not have that may hold them already: see `Part.suspects`. */
  private async fresh(part: Part, file: WrittenFile): Promise<WrittenFile | undefined> {
    const folder = folderOf('results', file.date, file.gateway);
    const isSuspect = [part.suspects, this.lake.suspects].some(
      (set) => set.has(folder) || set.has(''),
    );
    if (!isSuspect) return file;
    const others = (await this.lake.folder(folder)).filter((each) => !Writer.isOwn(part)(each));
    const local = await this.lake.whole(others);
    if (local.size === 0) return file;
    const { rewritten, facts } = await this.lake.parquet.apart('results', file.path, [
      ...local.keys(),
    ]);
    await this.lake.discard(facts.rows === 0 ? [file.path, rewritten] : [file.path]);
    return facts.rows === 0 ? undefined : { ...file, path: rewritten, facts };
  }

  private async step(
    part: Part,
    partition: number,
    records: StoredRecord[],
    plain: StoredRecord[],
    areKnown: boolean,
  ): Promise<Made | undefined> {
    const { log } = part.state;
    const isResults = this.zone === 'results';
    const rows = new Rows(!isResults && (areKnown || records.some(replaces)));
    let read = 0;
    for (const { value, offset, headers } of records) {
      // A step may have a million readings: others have their turn between some records and the next.
      if (read >= AT_ONCE) {
        read = 0;
        await setImmediate();
      }
      // What is no such record, the store stage reports.
      const batch = readingsOf(value);
      if (batch === undefined) continue;
      read += batch.readings.length + (batch.removed?.length ?? 0);
      const isAgain = headers[HEADER_AGAIN] !== undefined;
      // Results keep all their revisions; what a rebuild says again, the lake has.
      if (isResults && isAgain) continue;
      const saidMs = headers[HEADER_SAID] === undefined ? undefined : Number(headers[HEADER_SAID]);
      if (!isResults) rows.replace(batch, isAgain || areKnown, saidMs ?? wallMs());
      rows.add(readingRows(batch, { log, partition, offset }, isResults), saidMs);
    }
    const step = await this.lake.parquet.writeReadings(
      isResults ? 'results' : 'readings',
      rows.list(),
      plain.length === 0 ? undefined : { log, partition, records: plain },
    );
    if (step === undefined) return undefined;
    const replaced =
      rows.killed.size === 0 ? [] : await rewrite(this.lake, rows, Writer.isOwn(part));
    const replacing = await rows.replacing(replaced.map(({ path }) => path));
    const past = replacing && (await this.lake.parquet.past(replacing));
    return { step, replaced, past };
  }

  // ---- into the lake ----

  /** Gives the digest of the writer's root. Resolves when all of it is in the lake; no local file is left behind. */
  async commit(part: Part, partition: number, prepared: Prepared): Promise<string> {
    const { files, replaced, past } = prepared;
    const { lake, zone } = this;
    const catalog = lake.catalog(zone);
    const writer = writerOf(part.state.log, partition);
    let digest = '';
    await lake.using(pathsOf(prepared), async () => {
      // Before anything is replaced: said twice it is still one, not said it would be lost.
      if (past !== undefined) await lake.put(past.key, past.path);
      const keeping = past === undefined ? {} : { past: listing(past) };
      const before: Changes = new Map();
      const after: Changes = new Map();
      for (const { file, path, rewritten, facts } of replaced) {
        const { entries } = await catalog.day(file.date);
        const old = entries.get(file.key) ?? (await this.describe(file, path));
        const entry = await entryOf(file.key, rewritten, facts);
        if (facts.rows === 0) note(before, file.date, { ...old, gone: 'emptied' });
        else {
          note(before, file.date, replacedBy(old, entry));
          note(after, file.date, entry);
        }
      }
      for (const { key, date, entry } of files) {
        const old = (await catalog.day(date)).entries.get(key);
        if (old !== undefined && old.gone === undefined) note(before, date, replacedBy(old, entry));
        note(after, date, entry);
      }
      if (before.size > 0) digest = await catalog.commit(writer, before, keeping);
      for (const { file, rewritten, facts } of replaced) {
        if (facts.rows === 0) await lake.remove(file.key);
        else await lake.put(file.key, rewritten);
        this.rewrittenFiles++;
      }
      for (let at = 0; at < files.length; at += PUTS)
        await Promise.all(files.slice(at, at + PUTS).map(({ key, path }) => lake.put(key, path)));
      if (after.size > 0 || (past !== undefined && before.size === 0))
        digest = await catalog.commit(writer, after, keeping);
      else if (digest === '') digest = await catalog.digest(writer);
    });
    for (const { key, entry } of files) {
      this.writtenRows += entry.rows;
      part.touched.add(key.slice(0, key.lastIndexOf('/') + 1));
    }
    return digest;
  }

  private async describe(file: LakeFile, path: string): Promise<FileEntry> {
    return await entryOf(file.key, path, await this.lake.parquet.facts(this.zone, path));
  }
}

function spanOf({ kind, epoch, firstSequence, count }: RawRow): Spans {
  // As `parquet-facts.ts` has it.
  if (kind < 0 || kind > 3) return {};
  return { [epoch]: [[firstSequence, firstSequence + Math.max(1, count) - 1]] };
}
