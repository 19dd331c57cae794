/**
 * The manifests of a zone, read and written. What a writer's own say is written by nobody else, so nothing is lost between
 * two writers; what others say of a file is overruled by a higher `gen`. Writes of one process take turns.
 *
 * A manifest that is damaged or gone is made again from the files (`scrub.ts`), and proven by the digest that is kept
 * above it: a day's in the root, a root's in the log, and in memory while its writer is at work (`own-roots.ts`).
 */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { makeWithin } from '../../shared/config/folder.ts';
import { HeadwaterError } from '../../shared/errors.ts';
import { RangeSet } from '../../shared/model/ranges.ts';
import { dateOfKey, encodeName, type Zone } from './layout.ts';
import {
  ManifestReader,
  entriesOf,
  widenBy,
  writerOfKey,
  type Broken,
  type Day,
} from './manifest-read.ts';
import {
  MANIFESTS,
  counts,
  encodeManifest,
  rootDigest,
  rootFolder,
  sealOf,
  touches,
  union,
  widen,
  type DateManifest,
  type EpochSpan,
  type FileEntry,
  type PastList,
  type Root,
  type Spans,
} from './manifest.ts';
import type { ObjectStore } from './object-store.ts';
import { OwnRoots } from './own-roots.ts';

/** Days whose manifests are kept in memory. */
const DAYS_MAX = 64;

/** What is so of a day from now on. `isAnew`: there is no manifest of it that could be read. */
export interface Change {
  put?: FileEntry[];
  dropped?: string[];
  isAnew?: true;
  /** Of files that were lost: one that a writer has put again under the same name counts, whatever was to be said of it. */
  isOfLost?: true;
}

export class Catalog {
  readonly zone: Zone;
  private readonly store: ObjectStore;
  private readonly folder: string;
  private roots: Map<string, Root> | undefined;
  private readonly days = new Map<string, Day>();
  private turn: Promise<unknown> = Promise.resolve();
  private files = 0;
  /** Found on reading, to be made again before anything is written. */
  readonly broken = new Map<string, Broken>();
  private writes = 0;
  private readonly own = new OwnRoots();
  private readonly reader: ManifestReader;

  /** `folder`: for files on their way. */
  constructor(store: ObjectStore, zone: Zone, folder: string) {
    this.store = store;
    this.zone = zone;
    this.folder = folder;
    this.reader = new ManifestReader(store, zone, this.own);
  }

  private inTurn<T>(work: () => Promise<T>): Promise<T> {
    const run = this.turn.then(work);
    this.turn = run.catch(() => undefined); // The caller sees it; the next one takes its turn.
    return run;
  }

  /** Forgets what was read: others may have written since. */
  refresh(): void {
    this.roots = undefined;
    this.days.clear();
  }

  /** The same of one day. */
  forget(date: string): void {
    this.days.delete(date);
  }

  /** From now on nobody else writes the manifests of this writer. */
  async claim(writer: string): Promise<void> {
    const root = (await this.loadRoots()).get(writer);
    // One that was not finished is known when it is.
    this.own.claim(writer, root?.under === undefined ? root : undefined);
  }

  /** Another process may write them. */
  release(writer: string): void {
    this.own.release(writer);
  }

  /** Those that are damaged, or that a root speaks of and nobody has; read anew. */
  async brokenOnes(): Promise<Broken[]> {
    const broken: Broken[] = [];
    const found = new Set<string>();
    const look = async (key: string, date = ''): Promise<void> => {
      const writer = writerOfKey(key);
      if (writer === undefined) return;
      found.add(`${date} ${writer}`);
      const read = (): Promise<unknown> =>
        date === '' ? this.reader.root(key, writer) : this.reader.filesOf(key, writer, date);
      // Once more when nothing is being written.
      if ((await read()) === undefined && (await this.inTurn(read)) === undefined)
        broken.push({ key, writer, ...(date === '' ? {} : { date }) });
    };
    for (const { key } of await this.store.list(rootFolder(this.zone))) await look(key);
    for (const { key } of await this.store.list(`${MANIFESTS}${this.zone}/`))
      await look(key, dateOfKey(key));
    for (const [writer, { dates }] of await this.loadRoots()) {
      if (!found.has(` ${writer}`)) broken.push({ key: this.reader.rootKey(writer), writer });
      for (const date of Object.keys(dates))
        if (!found.has(`${date} ${writer}`))
          broken.push({ key: this.reader.dayKey(writer, date), writer, date });
    }
    return broken;
  }

