/**
 * DuckDB for SQL that somebody else wrote: it sees the views that it is given and nothing else. No file but the ones that
 * it is given, no network, no extension, no setting; memory, temporary space and time are bounded. An instance serves one
 * question and is gone.
 *
 * What SQL may name is read from DuckDB's own syntax tree, not from its text: tables are the views and its own CTEs, table
 * functions those that only make rows, and no function looks at or changes the database itself.
 */
import { mkdir } from 'node:fs/promises';
import { HeadwaterError, messageOf } from '../../shared/errors.ts';
import { openDuckDb, quote, type DuckDBConnection } from './database.ts';
import { interruption, leave } from './interrupt.ts';

export interface SealedLimits {
  memoryBytes: number;
  /** Folder for what does not fit into memory, and how much may. */
  spill: string;
  spillBytesMax: number;
  timeoutMs: number;
}

/** Table functions that make rows of their arguments. */
const MAKERS = new Set([
  'range',
  'generate_series',
  'unnest',
  'json_each',
  'json_tree',
  'repeat_row',
]);
/** Functions that tell of the database or the machine, or change something. */
const TELLERS =
  /^(current_setting|getenv|getvariable|write_log|nextval|currval|set_config|query|query_table|json_execute_serialized_sql|current_(user|role|database|schemas?|query)|user|session_user|version|pg_.*|duckdb_.*|pragma_.*|txid_current|in_search_path|has_.*_privilege|parse_duckdb.*|read_.*|glob|which_secret|enable_.*|disable_.*)$/;
/** What may stand after FROM. */
const SOURCES = new Set([
  'BASE_TABLE',
  'TABLE_FUNCTION',
  'SUBQUERY',
  'JOIN',
  'EXPRESSION_LIST',
  'EMPTY',
  'PIVOT',
]);

type Node = Record<string, unknown>;

function invalid(why: string, cause?: unknown): never {
  throw new HeadwaterError('BATCH_INVALID', why, { cause });
}

function* nodesOf(value: unknown): Generator<Node> {
  const waiting: unknown[] = [value];
  while (waiting.length > 0) {
    const next = waiting.pop();
    if (typeof next !== 'object' || next === null) continue;
    if (!Array.isArray(next)) yield next as Node;
    for (const child of Object.values(next)) waiting.push(child);
  }
}

function checkSource(node: Node, known: ReadonlySet<string>): void {
  const { type } = node;
  if (type === 'SHOW_REF') invalid('it asks what tables there are: read the views only');
  if (type === 'BASE_TABLE') {
    const { table_name: table, schema_name: schema, catalog_name: catalog } = node;
    const name = String(table).toLowerCase();
    if (schema !== '' || catalog !== '' || !known.has(name))
      invalid(`it reads '${String(table)}': there are ${[...known].join(', ')}`);
  }
  if (type === 'TABLE_FUNCTION') {
    const name = String((node['function'] as Node | undefined)?.['function_name']).toLowerCase();
    if (!MAKERS.has(name)) invalid(`it reads '${name}()': a job reads the lake's views only`);
  }
}

/** Throws BATCH_INVALID for SQL that is more than one SELECT of these views. */
export async function checkSql(
  connection: DuckDBConnection,
  sql: string,
  views: readonly string[],
): Promise<void> {
  const result = await connection.runAndReadAll(`SELECT json_serialize_sql(${quote(sql)})`);
  // A text column's only value.
  const tree = JSON.parse(result.getRows()[0]?.[0] as string) as {
    error: boolean;
    error_type?: string;
    error_message?: string;
    statements?: unknown[];
  };
  if (tree.error) {
    if (tree.error_type === 'parser') invalid(`Parser Error: ${tree.error_message ?? 'not SQL'}`);
    invalid('it is not one SELECT: its rows are its results');
  }
  const { statements = [] } = tree;
  if (statements.length !== 1) invalid('it is more than one statement: its rows are its results');
  const nodes = [...nodesOf(statements)];
  const known = new Set(views.map((name) => name.toLowerCase()));
  for (const node of nodes) {
    const ctes = (node['cte_map'] as { map?: { key: unknown }[] } | undefined)?.map ?? [];
    for (const { key } of ctes) known.add(String(key).toLowerCase());
    if (node['type'] === 'RECURSIVE_CTE_NODE') known.add(String(node['cte_name']).toLowerCase());
  }
  for (const node of nodes) {
    checkSource(node, known);
    const { from_table: from, function_name: name } = node;
    const kind = (from as Node | null | undefined)?.['type'];
    if (typeof kind === 'string' && !SOURCES.has(kind)) invalid(`it reads ${kind}`);
    if (typeof name === 'string' && TELLERS.test(name.toLowerCase()))
      invalid(`it calls '${name}()', which is not about the lake`);
  }
}

/** Names → SQL of the views, and the files that they read. */
export interface SealedViews {
  views: ReadonlyMap<string, string>;
  files: readonly string[];
}

/** Runs `work` on a connection that sees these views and nothing else. Throws BATCH_INVALID when a limit is reached. */
export async function sealed<T>(
  { views, files }: SealedViews,
  limits: SealedLimits,
  work: (connection: DuckDBConnection) => Promise<T>,
): Promise<T> {
  const { memoryBytes, spill, spillBytesMax, timeoutMs } = limits;
  await mkdir(spill, { recursive: true });
  const instance = await openDuckDb(':memory:', { memoryBytes, files: true, spill });
  const connection = await instance.connect();
  const interrupted = interruption(connection);
  let isLate = false;
  const timer = setTimeout(() => {
    isLate = true;
    interrupted.begin();
  }, timeoutMs);
  try {
    await connection.run("SET TimeZone = 'UTC'");
    await connection.run(`SET max_temp_directory_size = '${Math.ceil(spillBytesMax / 1024)}KiB'`);
    await connection.run(`SET allowed_paths = [${files.map(quote).join(', ')}]`);
    for (const [name, sql] of views) await connection.run(`CREATE TEMP VIEW "${name}" AS ${sql}`);
    await connection.run('SET enable_external_access = false');
    await connection.run('SET lock_configuration = true');
    return await work(connection);
  } catch (error) {
    if (isLate) invalid(`it takes longer than ${Math.ceil(timeoutMs / 1000)} s`, error);
    if (messageOf(error).startsWith('Out of Memory Error'))
      invalid(
        `it needs more memory or temporary space than it may have: ${messageOf(error)}`,
        error,
      );
    throw error;
  } finally {
    clearTimeout(timer);
    interrupted.end();
    await leave(connection);
    instance.closeSync();
  }
}
