/** PostgreSQL with errors of the contract, and the tables of a log. */
import { Pool, type PoolClient, type QueryResultRow } from 'pg';
import { AdapterError, type Health } from '@headwater/contracts';

/**
 * `ends` has the next offset of every partition; whoever appends holds its row until the commit, so that offsets become
 * visible in their order. `changes` are those of compacted topics, numbered by a row of `ends` as well.
 */
export const TABLES = `
  CREATE TABLE IF NOT EXISTS meta (name text PRIMARY KEY, value text NOT NULL);
  CREATE TABLE IF NOT EXISTS ends (topic text, part int, next bigint NOT NULL, PRIMARY KEY (topic, part));
  CREATE TABLE IF NOT EXISTS journal (topic text, part int, pos bigint, key text NOT NULL, headers text NOT NULL,
    value bytea NOT NULL, PRIMARY KEY (topic, part, pos));
  CREATE TABLE IF NOT EXISTS state (topic text, part int, key text, headers text NOT NULL, value bytea NOT NULL,
    PRIMARY KEY (topic, part, key));
  CREATE TABLE IF NOT EXISTS changes (topic text, pos bigint, key text NOT NULL, headers text NOT NULL,
    value bytea NOT NULL, PRIMARY KEY (topic, pos));
  CREATE TABLE IF NOT EXISTS positions (grp text, topic text, part int, next bigint NOT NULL, PRIMARY KEY (grp, topic, part));
  CREATE TABLE IF NOT EXISTS members (grp text, topic text, token text, until timestamptz NOT NULL, PRIMARY KEY (grp, topic, token));
  CREATE TABLE IF NOT EXISTS leases (grp text, topic text, part int, token text NOT NULL, until timestamptz NOT NULL,
    PRIMARY KEY (grp, topic, part));`;

const CONNECTIONS_MAX = 6;
const CONNECT_MS_MAX = 5000;

export type Run = <R extends QueryResultRow>(sql: string, values?: unknown[]) => Promise<R[]>;

export class Database {
  health: Health;
  private readonly pool: Pool;
  private readonly schema: string;
  private readonly nowMs: () => number;

  constructor(
    address: string,
    schema: string,
    credentials: { user: string; password: string },
    nowMs: () => number,
  ) {
    const [, host = '', port = '5432', database = 'postgres'] =
      /^([^:/]+)(?::(\d+))?(?:\/(.+))?$/.exec(address) ?? [];
    this.schema = `"${schema.replaceAll('"', '""')}"`;
    this.nowMs = nowMs;
    this.health = { up: false, sinceMs: nowMs(), reason: 'not open yet' };
    this.pool = new Pool({
      host,
      port: Number(port),
      database,
      ...credentials,
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
    return new AdapterError('LOG_UNAVAILABLE', `PostgreSQL: ${reason}`, { cause: error });
  }

  async open(): Promise<void> {
    await this.transaction(async (run) => {
      // Of several that begin at once, one after the other makes them.
      await run('SELECT pg_advisory_xact_lock(hashtext($1))', [this.schema]);
      await run(`CREATE SCHEMA IF NOT EXISTS ${this.schema}`);
      await run(TABLES);
    });
  }

  /** One statement. Throws LOG_UNAVAILABLE. */
  readonly run: Run = async <R extends QueryResultRow>(sql: string, values: unknown[] = []) => {
    try {
      const { rows } = await this.pool.query<R>(sql, values);
      if (!this.health.up) this.health = { up: true, sinceMs: this.nowMs(), reason: '' };
      return rows;
    } catch (error) {
      throw this.down(error);
    }
  };

  /** All of it or nothing. Throws LOG_UNAVAILABLE, and what `work` throws. */
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
