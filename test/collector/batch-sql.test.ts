/** The SQL of jobs reads the lake and nothing else, and has an end. */
import { existsSync, mkdirSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { runOnDuckDb } from '../../collector/batch/engines.ts';
import { loadJobs, sqlOf } from '../../collector/batch/job.ts';
import { openDuckDb, quote } from '../../collector/duckdb/database.ts';
import { Lake } from '../../collector/lake/lake.ts';
import { fileName, folderOf } from '../../collector/lake/layout.ts';
import { LocalObjects } from '../../collector/lake/local.ts';
import { temporaryFolder } from '../support/process.ts';

const folder = temporaryFolder();
const secret = join(folder, 'secret.csv');
const lake = new Lake(new LocalObjects(join(folder, 'lake')), {
  folder,
  memoryBytes: 96 << 20,
  cacheBytes: 1 << 20,
});
let lakeFile = '';

beforeAll(async () => {
  writeFileSync(secret, 'a,b\n1,2\n');
  await lake.open();
  const key = `${folderOf('readings', '2026-05-01', 'gw')}${fileName('0a0b0c0d', 0, 0, 1000)}`;
  lakeFile = join(folder, 'lake', key);
  mkdirSync(dirname(lakeFile), { recursive: true });
  const duckdb = await openDuckDb(':memory:', { memoryBytes: 64 << 20, files: true });
  const connection = await duckdb.connect();
  await connection.run(`COPY (
    SELECT TIMESTAMPTZ '2026-05-01 12:00:00+00' + to_seconds(i) AS time, epoch_ns(time) AS time_ns, 'm' AS measurement, 's' AS series,
      MAP {'id': 'a'} AS tags, MAP {'value': i::DOUBLE} AS fields, 'gw' AS gateway, 'e' AS epoch, i AS sequence, 0::INTEGER AS "index"
    FROM range(1000) AS each(i)) TO ${quote(lakeFile)} (FORMAT parquet)`);
  connection.closeSync();
  duckdb.closeSync();
});
afterAll(async () => await lake.close());

const run = async (sql: string, timeoutMs = 20_000): Promise<unknown[][]> =>
  (await runOnDuckDb(lake, { from: '2026-05-01', to: '2026-05-01' }, sql, timeoutMs)).rows;

describe('SQL of a job', () => {
  it('reads the views, its own CTEs and rows that it makes', async () => {
    const sql = `WITH RECURSIVE hours(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM hours WHERE n < 3),
      best AS (SELECT max(value) AS value FROM points)
      SELECT best.value, count(*) FROM best, readings, hours, range(2), unnest([1, 2]) GROUP BY ALL`;
    expect(await run(sql)).toEqual([[999, 16_000n]]);
    expect(await run('SELECT count(*) FROM results')).toEqual([[0n]]);
  });

  it('shipped jobs are such SQL', async () => {
    for (const job of loadJobs('', true)) await run(sqlOf(job, '2026-05-01'));
  });

  it('what is usual at each hour is one series of a week, and not one of each hour', async () => {
    const job = loadJobs('', true).find(({ name }) => name === 'hour_of_week');
    if (job === undefined) throw new Error('it is shipped');
    const { columns, rows } = await runOnDuckDb(
      lake,
      { from: '2026-05-01', to: '2026-05-01' },
      sqlOf(job, '2026-05-01'),
      20_000,
    );
    const texts = columns.filter((_, at) => rows.some((row) => typeof row[at] === 'string'));
    expect(texts).toEqual(['source', 'field']); // What is a text is a tag, and each of its values a series.
    const [row = []] = rows;
    const of = (name: string): unknown => row[columns.indexOf(name)];
    expect(rows).toHaveLength(1);
    // A Friday.
    expect([of('hour_of_week'), of('count'), of('mean')]).toEqual([4n * 24n + 12n, 1000n, 499.5]);
    expect(of('time')).toMatchObject({ micros: BigInt(Date.UTC(2026, 4, 1, 12)) * 1000n });
  });

  const attacks: Record<string, string> = {
    'a file': `SELECT * FROM read_csv('${secret}')`,
    'a file by its name': `SELECT * FROM '${secret}'`,
    'the text of a file': `SELECT * FROM read_text('/etc/passwd')`,
    'a file named by a CTE that is not in sight': `SELECT * FROM "/etc/passwd.csv", (WITH "/etc/passwd.csv" AS (SELECT 1) SELECT * FROM "/etc/passwd.csv")`,
    'a file by a function in capitals': `SELECT * FROM READ_BLOB('/etc/passwd')`,
    'names of files': `SELECT * FROM glob('/*')`,
    "a lake's file of another day": `SELECT * FROM parquet_scan('${join(folder, 'lake', '**')}')`,
    'the network': `SELECT * FROM read_json('http://127.0.0.1:9/x')`,
    'what it was given, as a file': 'SELECT * FROM parquet_metadata(lake)',
    'SQL in a text': `SELECT * FROM query('SELECT * FROM read_text(''/etc/passwd'')')`,
    'SQL as JSON': `SELECT * FROM json_execute_serialized_sql(json_serialize_sql('SELECT 1'))`,
    settings: `SELECT current_setting('allowed_paths')`,
    'settings in a subquery of a condition': `SELECT 1 FROM points WHERE measurement IN (SELECT current_setting('temp_directory'))`,
    'settings by their schema': `SELECT main.current_setting('allowed_paths')`,
    'all settings': 'SELECT * FROM duckdb_settings()',
    tables: 'SELECT * FROM information_schema.tables',
    'tables by SHOW': 'SELECT * FROM (SHOW TABLES)',
    'a log in a file': `SELECT * FROM enable_logging(storage = 'file', storage_path = '${folder}/log')`,
    'a profile in a file': `SELECT * FROM enable_profiling(save_location = '${folder}/profile')`,
    'a second statement': `SELECT 1; COPY (SELECT 1) TO '${folder}/copied.csv'`,
    'a second statement behind a comment': `SELECT 1 -- \n; SET memory_limit = '100GB'`,
    'writing behind WITH': `WITH a AS (SELECT 1) INSERT INTO points SELECT * FROM a`,
    'an extension': 'LOAD httpfs',
    'another database': `ATTACH '${folder}/other.db'`,
    'another schema': 'SELECT * FROM main.points',
    'a pragma': 'PRAGMA database_list',
    secrets: 'SELECT * FROM duckdb_secrets()',
    'the environment': `SELECT getenv('HOME')`,
  };
  it.each(
    Object.entries(attacks),
  )('reaches for %s: it is refused in one sentence, and nothing is written', async (_, sql) => {
    const before = readdirSync(folder).sort();
    await expect(run(sql)).rejects.toMatchObject({ code: 'BATCH_INVALID' });
    expect(readdirSync(folder).sort()).toEqual(before);
  });

  it("whatever the check let through, DuckDB itself opens no file but the lake's, and writes none", async () => {
    const { sealed } = await import('../../collector/duckdb/sealed.ts');
    const limits = {
      memoryBytes: 64 << 20,
      spill: join(folder, 'spill'),
      spillBytesMax: 1 << 20,
      timeoutMs: 20_000,
    };
    const bytes = readFileSync(lakeFile);
    for (const sql of [
      `SELECT * FROM read_csv('${secret}')`,
      `COPY (SELECT 1) TO '${folder}/copied.csv'`,
      `COPY (SELECT 1 AS x) TO '${lakeFile}' (FORMAT parquet)`,
      `ATTACH '${folder}/other.db'`,
      "SET memory_limit = '100GB'",
      'SET enable_external_access = true',
      'SET lock_configuration = false',
      'INSTALL httpfs',
      'LOAD httpfs',
      `EXPORT DATABASE '${folder}/exported'`,
    ])
      await expect(
        sealed({ views: new Map(), files: [lakeFile] }, limits, (connection) =>
          connection.run(sql),
        ),
        sql,
      ).rejects.toThrow(/disabled|locked|Cannot/);
    expect(existsSync(join(folder, 'copied.csv'))).toBe(false);
    expect(readFileSync(lakeFile).equals(bytes)).toBe(true);
  });

  it('has an end: of time, of memory, of what it gives', async () => {
    await expect(
      run(
        'WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t) SELECT max(n) FROM t',
        300,
      ),
    ).rejects.toMatchObject({ code: 'BATCH_INVALID', message: 'it takes longer than 1 s' });
    await expect(
      run('SELECT list(a.range) FROM range(100000000) a, range(10) b'),
    ).rejects.toMatchObject({ code: 'BATCH_INVALID' });
    await expect(run('SELECT range FROM range(2000000)')).rejects.toMatchObject({
      code: 'BATCH_INVALID',
      message: 'it gives more than 1000000 rows for one day',
    });
    // And the next one finds everything as it was.
    expect(await run('SELECT count(*) FROM points')).toEqual([[1000n]]);
  });
});
