/** Rows of a query as they come, and what DuckDB's maps hold. */
import type { DuckDBConnection } from '../duckdb/database.ts';

export async function* rowsOf(
  connection: DuckDBConnection,
  sql: string,
): AsyncGenerator<unknown[]> {
  const stream = await connection.stream(sql);
  for (;;) {
    const chunk = await stream.fetchChunk();
    if (chunk === null || chunk.rowCount === 0) return;
    yield* chunk.getRows();
  }
}

/** Names and values of a map; none of null. `V` is what the column's type says. */
export function entriesOf<V>(value: unknown): [string, V][] {
  const entries = (value as { entries?: { key: string; value: V }[] } | null)?.entries ?? [];
  return entries.map(({ key, value: each }) => [key, each]);
}

/** The map as an object. */
export const objectOf = <V>(value: unknown): Record<string, V> =>
  Object.fromEntries(entriesOf<V>(value));