  /** What is read while something is written is read again: it may be what was there before. */
  private async settled<T>(read: () => Promise<T>): Promise<T> {
    for (;;) {
      const before = this.writes;
      const found = await read();
      if (before === this.writes) return found;
    }
  }

  async loadRoots(): Promise<Map<string, Root>> {
    if (this.roots !== undefined) return this.roots;
    const { roots, broken } = await this.settled(() => this.reader.roots());
    for (const each of broken) this.broken.set(each.key, each);
    this.roots = roots;
    return roots;
  }

  async day(date: string): Promise<Day> {
    const known = this.days.get(date);
    if (known !== undefined) return known;
    const { broken, ...day } = await this.settled(async () =>
      this.reader.day(date, await this.loadRoots()),
    );
    for (const each of broken) this.broken.set(each.key, each);
    this.days.set(date, day);
    for (const old of this.days.keys()) {
      if (this.days.size <= DAYS_MAX) break;
      this.days.delete(old);
    }
    return day;
  }

  /** Days that a manifest speaks of: in a root, or by a manifest of their own. */
  async dates(): Promise<string[]> {
    const dates = new Set<string>();
    for (const { dates: own } of (await this.loadRoots()).values())
      for (const date of Object.keys(own)) dates.add(date);
    for (const { key } of await this.store.list(`${MANIFESTS}${this.zone}/`)) {
      const date = dateOfKey(key);
      if (date !== '') dates.add(date);
    }
    return [...dates].sort();
  }

  /** What the lake has of an epoch of a gateway, as far as manifests say. */
  async span(gateway: string, epoch: string): Promise<EpochSpan | undefined> {
    const own: Record<string, EpochSpan> = {};
    for (const { spans } of (await this.loadRoots()).values()) {
      const span = spans[gateway]?.[epoch];
      if (span === undefined) continue;
      widen(own, { [epoch]: span.ranges }, span.from);
      widen(own, { [epoch]: [] }, span.to);
    }
    return own[epoch];
  }

  /** Whether the lake may have something of these. */
  async hasAny(gateway: string, spans: Spans): Promise<boolean> {
    for (const [epoch, ranges] of Object.entries(spans)) {
      const span = await this.span(gateway, epoch);
      if (span !== undefined && touches({ [epoch]: ranges }, { [epoch]: span.ranges })) return true;
    }
    return false;
  }

  /** Whether all of them are in spans of the lake. */
  async covers(gateway: string, epoch: string, from: number, to: number): Promise<boolean> {
    const span = await this.span(gateway, epoch);
    return span !== undefined && new RangeSet(span.ranges).covers(from, to);
  }

  /** Keys of files of a gateway that may have something of these. */
  async candidates(gateway: string, spans: Spans): Promise<FileEntry[]> {
    const dates = new Set<string>();
    const all = await this.dates();
    for (const epoch of Object.keys(spans)) {
      const span = await this.span(gateway, epoch);
      if (span === undefined) continue;
      for (const date of all) if (date >= span.from && date <= span.to) dates.add(date);
    }
    const found: FileEntry[] = [];
    const folder = `/gw=${encodeName(gateway)}/`;
    for (const date of dates)
      for (const entry of (await this.day(date)).entries.values())
        if (counts(entry) && entry.key.includes(folder) && touches(entry.spans, spans))
          found.push(entry);
    return found;
  }

  private async write(key: string, document: Root | DateManifest): Promise<void> {
    await makeWithin(this.folder, 2);
    const path = join(this.folder, `${this.zone}-${this.files++}.json`);
    await writeFile(path, encodeManifest(document));
    await this.store.put(key, path);
    this.writes++;
  }

