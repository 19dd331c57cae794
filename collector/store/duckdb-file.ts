/**
 * The embedded store's file: opened afresh after every trouble, set aside only when a check proves it damaged.
 *
 * An error of the disk (EIO, ENOSPC, EMFILE, EACCES, EROFS …) is not damage: it is told, the file is closed, and the next
 * call opens it again. After a failed write the kernel may hold pages as clean that never reached the disk: before such a
 * file is believed every byte of it is written once more and synced, so that what is read is what a power cut leaves.
 *
 * Damage is proven when a fresh open or a scan of every table fails for what the file says while all of its bytes can be
 * read. The folder is renamed then; whatever fails on the way is tried again from where it stood.
 *
 * One instance of DuckDB has the file at a time. It lives on in its connections and their answers when it was closed, until nobody
 * holds one; so whoever reads is stopped before the file is opened afresh, and none writes anything when it goes: it would
 * take the next one's write-ahead log for its own, and delete it.
 */
import { mkdir, open, readdir, rename } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { makeFolder } from '../../shared/config/folder.ts';
import { HeadwaterError, messageOf } from '../../shared/errors.ts';
import type { Notify } from '../../shared/telemetry/log.ts';
import { interruption, settle } from '../duckdb/interrupt.ts';
import { openDuckDb, type DuckDBConnection, type DuckDBInstance } from '../duckdb/database.ts';

export interface DuckDbOptions {
  folder: string;
  memoryBytes: number;
  now: () => number;
  /** So many new points are put in the order of their series at once: see `duckdb-order.ts`. */
  blockPoints?: number;
}

export const DAMAGED_TEXT =
  'the embedded store is damaged; it was set aside and is filled again from the log and the lake';

const firstLine = (error: unknown): string => messageOf(error).split('\n')[0] ?? '';

/** What DuckDB says of bytes that cannot be its own: of blocks, headers and the write-ahead log, which have checksums. */
const isDamage = (error: unknown): boolean =>
  /corrupt|checksum|not a valid DuckDB|Could not read enough bytes|Failure while replaying WAL|Serialization Error|INTERNAL Error/i.test(
    messageOf(error),
  ) && !isOfDisk(error);

/** The system's own words for errors that may pass; DuckDB hands them on as they are. */
const isOfDisk = (error: unknown): boolean =>
  /Input\/output error|No space left|Too many open files|Permission denied|Operation not permitted|Read-only file system|quota exceeded|Cannot allocate memory|Stale file handle|lock on file/i.test(
    messageOf(error),
  );

/** What it would do when its last connection goes, whoever has the file by then. It is done when the store is closed. */
const WRITES_NOTHING_AT_ITS_END = 'PRAGMA disable_checkpoint_on_shutdown';

const CHUNK_BYTES = 1024 * 1024;
/** Connections that are kept for the next question. */
const IDLE_MAX = 4;

/** Reads every byte of a file and, when asked, writes it again in its place and syncs it. `opens`: a file system that is watched. */
export async function passOver(path: string, rewrites: boolean, opens = open): Promise<void> {
  const file = await opens(path, rewrites ? 'r+' : 'r');
  try {
    const chunk = Buffer.alloc(CHUNK_BYTES);
    for (let at = 0; ; ) {
      const { bytesRead } = await file.read(chunk, 0, CHUNK_BYTES, at);
      if (bytesRead === 0) break;
      if (rewrites) await file.write(chunk, 0, bytesRead, at);
      at += bytesRead;
    }
    if (rewrites) await file.sync();
  } finally {
    await file.close();
  }
}

export class DuckDbFile {
  private readonly options: DuckDbOptions;
  private readonly notify: Notify;
  private instance: DuckDBInstance | undefined;
  private writer: DuckDBConnection | undefined;
  /** Given back by questions that have come to their end. */
  private readonly idle: DuckDBConnection[] = [];
  private readonly instanceOf = new WeakMap<DuckDBConnection, DuckDBInstance>();
  /** Connections that somebody has, and how he stops: it resolves when nothing runs on it any more, and nothing will. */
  private readonly lent = new Map<DuckDBConnection, () => Promise<void>>();
  private stopping: Promise<void>[] = [];
  /** A write failed: what the cache holds may not be on the disk. */
  private isSuspect = false;
  /** Something said that it is damaged: to be proven before it is used again. */
  private accused: string | undefined;
  /** Proven damaged, and not yet set aside. */
  private condemned: string | undefined;
  private told = '';
  private opened = false;
  private closed = false;

