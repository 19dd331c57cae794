/**
 * A question to the embedded store on a connection of its own: it reads what is committed while the writer goes on, and has
 * its own temporary tables. It is bounded: by time, by DuckDB's memory, and by turns, since each call holds one of the four
 * threads that Node.js has for all files and LevelDB: questions never have more than two of them.
 *
 * Rows come in chunks of 2048, each on a turn of the event loop of its own; whoever asks takes the next when there is room
 * for it, so an answer never stands in memory. A question that is given up (its signal) is interrupted.
 */
import { setImmediate } from 'node:timers/promises';
import { HeadwaterError, messageOf } from '../../shared/errors.ts';
import type { Series } from './duckdb-catalog.ts';
import type { Recentable } from './duckdb-recent.ts';
import type { TailPoints } from './tails.ts';
import { givenUp, interruption, settle, type Interruption } from '../duckdb/interrupt.ts';
import { chunksOf, type DuckDBConnection, type Pass } from '../duckdb/database.ts';

const CALLS_MAX = 2;
/** Rows: some milliseconds. */
const APPENDED_AT_ONCE = 5000;

/** A store that answers SQL of ours over its own tables. */
export interface SqlStore {
  session(limits: SessionLimits): Promise<Session>;
  /** Series that have points now. */
  known(): Promise<readonly Series[]>;
  /** Points in [fromNs, toNs] of few series, in their order, where that is a small question; else undefined. */
  recent(
    session: Session,
    wanted: readonly Recentable[],
    fromNs: bigint,
    toNs: bigint,
  ): Promise<TailPoints[] | undefined>;
}

export const answersSql = (store: object): store is SqlStore =>
  'session' in store && 'known' in store;

/** Who waits, in order of coming. */
class Gate {
  private free = CALLS_MAX;
  private readonly waiting: (() => void)[] = [];

  async pass<T>(work: () => Promise<T>): Promise<T> {
    if (this.free > 0) this.free--;
    else await new Promise<void>((resume) => this.waiting.push(resume));
    try {
      return await work();
    } finally {
      const next = this.waiting.shift();
      if (next === undefined) this.free++;
      else next();
    }
  }
}

const gate = new Gate();

/** For questions to other databases of this process: the threads are the same. */
export const pass: Pass = (work) => gate.pass(work);

export interface SessionLimits {
  timeoutMs: number;
  /** Aborted: nobody waits for the answer any more. */
  signal: AbortSignal | undefined;
}

export const LIMITED =
  /^(?:TransactionContext Error: )?(?:Out of Memory Error|INTERRUPT Error|Interrupted)/i;

/** What DuckDB says of a question and the numbers in it: the file that it is asked of is as it was. */
const OF_QUESTION = /^(?:Invalid Input|Conversion|Out of Range|Binder|Parser) Error: (.*)$/m;

/** Whose connection it is. */
export interface SessionOwner {
  /** Makes of DuckDB's error what the store says, and has the file opened afresh where it is at fault. */
  failed(error: unknown): HeadwaterError;
  /** Nothing runs on it any more. `isClean`: it is as it was. */
  left(isClean: boolean): void;
}

/** A column of a temporary table. */
export type Column = 'INTEGER' | 'BIGINT' | 'DOUBLE' | 'VARCHAR';

export class Session {
  private readonly connection: DuckDBConnection;
  private readonly limits: SessionLimits;
  private readonly owner: SessionOwner;
  private readonly timer: NodeJS.Timeout;
  private ended: 'late' | 'gone' | 'stopped' | undefined;
  private readonly interruption: Interruption;
  private tables = 0;
  /** Answers that were not read to their end. */
  private unread = 0;
  private isClosed = false;
  private running: Promise<unknown> = Promise.resolve();

  constructor(connection: DuckDBConnection, limits: SessionLimits, owner: SessionOwner) {
    this.connection = connection;
    this.interruption = interruption(connection);
    this.limits = limits;
    this.owner = owner;
    this.timer = setTimeout(() => this.end('late'), limits.timeoutMs);
    limits.signal?.addEventListener('abort', this.gone, { once: true });
    if (limits.signal?.aborted === true) this.end('gone');
  }

