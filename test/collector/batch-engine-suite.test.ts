/** DuckDB passes the suite of the BatchEngine contract, and engines that break one law fail the case that states it. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, it } from 'vitest';
import { writeBatchData } from '../../cli/batch-data.ts';
import { runOnDuckDb } from '../../collector/batch/engines.ts';
import { Lake } from '../../collector/lake/lake.ts';
import { LocalObjects } from '../../collector/lake/local.ts';
import type { BatchEngine, BatchTable, BatchWork } from '../../contracts/batch-engine.ts';
import { operatingError } from '../../contracts/errors.ts';
import {
  BATCH_ENGINE_CASES,
  runBatchEngineCase,
  type BatchEngineCase,
  type BatchEngineUnderTest,
  type BatchFiles,
} from '../../contracts/suite/batch-engine.ts';
import { messageOf } from '../../shared/errors.ts';
import { failsTheCase } from '../support/broken.ts';
import { FULL } from '../support/seed.ts';
import { temporaryFolder } from '../support/process.ts';

const folder = temporaryFolder();
const lake = new Lake(new LocalObjects(join(folder, 'lake')), {
  folder,
  memoryBytes: 96 << 20,
  cacheBytes: 1 << 20,
});
let data: BatchFiles;

beforeAll(async () => {
  data = await writeBatchData(join(folder, 'lake'));
  await lake.open();
});
afterAll(async () => await lake.close());

/** Ours: over a lake that has these files. */
class Sound implements BatchEngine {
  async run({ sql, timeoutMs }: BatchWork): Promise<BatchTable> {
    return await runOnDuckDb(lake, { from: '2026-05-01', to: '2026-05-01' }, sql, timeoutMs);
  }
  close(): Promise<void> {
    return Promise.resolve();
  }
}

/** Sees something else than the statement names. */
const seeing = (view: string, instead: string): typeof Sound =>
  class extends Sound {
    override async run(work: BatchWork): Promise<BatchTable> {
      return await super.run({ ...work, sql: work.sql.replace(`FROM ${view}`, `FROM ${instead}`) });
    }
  };

class TruthIsANumber extends Sound {
  override async run(work: BatchWork): Promise<BatchTable> {
    const { columns, rows } = await super.run(work);
    const plain = (value: unknown): unknown => (typeof value === 'boolean' ? Number(value) : value);
    return { columns, rows: rows.map((row) => row.map(plain)) };
  }
}

class NoRowsHaveNoColumns extends Sound {
  override async run(work: BatchWork): Promise<BatchTable> {
    const table = await super.run(work);
    return table.rows.length === 0 ? { columns: [], rows: [] } : table;
  }
}

class NoFilesAreNoView extends Sound {
  override async run(work: BatchWork): Promise<BatchTable> {
    if (work.sql.includes('FROM raw')) throw new Error('raw: no files to read');
    return await super.run(work);
  }
}

class MistakesAreTrouble extends Sound {
  override async run(work: BatchWork): Promise<BatchTable> {
    try {
      return await super.run(work);
    } catch (error) {
      if (operatingError(error)?.code !== 'BATCH_INVALID') throw error;
      throw new Error(messageOf(error), { cause: error });
    }
  }
}

class StatementIsShared extends Sound {
  private sql = '';
  override async run(work: BatchWork): Promise<BatchTable> {
    this.sql = work.sql;
    await new Promise((resolve) => setImmediate(resolve));
    return await super.run({ ...work, sql: this.sql });
  }
}

class Copies extends Sound {
  override async run(work: BatchWork): Promise<BatchTable> {
    const target = /TO '(.*)'/.exec(work.sql)?.[1];
    if (target !== undefined) writeFileSync(target, '1\n');
    return await super.run(work);
  }
}

class EndIsAnAnswer extends Sound {
  override async run(work: BatchWork): Promise<BatchTable> {
    const table = super.run(work);
    return work.timeoutMs < 10_000
      ? await table.catch(() => ({ columns: [], rows: [] }))
      : await table;
  }
}

const tested = (Tested: typeof Sound): BatchEngineUnderTest => ({
  supports: { sealed: true, timeout: true },
  data,
  create: () => new Tested(),
});
const run = (adapter: BatchEngineUnderTest, each: BatchEngineCase): Promise<void> =>
  runBatchEngineCase(adapter, each.run);

describe('DuckDB', () => {
  it.each(BATCH_ENGINE_CASES.map((each) => [each.name, each] as const))('%s', async (_, each) =>
    run(tested(Sound), each));
});

/** Each case opens databases of its own: that all others hold is asked before a release. */
const OTHERS = FULL ? 'all hold' : 'may fail too';

const LIMITED = '(SELECT * FROM readings WHERE sequence < 1000)';
const TWICE = '(SELECT * FROM points UNION ALL SELECT * FROM points)';
const OLD =
  "(SELECT * FROM results UNION ALL SELECT * REPLACE ('gone' AS measurement) FROM results)";

it.each([
  ['readings that are not all', seeing('readings', LIMITED), 'a count and its like'],
  ['points that are there twice', seeing('points', TWICE), 'points has a row for each'],
  ['results that were taken back', seeing('results', OLD), 'of a result the newest revision'],
  ['truth as a number', TruthIsANumber, 'columns have their names'],
  ['columns that come with rows', NoRowsHaveNoColumns, 'no rows have columns'],
  ['a view that needs a file', NoFilesAreNoView, 'a zone without files'],
  ['mistakes that are trouble', MistakesAreTrouble, 'SQL that is wrong'],
  ['a statement that is shared', StatementIsShared, 'runs at the same time'],
  ['a statement that writes', Copies, 'a statement that reads a file or writes one'],
  ['an end that is an answer', EndIsAnAnswer, 'a statement that does not end'],
])('%s fails the case that says so', { timeout: 120_000 }, async (_, Broken, part) => {
  const adapters = { broken: tested(Broken), sound: tested(Sound) };
  await failsTheCase(BATCH_ENGINE_CASES, part, adapters, run, OTHERS);
});