  constructor(options: DuckDbOptions, notify: Notify) {
    this.options = options;
    this.notify = notify;
  }

  private get path(): string {
    return join(this.options.folder, 'store', 'readings.duckdb');
  }

  /**
   * Open, or opened now: `isNew` says that it was, so that what memory knows of it must be loaded again.
   * Throws STORE_UNAVAILABLE.
   */
  async use(schema: readonly string[]): Promise<{ writer: DuckDBConnection; isNew: boolean }> {
    if (this.closed) throw new HeadwaterError('STORE_UNAVAILABLE', 'the embedded store is closed');
    if (this.writer !== undefined) return { writer: this.writer, isNew: false };
    await Promise.all(this.stopping.splice(0));
    try {
      await this.prepare();
      const writer = await this.openOrProve(schema);
      this.writer = writer;
      if (this.told !== '')
        this.notify({
          level: 'info',
          event: 'store_open',
          text: 'the embedded store is open again',
        });
      this.told = '';
      this.opened = true;
      return { writer, isNew: true };
    } catch (error) {
      this.shut();
      const text = `the embedded store ${this.path} cannot be ${this.opened ? 'used' : 'opened'}: ${firstLine(error)}; it is tried again`;
      if (text !== this.told) this.notify({ level: 'error', event: 'store_disk', text });
      this.told = text;
      throw new HeadwaterError('STORE_UNAVAILABLE', text, { cause: error });
    }
  }

  /** What was left undone before it may be opened. */
  private async prepare(): Promise<void> {
    if (this.condemned !== undefined) await this.setAside(this.condemned);
    await makeFolder(dirname(this.path));
    if (this.isSuspect) {
      for (const file of await this.files()) await passOver(file, true);
      this.isSuspect = false;
    }
    if (this.accused === undefined) return;
    const why = this.accused;
    if (await this.isProven()) await this.setAside(why);
    this.accused = undefined;
  }

  private async files(): Promise<string[]> {
    const folder = dirname(this.path);
    return (await readdir(folder)).map((name) => join(folder, name));
  }

  private async openOrProve(schema: readonly string[]): Promise<DuckDBConnection> {
    try {
      return await this.openFile(schema);
    } catch (error) {
      this.shut();
      if (!isDamage(error) || !(await this.isProven())) throw error;
      await this.setAside(firstLine(error));
      return await this.openFile(schema);
    }
  }

  private async openFile(schema: readonly string[]): Promise<DuckDBConnection> {
    const { memoryBytes } = this.options;
    this.instance = await openDuckDb(this.path, { memoryBytes, files: false });
    const writer = await this.instance.connect();
    for (const statement of [WRITES_NOTHING_AT_ITS_END, ...schema]) await writer.run(statement);
    return writer;
  }

  /** A fresh open and a scan of every block fail for what the file says, and all of its bytes can be read. */
  private async isProven(): Promise<boolean> {
    for (const file of await this.files()) await passOver(file, false);
    try {
      this.instance = await openDuckDb(this.path, {
        memoryBytes: this.options.memoryBytes,
        files: false,
      });
      const connection = await this.instance.connect();
      await connection.run(WRITES_NOTHING_AT_ITS_END);
      const tables = await connection.runAndReadAll(
        "SELECT table_name FROM duckdb_tables() WHERE NOT temporary AND database_name <> 'temp'",
      );
      for (const [name] of tables.getRows())
        await connection.run(
          `SELECT bit_xor(hash(t)) FROM "${String(name).replaceAll('"', '""')}" AS t`,
        );
      return false;
    } catch (error) {
      if (isDamage(error)) return true;
      throw error;
    } finally {
      this.shut();
    }
  }