  private readonly gone = (): void => this.end('gone');

  /** The file is to be opened afresh. Resolves when nothing of it runs any more, and nothing more will. */
  async stop(): Promise<void> {
    this.end('stopped');
    await this.running;
  }

  private end(why: 'late' | 'gone' | 'stopped'): void {
    this.ended ??= why;
    this.interruption.begin();
  }

  /** Throws QUERY_LIMIT when a limit was reached, QUERY_INVALID for a regular expression that is none, and numbers beyond all bounds. */
  private async call<T>(work: () => Promise<T>): Promise<T> {
    const run = gate.pass(async () => {
      if (this.ended !== undefined) throw new Error('Interrupted');
      return await work();
    });
    this.running = run.catch(() => undefined); // Whoever called it sees it.
    try {
      return await run;
    } catch (error) {
      throw this.said(error);
    }
  }

  private said(error: unknown): HeadwaterError {
    const text = messageOf(error);
    if (this.ended === 'late')
      return new HeadwaterError(
        'QUERY_LIMIT',
        `the query takes longer than ${Math.ceil(this.limits.timeoutMs / 1000)} s: ask for a shorter time, fewer series or wider buckets`,
        { cause: error },
      );
    if (this.ended === 'gone') return givenUp(error);
    if (this.ended === 'stopped') return this.owner.failed(error);
    if (LIMITED.test(text))
      return new HeadwaterError(
        'QUERY_LIMIT',
        'the query needs more memory than it may have: ask for a shorter time, fewer series or wider buckets',
        { cause: error },
      );
    const bad = OF_QUESTION.exec(text)?.[1];
    if (bad !== undefined) return new HeadwaterError('QUERY_INVALID', bad, { cause: error });
    return this.owner.failed(error);
  }

  async *chunks(sql: string): AsyncGenerator<unknown[][]> {
    this.unread++;
    yield* chunksOf(this.connection, sql, (work) => this.call(work));
    this.unread--;
  }

  /** For few rows: in one call, which costs a small question a third less. */
  readonly all = async (sql: string): Promise<unknown[][]> =>
    (await this.call(() => this.connection.runAndReadAll(sql))).getRows();

  /** A temporary table of this question, empty; its name. */
  async table(columns: Readonly<Record<string, Column>>): Promise<string> {
    const name = `t${this.tables++}`;
    const list = Object.entries(columns).map(([column, type]) => `${column} ${type}`);
    await this.call(() => this.connection.run(`CREATE TEMP TABLE ${name} (${list.join(', ')})`));
    return name;
  }

  /** Rows of numbers and texts, in the order of its columns; some at a time, so that others have their turns. */
  async append(
    table: string,
    types: readonly Column[],
    rows: Iterable<readonly (number | bigint | string | null)[]>,
  ): Promise<void> {
    await this.call(async () => {
      const appender = await this.connection.createAppender(table);
      let count = 0;
      for (const row of rows) {
        if (++count % APPENDED_AT_ONCE === 0) await setImmediate();
        for (const [index, value] of row.entries()) {
          if (value === null) appender.appendNull();
          else if (types[index] === 'INTEGER') appender.appendInteger(Number(value));
          else if (types[index] === 'BIGINT') appender.appendBigInt(BigInt(value));
          else if (types[index] === 'DOUBLE') appender.appendDouble(Number(value));
          else appender.appendVarchar(String(value));
        }
        appender.endRow();
      }
      appender.closeSync();
    });
  }

  /** Resolves when nothing of it runs any more. Idempotent. */
  async close(): Promise<void> {
    if (this.isClosed) return;
    this.isClosed = true;
    clearTimeout(this.timer);
    this.limits.signal?.removeEventListener('abort', this.gone);
    if (this.ended === undefined && this.unread === 0 && this.tables === 0) {
      this.owner.left(true);
      return;
    }
    if (this.ended === undefined) this.end('gone');
    await this.running;
    this.interruption.end();
    await gate.pass(() => settle(this.connection));
    this.owner.left(false);
  }
}
