/** Marks of the embedded store's file: name → text, written with the changes that they tell of. */
import { quote, type DuckDBConnection } from '../duckdb/database.ts';

export async function all(connection: DuckDBConnection, sql: string): Promise<unknown[][]> {
  return (await connection.runAndReadAll(sql)).getRows();
}

export async function keepMarks(
  writer: DuckDBConnection,
  marks: ReadonlyMap<string, string>,
): Promise<void> {
  if (marks.size === 0) return;
  const names = [...marks.keys()].map(quote);
  await writer.run(`DELETE FROM marks WHERE name IN (${names.join(',')})`);
  const rows = [...marks].map(([name, value]) => `(${quote(name)}, ${quote(value)})`);
  await writer.run(`INSERT INTO marks VALUES ${rows.join(',')}`);
}

/** Progress as older versions kept it: by source, and before that of readings alone. */
export async function adopt(writer: DuckDBConnection): Promise<void> {
  const rows = await all(
    writer,
    "SELECT table_name FROM information_schema.tables WHERE table_name IN ('progress', 'sources')",
  );
  const names = new Set(rows.map(([name]) => String(name)));
  if (names.size === 0) return;
  const mark = `'{"next":' || next || '}'`;
  await writer.run('BEGIN TRANSACTION');
  if (names.has('sources'))
    await writer.run(`INSERT INTO marks SELECT 'place/' || source, ${mark} FROM sources`);
  else
    await writer.run(`INSERT INTO marks SELECT 'place/readings/' || part, ${mark} FROM progress`);
  for (const name of names) await writer.run(`DROP TABLE ${name}`);
  await writer.run('COMMIT');
}
