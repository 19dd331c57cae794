/**
 * Whether the lake is as it was written. A file is compared with the checksum of its manifest entry before it is merged,
 * rewritten or queried, and by the scrub (`scrub.ts`) from time to time; what is damaged is set aside under `_aside/`, what
 * is missing is noted, both are told, and their rows are made again (`heal.ts`). An error of the disk is not damage: it is
 * thrown, and whoever asked tries again.
 */
import { randomBytes } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { makeWithin } from '../../shared/config/folder.ts';
import { HeadwaterError, codeOf, messageOf } from '../../shared/errors.ts';
import type { Notify } from '../../shared/telemetry/log.ts';
import { isNoParquet } from './again.ts';
import type { Catalog } from './catalog.ts';
import type { FileEngine } from './engine.ts';
import { amongForgotten } from './forgotten.ts';
import type { FileFilter, LakeFile, Zone } from './layout.ts';
import { ZONES, dateOfKey, gatewayOf } from './layout.ts';
import { LessZones } from './less.ts';
import { SpanSet, absent, counts, isAs, isLost, type FileEntry, type Sum } from './manifest.ts';
import type { ObjectStore } from './object-store.ts';
import type { Pass } from './pass.ts';
import { SeenFiles } from './seen.ts';
import { sumFile } from './sums.ts';

export const ASIDE = '_aside/';

const nowMs = (): number => Math.round(performance.timeOrigin + performance.now());

/** What is known of a file that is not as it was written. */
export interface Damage {
  zone: Zone;
  key: string;
  /** '': whichever. */
  date: string;
  gateway: string;
  rows: number;
  kind: 'damaged' | 'missing';
  reason: string;
  /** Epoch milliseconds. */
  since: number;
  /** No source has all of its rows. */
  final: boolean;
}

/** What of the lake is looked at. */
export interface Checked {
  store: ObjectStore;
  parquet: Pick<FileEngine, 'facts'>;
  catalog(zone: Zone): Catalog;
  files(zone: Zone, filter?: FileFilter): Promise<LakeFile[]>;
  folder(folder: string): Promise<LakeFile[]>;
  fetch(file: Pick<LakeFile, 'key' | 'version'>): Promise<string>;
  /** The copy of a file that lies elsewhere. */
  forget(path: string): Promise<void>;
  remove(key: string): Promise<void>;
}

export class LakeCheck {
  notify: Notify = () => undefined;
  /** Called when rows have to be made again: those of `lost`, and whatever the zones of `less` lack. */
  onLost: () => void = () => undefined;
  /** Zones that have less than they had, or may have, and nobody knows what. */
  readonly less: LessZones;
  /** Raw frames that the lake has and a log, restored from an older copy, has not: they are said again in it. */
  readonly ahead = new SpanSet();
  /** The last look at all of it that came to its end. */
  last: Pass | undefined;
  /** Files found damaged or missing since the start. */
  found = 0;
  /** Open ones, by key. */
  readonly lost = new Map<string, { zone: Zone; entry: FileEntry }>();
  private readonly lake: Checked;
  private readonly folder: string;
  /** Of what this process says of files that others wrote. */
  readonly writer = `${randomBytes(4).toString('hex')}-check`;
  private readonly seen = new SeenFiles();
  private copies = 0;
  /** On their way, by key. */
  private readonly aside = new Map<string, Promise<void>>();

  /** `folder`: for what is set aside, on its way. */
  constructor(lake: Checked, folder: string) {
    this.lake = lake;
    this.folder = folder;
    this.less = new LessZones(lake.store, folder, this.writer.replace('-check', ''));
  }

