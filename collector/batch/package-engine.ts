/** A batch engine that someone else wrote: given the lake's files, checked in what it gives back. */
import { join } from 'node:path';
import {
  BATCH_ENGINE_CONTRACT_VERSION,
  type BatchEngine,
  type BatchWork,
} from '../../contracts/batch-engine.ts';
import type { AnyDefinition, BatchEngineDefinition } from '../../contracts/define.ts';
import { HeadwaterError } from '../../shared/errors.ts';
import type { Notify } from '../../shared/telemetry/log.ts';
import { loadAdapter } from '../adapters.ts';
import type { CollectorConfig } from '../config.ts';
import type { Lake } from '../lake/lake.ts';
import { COLUMNS, ZONES, type FileFilter } from '../lake/layout.ts';
import { checkSize, type Table } from './engines.ts';

/** What `batch.engine` names. Throws ADAPTER_MISSING, ADAPTER_CONTRACT, CONFIG_INVALID. */
export async function openPackageEngine(
  config: CollectorConfig,
  notify: Notify,
  nowMs: () => number,
): Promise<BatchEngine> {
  type Given = BatchEngineDefinition & AnyDefinition;
  const { definition, address, options } = await loadAdapter<Given>(
    'batchEngine',
    BATCH_ENGINE_CONTRACT_VERSION,
    config['batch.engine'],
    'batch.engine',
    config,
  );
  const folder = join(config.data, `batch-${definition.name}`);
  return definition.create({ address, options, folder, notify, nowMs });
}

const timeOf = (value: unknown): unknown =>
  value instanceof Date ? { micros: BigInt(value.getTime()) * 1000n } : value;

function tableOf({ columns, rows }: Table): Table {
  if (rows.some((row) => row.length !== columns.length))
    throw new HeadwaterError(
      'ADAPTER_CONTRACT',
      `the batch engine gives rows that have not its ${columns.length} columns`,
    );
  let textBytes = 0;
  for (const row of rows)
    for (const value of row) if (typeof value === 'string') textBytes += value.length;
  checkSize(rows.length, textBytes);
  return { columns, rows: rows.map((row) => row.map(timeOf)) };
}

export async function runOnPackage(
  engine: BatchEngine,
  lake: Lake,
  filter: FileFilter,
  sql: string,
  timeoutMs: number,
): Promise<Table> {
  const files: Record<(typeof ZONES)[number], string[]> = { raw: [], readings: [], results: [] };
  for (const zone of ZONES) {
    const whole = await lake.whole(await lake.files(zone, filter));
    files[zone] = [...whole.keys()];
  }
  const work: BatchWork = { sql, files, columns: COLUMNS, timeoutMs };
  return tableOf(await engine.run(work));
}
