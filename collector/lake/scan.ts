/** What DuckDB's maps hold. */
/** Names and values of a map; none of null. `V` is what the column's type says. */
export function entriesOf<V>(value: unknown): [string, V][] {
  const entries = (value as { entries?: { key: string; value: V }[] } | null)?.entries ?? [];
  return entries.map(({ key, value: each }) => [key, each]);
}

/** The map as an object. */
export const objectOf = <V>(value: unknown): Record<string, V> =>
  Object.fromEntries(entriesOf<V>(value));