  /**
   * Says of files what is so from now on, in the manifests of this writer; `dropped` are keys that it speaks of no more.
   * Resolves with the digest of the writer's root when all of it is on stable storage.
   *
   * A kill between a day and the root would leave files that the root's spans do not name, whose rows would be written
   * beside them when they come again. A stage says in the log beforehand which days it writes and says them once more
   * (`recover.ts`). `isAlone`: nobody does; the root itself says it first, at the cost of one more write. `past`: what the root
   * says of the past from now on.
   */
  commit(
    writer: string,
    changes: ReadonlyMap<string, Change>,
    { isAlone = false, past }: { isAlone?: boolean; past?: (before: PastList) => PastList } = {},
  ): Promise<string> {
    return this.inTurn(async () => {
      const root = await this.rootOf(writer);
      const rootKey = this.reader.rootKey(writer);
      const dates = [...changes.keys()];
      // What was written last is compared before anything new is.
      for (const date of dates) await this.day(date);
      if (isAlone) {
        this.own.begin(writer, dates);
        await this.write(rootKey, { ...root, under: dates });
      }
      for (const [date, { put: said = [], dropped = [], isAnew = false, isOfLost }] of changes) {
        const day = await this.day(date);
        const put =
          isOfLost === true ? said.filter(({ key }) => !isThere(day.entries.get(key))) : said;
        const isLost = root.dates[date] !== undefined && !day.byWriter.has(writer);
        if (isLost && !isAnew) this.refuse(this.reader.dayKey(writer, date));
        const files = new Map((day.byWriter.get(writer) ?? []).map((entry) => [entry.key, entry]));
        for (const key of dropped) files.delete(key);
        for (const entry of put) {
          const gen = Math.max(0, (day.entries.get(entry.key)?.gen ?? 0) + 1);
          files.set(entry.key, { ...entry, gen });
        }
        widenBy(root, put, date);
        const list = [...files.values()];
        this.own.begin(writer, dates);
        await this.write(this.reader.dayKey(writer, date), {
          zone: this.zone,
          writer,
          date,
          files: list,
        });
        day.byWriter.set(writer, list);
        day.entries = entriesOf(day.byWriter);
        this.days.set(date, day);
        root.dates[date] = sealOf(list);
      }
      if (past !== undefined) root.past = past(root.past ?? { files: [] });
      delete root.under;
      this.own.begin(writer, dates);
      await this.write(rootKey, root);
      this.own.wrote(writer, root);
      this.roots?.set(writer, root);
      return rootDigest(root);
    }).catch((error: unknown) => {
      // What is in memory may not be what is there.
      this.own.failed(writer);
      this.refresh();
      throw error;
    });
  }

  /** The writer's root made again, as it was where that is known, else from the manifests of its days; gives its digest. */
  async remakeRoot(writer: string): Promise<string> {
    return await this.inTurn(async () => {
      await this.loadRoots();
      const root = this.own.get(writer) ?? (await this.rootOfDays(writer));
      await this.write(this.reader.rootKey(writer), root);
      this.own.wrote(writer, root);
      this.roots?.set(writer, root);
      return rootDigest(root);
    });
  }

  private async rootOfDays(writer: string): Promise<Root> {
    const root: Root = { zone: this.zone, writer, dates: {}, spans: {} };
    for (const date of await this.dates()) {
      const files = (await this.day(date)).byWriter.get(writer);
      if (files === undefined) continue;
      root.dates[date] = sealOf(files);
      widenBy(root, files, date);
    }
    return root;
  }

  /** Nothing is written on what could not be read: it is made again first. */
  private refuse(key: string): never {
    throw new HeadwaterError(
      'LAKE_UNAVAILABLE',
      `the lake: the manifest ${key} is damaged or gone and is made again`,
    );
  }

  private async rootOf(writer: string): Promise<Root> {
    const known = (await this.loadRoots()).get(writer);
    const key = this.reader.rootKey(writer);
    if (known === undefined && this.broken.has(key)) this.refuse(key);
    return structuredClone(known ?? { zone: this.zone, writer, dates: {}, spans: {} });
  }

  async digest(writer: string): Promise<string> {
    return rootDigest(await this.rootOf(writer));
  }

  /** What files of a gateway have, without those that are lost. */
  async spansOf(gateway: string): Promise<Spans> {
    const folder = `/gw=${encodeName(gateway)}/`;
    const all: Spans[] = [];
    for (const date of await this.dates())
      for (const entry of (await this.day(date)).entries.values())
        if (counts(entry) && entry.key.includes(folder)) all.push(entry.spans);
    return union(all);
  }
}

const isThere = (entry: FileEntry | undefined): boolean => entry !== undefined && counts(entry);