  /** Law 7: never deleted. */
  private async setAside(why: string): Promise<void> {
    this.condemned = why;
    this.shut();
    const stamp = new Date(this.options.now()).toISOString().replaceAll(':', '-');
    const aside = join(this.options.folder, 'damaged', `store-${stamp}`);
    await mkdir(dirname(aside), { recursive: true });
    await rename(dirname(this.path), aside);
    this.condemned = undefined;
    this.isSuspect = false;
    await mkdir(dirname(this.path), { recursive: true });
    this.notify({
      level: 'error',
      event: 'store_set_aside',
      text: `the embedded store is damaged (${why}) and was set aside to ${aside}; it is filled again from the log and the lake`,
    });
  }

  /** Undefined while it is closed. */
  get current(): DuckDBConnection | undefined {
    return this.writer;
  }

  /** For one query; left, or given back, by whoever asked for it and says how he stops. Throws STORE_UNAVAILABLE. */
  async connect(): Promise<DuckDBConnection> {
    const { instance } = this;
    if (instance === undefined)
      throw new HeadwaterError('STORE_UNAVAILABLE', 'the embedded store is being opened');
    const connection = this.idle.pop() ?? (await instance.connect());
    this.instanceOf.set(connection, instance);
    return connection;
  }

  lend(connection: DuckDBConnection, stop: () => Promise<void>): void {
    if (this.isOfOpen(connection)) this.lent.set(connection, stop);
    else this.stopping.push(stop());
  }

  isOfOpen(connection: DuckDBConnection): boolean {
    return this.instanceOf.get(connection) === this.instance;
  }

  /** Nothing runs on it, but something of its own may be left in it. */
  leave(connection: DuckDBConnection): void {
    this.lent.delete(connection);
    connection.closeSync();
  }

  /** Nothing runs on it, and nothing of its own is left in it. */
  giveBack(connection: DuckDBConnection): void {
    this.lent.delete(connection);
    if (this.isOfOpen(connection) && this.idle.length < IDLE_MAX) this.idle.push(connection);
    else connection.closeSync();
  }

  /** A call failed: whatever it was, the next one begins with a fresh open. `by`: not the writer. */
  failed(error: unknown, wasWriting: boolean, by?: DuckDBConnection): HeadwaterError {
    if (by !== undefined && !this.isOfOpen(by))
      return new HeadwaterError(
        'STORE_UNAVAILABLE',
        'the embedded store was opened afresh while it was read',
        { cause: error },
      );
    this.shut();
    if (isOfDisk(error) || /FATAL|invalidated|fsync/i.test(messageOf(error))) this.isSuspect = true;
    if (isDamage(error)) this.accused = firstLine(error);
    const text = `the embedded store cannot be ${wasWriting ? 'written' : 'read'}: ${firstLine(error)}; it is opened afresh`;
    if (text !== this.told) this.notify({ level: 'error', event: 'store_disk', text });
    this.told = text;
    return new HeadwaterError('STORE_UNAVAILABLE', text, { cause: error });
  }

  /** On a connection of its own, to its end. */
  async apart<T>(
    connection: DuckDBConnection,
    work: (connection: DuckDBConnection) => Promise<T>,
  ): Promise<T> {
    const { begin, end } = interruption(connection);
    let left: () => void = () => undefined;
    const gone = new Promise<void>((resolve) => (left = resolve));
    this.lend(connection, async () => {
      begin();
      await gone;
    });
    try {
      return await work(connection);
    } catch (error) {
      throw this.failed(error, false, connection);
    } finally {
      end();
      await settle(connection);
      this.leave(connection);
      left();
    }
  }

  private shut(): void {
    for (const stop of this.lent.values()) this.stopping.push(stop());
    this.lent.clear();
    try {
      for (const connection of this.idle.splice(0)) connection.closeSync();
      this.writer?.closeSync();
      this.instance?.closeSync();
    } catch {
      // What cannot even be closed is not used any more; the next open says whether it can be.
    }
    this.writer = undefined;
    this.instance = undefined;
  }

  /** What is in the log before the file is brought into it, where nobody reads. */
  async close(): Promise<void> {
    this.closed = true;
    await this.writer?.run('CHECKPOINT').catch(() => undefined); // The next open reads the log.
    this.shut();
    await Promise.all(this.stopping.splice(0));
  }
}
