/** The suite of the BatchEngine contract. What the files hold that it is given is said by `BATCH_DATA`. */
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { BatchEngine, BatchEngineSupports, BatchTable, BatchWork } from '../batch-engine.ts';
import { operatingError } from '../errors.ts';
import { inPlace, runCases, within, type Case, type Result } from './runner.ts';

/**
 * Readings have sequences from 1 on, and one number, `value`, which is the sequence. Results are of one each: `kept` was
 * written in two revisions, whose values are 1 and 2; the newest revision of `gone` takes it back. There is no raw.
 */
export const BATCH_DATA = { readings: 1000, results: ['kept', 'gone'] } as const;

export type BatchFiles = Pick<BatchWork, 'files' | 'columns'>;

/** How the suite gets at what is tested. */
export interface BatchEngineUnderTest {
  supports: BatchEngineSupports;
  /** The files of `BATCH_DATA`. */
  data: BatchFiles;
  create(): BatchEngine;
}

export interface BatchBench {
  run(sql: string, timeoutMs?: number): Promise<BatchTable>;
  /** Of this case alone, empty. */
  folder: string;
}

export type BatchEngineCase = Case<BatchBench, BatchEngineSupports>;

const TIMEOUT_MS = 50_000;
const SHORT_MS = 150;
/** A statement that is to end after SHORT_MS has ended by then, on a slow machine too. */
const ENDED_MS = 40_000;

const numbers = (rows: unknown[][]): number[][] => rows.map((row) => row.map(Number));

async function refused(run: Promise<BatchTable>): Promise<unknown> {
  return await run.then(
    ({ rows }) => assert.fail(`it was not refused, and gave ${rows.length} rows`),
    (error: unknown) => error,
  );
}

async function isInvalid(run: Promise<BatchTable>): Promise<void> {
  const error = await refused(run);
  assert.equal(operatingError(error)?.code, 'BATCH_INVALID', String(error));
}

export const BATCH_ENGINE_CASES: readonly BatchEngineCase[] = [
  {
    name: 'a count and its like are of all that the files hold',
    run: async ({ run }) => {
      const { rows } = await run('SELECT count(*), min(sequence), max(sequence) FROM readings');
      assert.deepEqual(numbers(rows), [[BATCH_DATA.readings, 1, BATCH_DATA.readings]]);
    },
  },
  {
    name: 'points has a row for each number of a reading',
    run: async ({ run }) => {
      const { readings } = BATCH_DATA;
      const { rows } = await run("SELECT count(*), sum(value) FROM points WHERE field = 'value'");
      assert.deepEqual(numbers(rows), [[readings, (readings * (readings + 1)) / 2]]);
    },
  },
  {
    name: 'of a result the newest revision counts, and none that was taken back',
    run: async ({ run }) => {
      const { rows } = await run('SELECT measurement, revision FROM results');
      assert.deepEqual(
        rows.map(([measurement, revision]) => [measurement, Number(revision)]),
        [['kept', 2]],
      );
    },
  },
  {
    name: 'columns have their names, in their order; a text is a text, truth is truth, nothing is null',
    run: async ({ run }) => {
      const sql =
        "SELECT 'a' AS name, sequence = 1 AS yes, NULL AS nothing FROM readings WHERE sequence = 1";
      assert.deepEqual(await run(sql), {
        columns: ['name', 'yes', 'nothing'],
        rows: [['a', true, null]],
      });
    },
  },
  {
    name: 'no rows have columns all the same',
    run: async ({ run }) => {
      const table = await run('SELECT sequence, measurement FROM readings WHERE sequence < 0');
      assert.deepEqual(table, { columns: ['sequence', 'measurement'], rows: [] });
    },
  },
  {
    name: 'a zone without files is an empty view',
    run: async ({ run }) => {
      const { rows } = await run('SELECT count(*), count(frame) FROM raw');
      assert.deepEqual(numbers(rows), [[0, 0]]);
    },
  },
  {
    name: 'SQL that is wrong is BATCH_INVALID, and the next run is none the worse',
    run: async ({ run }) => {
      await isInvalid(run('SELECT FROM WHERE'));
      await isInvalid(run('SELECT no_such_column FROM readings'));
      await isInvalid(run('SELECT * FROM no_such_view'));
      assert.deepEqual(numbers((await run('SELECT 1 + 1')).rows), [[2]]);
    },
  },
  {
    name: 'runs at the same time give each its own, and again the same',
    run: async ({ run }) => {
      for (let round = 0; round < 2; round++) {
        const asked = [3, 5, 7, 11];
        const tables = await Promise.all(
          asked.map((most) => run(`SELECT max(sequence) FROM readings WHERE sequence <= ${most}`)),
        );
        assert.deepEqual(
          tables.map(({ rows }) => Number(rows[0]?.[0])),
          asked,
        );
      }
    },
  },
  {
    name: 'a statement that reads a file or writes one is refused, and nothing is written',
    skip: ({ sealed }) => (sealed ? undefined : 'it does not seal its statements'),
    run: async ({ run, folder }) => {
      const target = join(folder, 'copied.csv');
      await refused(run(`COPY (SELECT 1) TO '${target}'`));
      await refused(run(`SELECT 1; COPY (SELECT 1) TO '${target}'`));
      await refused(run("SELECT * FROM read_text('/etc/hostname')"));
      assert.equal(existsSync(target), false, 'it has written a file');
    },
  },
  {
    name: 'a statement that does not end is ended, and the next run is none the worse',
    skip: ({ timeout }) => (timeout ? undefined : 'it ends no statement'),
    run: async ({ run }) => {
      const sql =
        'SELECT count(*) FROM readings a, readings b, readings c, readings d WHERE a.sequence + b.sequence + c.sequence + d.sequence < 0';
      await within(ENDED_MS, 'the end of the statement', refused(run(sql, SHORT_MS)));
      assert.deepEqual(numbers((await run('SELECT 1 + 1')).rows), [[2]]);
    },
  },
];

export async function runBatchEngineCase(
  { data, create }: BatchEngineUnderTest,
  work: (bench: BatchBench) => Promise<void>,
): Promise<void> {
  await inPlace(async ({ folder }) => {
    const engine = create();
    try {
      await work({
        folder,
        run: (sql, timeoutMs = TIMEOUT_MS) => engine.run({ ...data, sql, timeoutMs }),
      });
    } finally {
      await engine.close();
    }
  });
}

/** All cases whose name holds `only`, one after the other. */
export async function runBatchEngineSuite(
  tested: BatchEngineUnderTest,
  onResult: (result: Result) => void,
  only = '',
): Promise<Result[]> {
  return await runCases<BatchBench, BatchEngineSupports>(
    BATCH_ENGINE_CASES,
    tested.supports,
    false,
    (run) => runBatchEngineCase(tested, run),
    onResult,
    only,
  );
}
