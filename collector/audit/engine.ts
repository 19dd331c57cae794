/** The audit's own DuckDB: one core at most, memory that is bounded, and nothing that outlives a pass. */
import { join } from 'node:path';
import { openDuckDb, type DuckDBConnection, type DuckDBInstance } from '../duckdb/database.ts';
import { leave } from '../duckdb/interrupt.ts';

const MEMORY_BYTES = 256 * 1024 * 1024;

export class AuditEngine {
  private readonly folder: string;
  private instance: Promise<DuckDBInstance> | undefined;

  constructor(folder: string) {
    this.folder = folder;
  }

  async with<T>(work: (connection: DuckDBConnection) => Promise<T>): Promise<T> {
    this.instance ??= openDuckDb(':memory:', {
      memoryBytes: MEMORY_BYTES,
      files: true,
      spill: join(this.folder, 'audit-spill'),
    });
    const connection = await (await this.instance).connect();
    try {
      await connection.run('SET threads = 1');
      await connection.run("SET TimeZone = 'UTC'");
      return await work(connection);
    } finally {
      await leave(connection);
    }
  }

  async close(): Promise<void> {
    const instance = await this.instance?.catch(() => undefined); // Whoever used it was told.
    instance?.closeSync();
    this.instance = undefined;
  }
}
