/** DuckDB, opened without anything that it would fetch or load by itself. The only file that imports it. */
import { DuckDBInstance, type DuckDBAppender, type DuckDBConnection } from '@duckdb/node-api';
import type { FieldValue } from '../../shared/model/reading.ts';

export type { DuckDBConnection, DuckDBInstance };

export interface DuckDbSettings {
  memoryBytes: number;
  /** Whether SQL may name files: not where SQL is only ours. */
  files: boolean;
  /** Where sorting goes that does not fit into memory. */
  spill?: string;
}

const MIB = 1024 * 1024;

/** `:memory:` or a file's path. */
export async function openDuckDb(
  path: string,
  { memoryBytes, files, spill }: DuckDbSettings,
): Promise<DuckDBInstance> {
  return await DuckDBInstance.create(path, {
    memory_limit: `${Math.round(memoryBytes / MIB)}MiB`,
    threads: '2',
    autoinstall_known_extensions: 'false',
    autoload_known_extensions: 'false',
    enable_external_access: String(files),
    ...(spill === undefined ? {} : { temp_directory: spill }),
  });
}

/** A text as an SQL literal. */
export function quote(text: string): string {
  return `'${text.replaceAll("'", "''")}'`;
}

/** A field's value as two columns: a number, or a text. */
export function appendValue(appender: DuckDBAppender, value: FieldValue): void {
  if (typeof value === 'string') {
    appender.appendNull();
    appender.appendVarchar(value);
  } else {
    appender.appendDouble(Number(value));
    appender.appendNull();
  }
}

/** Runs what holds one of the threads of Node.js's pool. */
export type Pass = <T>(work: () => Promise<T>) => Promise<T>;

/** A query's columns, and its rows as they come, some 2048 at a time. */
export async function streamOf(
  connection: DuckDBConnection,
  sql: string,
  pass: Pass = (work) => work(),
): Promise<{ columns: string[]; chunks: AsyncIterable<unknown[][]> }> {
  // Not `connection.stream`, which takes a text of several statements apart first, on a thread.
  const stream = await pass(async () => {
    const statement = await connection.prepare(sql);
    try {
      return await statement.stream();
    } finally {
      statement.destroySync();
    }
  });
  async function* chunks(): AsyncGenerator<unknown[][]> {
    for (;;) {
      const chunk = await pass(() => stream.fetchChunk());
      if (chunk === null || chunk.rowCount === 0) return;
      yield chunk.getRows();
    }
  }
  return { columns: stream.columnNames(), chunks: chunks() };
}

/** The rows alone. */
export async function* chunksOf(
  connection: DuckDBConnection,
  sql: string,
  pass?: Pass,
): AsyncGenerator<unknown[][]> {
  yield* (await streamOf(connection, sql, pass)).chunks;
}

/** The same, one by one. */
export async function* rowsOf(
  connection: DuckDBConnection,
  sql: string,
): AsyncGenerator<unknown[]> {
  for await (const rows of chunksOf(connection, sql)) yield* rows;
}