  get damages(): Damage[] {
    const zones = [...this.less.zones].flatMap(([zone, { since, isSure }]): Damage[] => {
      const reason = 'manifests and files are gone, and nothing says what was in them';
      const all = { date: '', gateway: '~', rows: 0, kind: 'missing' as const, final: false };
      return isSure ? [{ zone, key: `${zone}/`, reason, since, ...all }] : [];
    });
    const files = [...this.lost].map(
      ([key, { zone, entry }]): Damage => ({
        zone,
        key,
        date: dateOfKey(key),
        gateway: gatewayOf(key),
        rows: entry.rows,
        kind: entry.gone === 'missing' ? 'missing' : 'damaged',
        reason: entry.reason ?? '',
        since: entry.since ?? 0,
        final: entry.final === true,
      }),
    );
    return [...zones, ...files];
  }

  /** Local path of a file that is as it was written; undefined: it is not, and counts no more. */
  async whole(file: LakeFile, trustMs: number): Promise<string | undefined> {
    const catalog = this.lake.catalog(file.zone);
    let entry = (await catalog.day(file.date)).entries.get(file.key);
    if (entry === undefined) {
      // Another process may have written it since.
      catalog.forget(file.date);
      entry = (await catalog.day(file.date)).entries.get(file.key);
    }
    if (entry === undefined) return await this.readable(file);
    if (!counts(entry)) return undefined;
    const path = await this.lake.fetch(file);
    if (this.seen.has(file, trustMs)) return path;
    const reason = await this.compare(file, entry, path);
    if (reason === undefined) {
      this.seen.add(file);
      return path;
    }
    return await this.again(file);
  }

  /** Local path of a file that no manifest speaks of; undefined: its bytes are no Parquet, and it counts no more. */
  private async readable(file: LakeFile): Promise<string | undefined> {
    const { key, zone } = file;
    for (let attempt = 1; ; attempt++) {
      const path = await this.lake.fetch(file);
      if (this.seen.has(file)) return path;
      try {
        await this.lake.parquet.facts(zone, path);
        this.seen.add(file);
        return path;
      } catch (error) {
        // Any other trouble is none of its bytes, and who reads it hears of it.
        if (!isNoParquet(error)) return path;
        // Its own trouble, where its bytes can be read; and it may have been replaced in this moment.
        await this.sumOf(key, path);
        if (attempt === 1) continue;
        await this.unreadable(file);
        return undefined;
      }
    }
  }

  /** Why it is not as it was written. Throws LAKE_UNAVAILABLE when it cannot be read, NOT_FOUND when it is gone. */
  private async compare(
    { key }: LakeFile,
    entry: FileEntry,
    path: string,
  ): Promise<string | undefined> {
    const sum = await this.sumOf(key, path);
    if (isAs(entry, sum)) return undefined;
    return sum.bytes === entry.bytes
      ? `its checksum is ${sum.crc} and was ${entry.crc}`
      : `it has ${sum.bytes} bytes and had ${entry.bytes}`;
  }

  private async sumOf(key: string, path: string): Promise<Sum> {
    try {
      return await sumFile(path);
    } catch (error) {
      const code = codeOf(error) === 'ENOENT' ? 'NOT_FOUND' : 'LAKE_UNAVAILABLE';
      const text = `the lake: reading ${key}: ${messageOf(error)}`;
      throw new HeadwaterError(code, text, { cause: error });
    }
  }

  /** Looked at once more, with what store and manifests say now: it may have been replaced in this moment. */
  private async again(file: LakeFile): Promise<string | undefined> {
    const { key, zone, date } = file;
    const catalog = this.lake.catalog(zone);
    catalog.forget(date);
    const folder = key.slice(0, key.lastIndexOf('/') + 1);
    const now = (await this.lake.folder(folder)).find((each) => each.key === key);
    const entry = (await catalog.day(date)).entries.get(key);
    if (now === undefined) throw new HeadwaterError('NOT_FOUND', `the lake has no ${key} any more`);
    await this.lake.forget(await this.lake.fetch(now));
    const path = await this.lake.fetch(now);
    if (entry === undefined) return path;
    if (!counts(entry)) return undefined;
    const reason = await this.compare(now, entry, path);
    if (reason === undefined) return path;
    await this.setAside(zone, entry, 'damaged', reason);
    return undefined;
  }

