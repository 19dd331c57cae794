/**
 * The lake as a whole: its store, its files, and SQL over them. Files that lie elsewhere are fetched once into a cache.
 * What is read here was compared with its checksum before: see `check.ts`.
 */
import { createHash } from 'node:crypto';
import { readdir, rename, rm, stat, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { isRetryable } from '../../contracts/errors.ts';
import { makeWithin } from '../../shared/config/folder.ts';
import { codeOf, messageOf } from '../../shared/errors.ts';
import { openDuckDb, type DuckDBConnection, type DuckDBInstance } from '../duckdb/database.ts';
import { leave } from '../duckdb/interrupt.ts';
import { sealed, type SealedLimits, type SealedViews } from '../duckdb/sealed.ts';
import { again } from './again.ts';
import { Catalog } from './catalog.ts';
import { LakeCheck } from './check.ts';
import type { FileEngine, FileRows } from './engine.ts';
import { POINTS, newest, select } from './lake-sql.ts';
import {
  gatewayOf,
  ZONES,
  current,
  folderOf,
  parseKey,
  type FileFilter,
  type LakeFile,
  type Zone,
} from './layout.ts';
import { beyond, counts, union, type Spans } from './manifest.ts';
import { answering, type ObjectStore } from './object-store.ts';
import { ParquetEngine } from './parquet.ts';
import { ParquetRows } from './parquet-read.ts';

export interface LakeOptions {
  /** For files on their way, and those that were fetched. */
  folder: string;
  memoryBytes: number;
  cacheBytes: number;
  /** Who writes and reads its files; Parquet by DuckDB when left out. */
  engine?: FileEngine;
  rows?: FileRows;
}

export interface ZoneSummary {
  zone: Zone;
  files: number;
  bytes: number;
  rows: number;
  gateways: number;
  /** YYYY-MM-DD; undefined when it is empty. */
  from?: string;
  to?: string;
}

export class Lake {
  readonly store: ObjectStore;
  readonly parquet: FileEngine;
  private readonly rows: FileRows;
  readonly check: LakeCheck;
  /** Folders of results whose rows may be said again: see `Writer`. '' is all of them. */
  readonly suspects = new Set<string>();
  /** Zones whose stage in this process has not looked yet at what it finds: whether the log is the one that the lake was filled from. */
  readonly settling = new Set<Zone>();
  /** Files of the past that are as they were written. */
  readonly pastSeen = new Set<string>();
  /** So many listed ones could not be merged. */
  pastTried = -1;
  private readonly catalogs: Record<Zone, Catalog>;
  private readonly options: LakeOptions;
  private instance: DuckDBInstance | undefined;
  private opening: Promise<DuckDBInstance> | undefined;
  private readonly turns = new Map<Zone, Promise<unknown>>();

  constructor(store: ObjectStore, options: LakeOptions) {
    this.store = store;
    this.options = options;
    const work = join(options.folder, 'lake-work');
    this.parquet = options.engine ?? new ParquetEngine(work, options.memoryBytes);
    this.rows = options.rows ?? new ParquetRows(() => this.connect());
    const manifests = join(work, 'manifests');
    this.catalogs = {
      raw: new Catalog(store, 'raw', manifests),
      readings: new Catalog(store, 'readings', manifests),
      results: new Catalog(store, 'results', manifests),
    };
    this.check = new LakeCheck(this, join(work, 'aside'));
  }

  catalog(zone: Zone): Catalog {
    return this.catalogs[zone];
  }

  /** Gives why it cannot be used now, if so: those who use it wait for it. */
  async open(): Promise<string | undefined> {
    await this.parquet.open();
    try {
      await answering(this.store);
      return undefined;
    } catch (error) {
      if (isRetryable(error)) return messageOf(error);
      throw error;
    }
  }

  /** One at a time in a zone: whoever looks at what is there, and writes what is not. */
  alone<T>(zone: Zone, work: () => Promise<T>): Promise<T> {
    const run = (this.turns.get(zone) ?? Promise.resolve()).then(work);
    this.turns.set(
      zone,
      run.catch(() => undefined), // The caller sees it; the next one takes its turn.
    );
    return run;
  }

  /** For files on their way. */
  get work(): string {
    return join(this.options.folder, 'lake-work');
  }

  private get cache(): string {
    return join(this.options.folder, 'lake-cache');
  }

  /** The files of a folder that count. */
  async folder(folder: string): Promise<LakeFile[]> {
    const found = await this.store.list(folder);
    return current(found.flatMap((info) => parseKey(info) ?? [])).valid;
  }

  /** The files of a zone that count. */
  async files(zone: Zone, { from, to, gateway }: FileFilter = {}): Promise<LakeFile[]> {
    const isOneDay = from !== undefined && from === to;
    const prefix = isOneDay
      ? gateway === undefined
        ? `${zone}/date=${from}/`
        : folderOf(zone, from, gateway)
      : `${zone}/`;
    const found = (await this.store.list(prefix)).flatMap((info) => parseKey(info) ?? []);
    const wanted = found.filter(
      (file) =>
        (from === undefined || file.date >= from) &&
        (to === undefined || file.date <= to) &&
        (gateway === undefined || file.gateway === gateway),
    );
    return current(wanted).valid;
  }

  /** Local paths of those that are as they were written; the others are set aside, and their rows made again. */
  async whole(files: readonly LakeFile[], trustMs = 0): Promise<Map<string, LakeFile>> {
    const paths = new Map<string, LakeFile>();
    for (const file of files) {
      const path = await this.check.whole(file, trustMs);
      if (path !== undefined) paths.set(path, file);
    }
    return paths;
  }

  /** Forgets the copy of a file that lies elsewhere. */
  async forget(path: string): Promise<void> {
    if (path.startsWith(this.cache)) await rm(path, { force: true });
  }

  /** Local path of a file. */
  async fetch({ key, version }: Pick<LakeFile, 'key' | 'version'>): Promise<string> {
    const direct = this.store.path(key);
    if (direct !== undefined) return direct;
    const name = createHash('sha256').update(`${key} ${version}`).digest('hex').slice(0, 32);
    const path = join(this.cache, `${name}.parquet`);
    try {
      const now = new Date(performance.timeOrigin + performance.now());
      await utimes(path, now, now);
      return path;
    } catch (error) {
      if (codeOf(error) !== 'ENOENT') throw error;
    }
    const bytes = await this.store.get(key);
    await makeWithin(this.cache, 2);
    await this.evict(bytes.length);
    const part = `${path}.${process.pid}.part`;
    await writeFile(part, bytes);
    await rename(part, path);
    return path;
  }

  /** Makes room for one more: those not used for longest go. */
  private async evict(bytes: number): Promise<void> {
    const entries: { path: string; size: number; mtimeMs: number }[] = [];
    for (const name of await readdir(this.cache)) {
      const path = join(this.cache, name);
      const { size, mtimeMs } = await stat(path);
      entries.push({ path, size, mtimeMs });
    }
    let total = bytes + entries.reduce((sum, { size }) => sum + size, 0);
    for (const { path, size } of entries.sort((a, b) => a.mtimeMs - b.mtimeMs)) {
      if (total <= this.options.cacheBytes) return;
      await rm(path, { force: true });
      total -= size;
    }
  }

  async put(key: string, file: string): Promise<void> {
    try {
      await this.store.put(key, file);
    } finally {
      await rm(file, { force: true });
    }
  }

  /** Works with local files and leaves none of them behind. */
  async using(paths: readonly string[], work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } finally {
      await this.discard(paths);
    }
  }

  /** Local files that nobody wants any more. */
  async discard(paths: readonly string[]): Promise<void> {
    for (const path of paths) await rm(path, { force: true });
  }

  async remove(key: string): Promise<void> {
    await this.store.remove(key);
  }

  // ---- rows ----

  /** Local paths of the files of a zone that a question reads. Throws LAKE_UNAVAILABLE while something of them is lost. */
  private async paths(zone: Zone, filter: FileFilter): Promise<string[]> {
    const found = await this.check.files(zone, filter);
    const paths = [...(await this.whole(found, filter.trustMs)).keys()];
    // What was just found damaged is as much a reason to wait as what had been.
    this.check.refuseLost(zone, filter);
    return paths;
  }

  /** Works on the rows of a zone. Begins again when files were merged meanwhile. */
  async read<T>(
    zone: Zone,
    filter: FileFilter,
    work: (rows: FileRows, paths: readonly string[]) => Promise<T>,
  ): Promise<T> {
    return await again(async () => await work(this.rows, await this.paths(zone, filter)));
  }

  /** The highest revision that it has of an origin's results; 0: it has none. Throws LAKE_UNAVAILABLE. */
  async newestRevision(origin: string): Promise<number> {
    return await again(async () => {
      const local = await this.whole(await this.files('results', { gateway: origin }));
      return await this.rows.newestRevision([...local.keys()]);
    });
  }

  // ---- SQL ----

  private async connect(): Promise<DuckDBConnection> {
    this.opening ??= openDuckDb(':memory:', {
      memoryBytes: this.options.memoryBytes,
      files: true,
      spill: join(this.options.folder, 'lake-work', 'query-spill'),
    });
    this.instance = await this.opening;
    return await this.instance.connect();
  }

  /**
   * Works on a connection whose views `raw`, `readings`, `results` (newest revisions) and `points` (a number of a reading
   * or result a row) show the files of these dates. Begins again when files were merged meanwhile.
   */
  async query<T>(
    filter: FileFilter,
    work: (connection: DuckDBConnection) => Promise<T>,
  ): Promise<T> {
    return await again(async () => {
      const connection = await this.connect();
      try {
        await this.prepare(connection, filter);
        return await work(connection);
      } finally {
        await leave(connection);
      }
    });
  }

  /** The same for SQL that is not ours: it sees these views and nothing else (`duckdb/sealed.ts`). */
  async sealed<T>(
    filter: FileFilter,
    limits: Omit<SealedLimits, 'spill' | 'memoryBytes'>,
    work: (connection: DuckDBConnection) => Promise<T>,
  ): Promise<T> {
    const { folder, memoryBytes } = this.options;
    const spill = join(folder, 'lake-work', 'job-spill');
    return await again(async () =>
      sealed(await this.views(filter), { ...limits, spill, memoryBytes }, work),
    );
  }

  private async prepare(connection: DuckDBConnection, filter: FileFilter): Promise<void> {
    await connection.run("SET TimeZone = 'UTC'");
    for (const [name, sql] of (await this.views(filter)).views)
      await connection.run(`CREATE OR REPLACE TEMP VIEW "${name}" AS ${sql}`);
  }

  /** The views of these dates, and the files that they read. */
  private async views(filter: FileFilter): Promise<SealedViews> {
    const zones = filter.zones ?? ZONES;
    const views = new Map<string, string>();
    const files: string[] = [];
    for (const zone of zones) {
      const own =
        zone === 'readings' && filter.readingsOf !== undefined
          ? { ...filter, gateway: filter.readingsOf }
          : filter;
      const paths = await this.paths(zone, own);
      files.push(...paths);
      const all = select(zone, paths);
      const isNewest = zone === 'results' && filter.allRevisions !== true;
      views.set(zone, isNewest ? newest(all) : all);
    }
    if (zones.includes('readings')) views.set('points', POINTS);
    return { views, files };
  }

  /** Sequences of a gateway that the zones have, by epoch: for the ledger. What is lost is not among them. */
  async has(gateway: string): Promise<{ raw: Spans; readings: Spans }> {
    const of = async (zone: Zone): Promise<Spans> => {
      const all: Spans[] = [];
      for (const { spans } of (await this.catalog(zone).loadRoots()).values())
        for (const [epoch, { ranges }] of Object.entries(spans[gateway] ?? {}))
          all.push({ [epoch]: ranges });
      const lost = [...this.check.lost.values()].filter(
        ({ zone: own, entry }) => own === zone && gatewayOf(entry.key) === gateway,
      );
      return beyond(union(all), union(lost.map(({ entry }) => entry.spans)));
    };
    return { raw: await of('raw'), readings: await of('readings') };
  }

  async summary(): Promise<ZoneSummary[]> {
    const summaries: ZoneSummary[] = [];
    for (const zone of ZONES) {
      const files = await this.files(zone);
      const dates = files.map(({ date }) => date);
      const summary: ZoneSummary = {
        zone,
        files: files.length,
        bytes: files.reduce((sum, { bytes }) => sum + bytes, 0),
        rows: await this.countRows(zone, files),
        gateways: new Set(files.map(({ gateway }) => gateway)).size,
      };
      if (dates.length > 0) {
        summary.from = dates.reduce((a, b) => (a < b ? a : b));
        summary.to = dates.reduce((a, b) => (a > b ? a : b));
      }
      summaries.push(summary);
    }
    return summaries;
  }

  /** As the manifests say; a file that none of them speaks of is looked into. */
  private async countRows(zone: Zone, files: readonly LakeFile[]): Promise<number> {
    const catalog = this.catalog(zone);
    let rows = 0;
    for (const file of files) {
      const entry = (await catalog.day(file.date)).entries.get(file.key);
      if (entry !== undefined) rows += counts(entry) ? entry.rows : 0;
      else
        rows += await this.fetch(file)
          .then((path) => this.parquet.facts(zone, path))
          .then((facts) => facts.rows)
          .catch((error: unknown) => {
            if (codeOf(error) !== 'LAKE_UNAVAILABLE') throw error;
            return 0; // Whoever checks the lake says so.
          });
    }
    return rows;
  }

  async close(): Promise<void> {
    await this.parquet.close();
    this.instance?.closeSync();
    await this.store.close();
  }
}
