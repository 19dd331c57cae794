/** PostgreSQL with errors of the contract: one schema, its tables, statements and transactions. */
import { Pool, type PoolClient, type QueryResultRow } from 'pg';
import { AdapterError, type Health } from '@headwater/contracts';

const CONNECTIONS_MAX = 6;
const CONNECT_MS_MAX = 5000;

export type Run = <R extends QueryResultRow>(sql: string, values?: unknown[]) => Promise<R[]>;

/** What a log and what a store says of a server that does not answer. */
type Unavailable = 'LOG_UNAVAILABLE' | 'STORE_UNAVAILABLE';

export interface Place {
  /** HOST[:PORT][/DATABASE] */
  address: string;
  schema: string;
  /** Made when they are not there. */
  tables: string;
  unavailable: Unavailable;
  user: string;
  password: string;
}

export class Database {
  health: Health;
  private readonly pool: Pool;
  private readonly schema: string;
  private readonly tables: string;
  private readonly unavailable: Unavailable;
  private readonly nowMs: () => number;

  constructor(
    { address, schema, tables, unavailable, user, password }: Place,
    nowMs: () => number,
  ) {
    const [, host = '', port = '5432', database = 'postgres'] =
      /^([^:/]+)(?::(\d+))?(?:\/(.+))?$/.exec(address) ?? [];
    this.schema = `"${schema.replaceAll('"', '""')}"`;
    this.tables = tables;
    this.unavailable = unavailable;
    this.nowMs = nowMs;
    this.health = { up: false, sinceMs: nowMs(), reason: 'not open yet' };
    this.pool = new Pool({
      host,
      port: Number(port),
      database,
      user,
      password,
      max: CONNECTIONS_MAX,
      connectionTimeoutMillis: CONNECT_MS_MAX,
      options: `-c search_path=${this.schema} -c synchronous_commit=on`,
    });
    this.pool.on('error', (error) => this.down(error)); // Of a connection that nobody uses at the moment.
  }

  private down(error: unknown): AdapterError {
    const reason = error instanceof Error ? error.message : String(error);
    const sinceMs = this.health.up ? this.nowMs() : this.health.sinceMs;
    this.health = { up: false, sinceMs, reason };
    return new AdapterError(this.unavailable, `PostgreSQL: ${reason}`, { cause: error });
  }

  async open(): Promise<void> {
    await this.transaction(async (run) => {
      // Of several that begin at once, one after the other makes them.
      await run('SELECT pg_advisory_xact_lock(hashtext($1))', [this.schema]);
      await run(`CREATE SCHEMA IF NOT EXISTS ${this.schema}`);
      await run(this.tables);
    });
  }

  /** One statement. Throws `unavailable`. */
  readonly run: Run = async <R extends QueryResultRow>(sql: string, values: unknown[] = []) => {
    try {
      const { rows } = await this.pool.query<R>(sql, values);
      if (!this.health.up) this.health = { up: true, sinceMs: this.nowMs(), reason: '' };
      return rows;
    } catch (error) {
      throw this.down(error);
    }
  };

  /** All of it or nothing. Throws `unavailable`, and what `work` throws. */
  async transaction<T>(work: (run: Run) => Promise<T>): Promise<T> {
    let client: PoolClient;
    try {
      client = await this.pool.connect();
    } catch (error) {
      throw this.down(error);
    }
    const onError = (error: Error): void => void this.down(error);
    client.on('error', onError);
    let failure: Error | undefined;
    const run: Run = async <R extends QueryResultRow>(sql: string, values?: unknown[]) =>
      (await client.query<R>(sql, values)).rows;
    try {
      await run('BEGIN');
      const result = await work(run);
      await run('COMMIT');
      if (!this.health.up) this.health = { up: true, sinceMs: this.nowMs(), reason: '' };
      return result;
    } catch (error) {
      failure = error instanceof AdapterError ? error : this.down(error);
      throw failure;
    } finally {
      client.off('error', onError);
      // A connection in the middle of something is not used again: its end rolls back.
      client.release(failure);
    }
  }

  async close(): Promise<void> {
    await this.pool.end();
  }
}