  /** Files that count of these dates; what manifests have and the store has not is noted as missing. */
  async files(zone: Zone, filter: FileFilter): Promise<LakeFile[]> {
    const files = await this.lake.files(zone, filter);
    const catalog = this.lake.catalog(zone);
    const { from = '', to = '~', gateway } = filter;
    const isAsked = (date: string): boolean => date >= from && date <= to;
    const dates = new Set((await catalog.dates()).filter(isAsked));
    for (const date of dates)
      for (const entry of await this.missing(zone, date, files))
        if (gateway === undefined || gatewayOf(entry.key) === gateway)
          await this.setAside(zone, entry, 'missing', 'it is not there');
    return files;
  }

  /** Entries of a day whose file is neither there nor merged into one that is. */
  async missing(zone: Zone, date: string, files: readonly LakeFile[]): Promise<FileEntry[]> {
    const catalog = this.lake.catalog(zone);
    if (absent((await catalog.day(date)).entries.values(), files).length === 0) return [];
    // With what store and manifests say now: it may have been merged in this moment.
    catalog.forget(date);
    const { entries } = await catalog.day(date);
    const there = await this.lake.files(zone, { from: date, to: date });
    const gone = absent(entries.values(), there);
    const forgotten = await amongForgotten(this.lake.store, date, gone);
    // The manifest that said so is damaged or gone.
    for (const entry of gone)
      if (forgotten.has(entry.key)) await this.say(zone, { ...entry, gone: 'emptied' });
    return gone.filter(({ key }) => !forgotten.has(key));
  }

  /** Throws LAKE_UNAVAILABLE while something of these dates is lost and may come again. */
  refuseLost(zone: Zone, { from = '', to = '~', gateway, withoutLost = false }: FileFilter): void {
    if (withoutLost) return;
    for (const damage of this.damages) {
      if (damage.zone !== zone || damage.final) continue;
      const { key, date, kind, reason, rows } = damage;
      const isAll = date === '';
      if (!isAll && (date < from || date > to)) continue;
      if (!isAll && gateway !== undefined && damage.gateway !== gateway) continue;
      const what = isAll ? 'what it lacks is' : `its ${rows} rows are`;
      throw new HeadwaterError(
        'LAKE_UNAVAILABLE',
        `the lake: ${isAll ? 'a part of ' : ''}${key} is ${kind} (${reason}) and ${what} being made again`,
      );
    }
  }

  /**
   * Counts no more from here on; its rows are to be made again. Resolves when that is on stable storage. Stages, scrub and
   * queries may find the same at the same time: it is set aside once, else the second would look for what was moved already.
   */
  async setAside(
    zone: Zone,
    entry: FileEntry,
    gone: 'damaged' | 'missing',
    reason: string,
  ): Promise<void> {
    const begun = this.aside.get(entry.key);
    if (begun !== undefined) return await begun;
    const work = this.putAside(zone, entry, gone, reason).finally(() =>
      this.aside.delete(entry.key),
    );
    this.aside.set(entry.key, work);
    await work;
  }

  private async putAside(
    zone: Zone,
    entry: FileEntry,
    gone: 'damaged' | 'missing',
    reason: string,
  ): Promise<void> {
    const { key } = entry;
    const since = nowMs();
    const lost: FileEntry = { ...entry, gone, reason, since };
    await this.say(zone, lost);
    let where = '';
    if (gone === 'damaged') where = await this.move(key, since);
    this.found++;
    this.lost.set(key, { zone, entry: lost });
    this.notify({
      level: 'error',
      event: 'lake_damaged',
      text: `the lake: ${key} is ${gone}: ${reason}${where}; its ${entry.rows} rows are made again from what still has them`,
    });
    this.onLost();
  }

  /** A file that no manifest speaks of and nothing can be read of. */
  async unreadable({ key, bytes, zone }: LakeFile): Promise<void> {
    const entry = { key, bytes, crc: '', rows: 0, groups: [], spans: {}, gen: 0 };
    // What it had is not known.
    await this.hasLess(zone);
    await this.setAside(zone, entry, 'damaged', 'it is no Parquet file that can be read');
  }

  /** Something is gone of it, and nobody knows what. Resolves when that is on stable storage. Throws LAKE_UNAVAILABLE. */
  async hasLess(zone: Zone): Promise<void> {
    const since = nowMs();
    await this.less.mark(zone, since);
    this.less.note(zone, true, since);
    this.onLost();
  }

  /** In the manifests of this process. `isOfLost`: unless it has been put again meanwhile. */
  async say(zone: Zone, entry: FileEntry, isOfLost?: true): Promise<void> {
    // What it said before of this day and is damaged now, is found out again.
    const change = { put: [entry], isAnew: true as const, ...(isOfLost && { isOfLost }) };
    const date = dateOfKey(entry.key);
    const catalog = this.lake.catalog(zone);
    if (isOfLost) catalog.forget(date);
    await catalog.commit(this.writer, new Map([[date, change]]), { isAlone: true });
  }

  private async move(key: string, since: number): Promise<string> {
    const aside = `${ASIDE}${key}.${since}`;
    const { store } = this.lake;
    const bytes = await store.get(key).catch((error: unknown) => {
      if (codeOf(error) !== 'NOT_FOUND') throw error;
      return undefined;
    });
    if (bytes === undefined) return '';
    await makeWithin(this.folder, 2);
    const path = join(this.folder, String(this.copies++));
    await writeFile(path, bytes);
    await store.put(aside, path);
    await store.remove(key);
    return `; what there is of it is kept as ${aside}`;
  }

  /** Its rows are here again, or, as `said`, nobody needs them. */
  async settle(key: string, said?: string): Promise<void> {
    const lost = this.lost.get(key);
    if (lost === undefined) return;
    const { final: _, ...entry } = lost.entry;
    await this.say(lost.zone, { ...entry, gone: 'emptied' }, true);
    this.lost.delete(key);
    const text = said ?? `the lake: the ${entry.rows} rows of ${key} are there again`;
    this.notify({ level: said === undefined ? 'info' : 'warn', event: 'lake_healed', text });
  }

  /** No source has all of its rows: nobody waits for them any more. */
  async giveUp(key: string, text: string): Promise<void> {
    const lost = this.lost.get(key);
    if (lost === undefined || lost.entry.final === true) return;
    lost.entry = { ...lost.entry, final: true };
    await this.say(lost.zone, lost.entry, true);
    const now = (await this.lake.catalog(lost.zone).day(dateOfKey(key))).entries.get(key);
    if (now !== undefined && counts(now)) return await this.settle(key);
    this.notify({ level: 'error', event: 'lake_lost', text });
  }

  /** What earlier processes found and have not made again. Throws LAKE_UNAVAILABLE. */
  async learnAll(): Promise<void> {
    await this.less.learn();
    for (const zone of ZONES) {
      const catalog = this.lake.catalog(zone);
      const dates = new Set<string>();
      for (const { dates: own } of (await catalog.loadRoots()).values())
        for (const [date, { lost = 0 }] of Object.entries(own)) if (lost > 0) dates.add(date);
      for (const date of dates)
        for (const entry of (await catalog.day(date)).entries.values()) this.learn(zone, entry);
    }
    if (this.less.zones.size > 0) this.onLost();
  }

  /** What an earlier process found, and was not made again. */
  learn(zone: Zone, entry: FileEntry): void {
    if (!isLost(entry) || this.lost.has(entry.key)) return;
    this.lost.set(entry.key, { zone, entry });
    this.onLost();
  }
}
