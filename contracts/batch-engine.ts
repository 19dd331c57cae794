/**
 * The BatchEngine contract: what runs the SQL of batch jobs over files of the lake.
 *
 * - Views of the files are all that a statement sees: `raw`, `readings`, `results`, and `points`, a row for each number of
 *   a reading. Of `results_all`, which is what the files hold, `results` has the newest revision of an identity (gateway,
 *   epoch, sequence, index), and none whose newest is `removed`.
 * - A run leaves nothing behind: what is run again gives the same.
 * - What is wrong with a statement is BATCH_INVALID, in a sentence for whoever wrote it. Anything else passes by itself, and
 *   the job is run again.
 */
export const BATCH_ENGINE_CONTRACT_VERSION = 1;

export const BATCH_ZONES = ['raw', 'readings', 'results'] as const;
export type BatchZone = (typeof BATCH_ZONES)[number];

export interface BatchEngineSupports {
  /** A statement reads the views and nothing else, and writes nothing, whoever wrote it. */
  sealed: boolean;
  /** A statement that does not end is ended. */
  timeout: boolean;
}

export interface BatchWork {
  sql: string;
  /** Parquet files on the local disk. A zone may have none: its view is there, and empty. */
  files: Readonly<Record<BatchZone, readonly string[]>>;
  /** Columns of a zone, with their types as DuckDB names them: for a zone without files. */
  columns: Readonly<Record<BatchZone, readonly { name: string; type: string }[]>>;
  timeoutMs: number;
}

/** Values are numbers (or bigint), texts, truth, null; a time is a `Date`. */
export interface BatchTable {
  columns: string[];
  rows: unknown[][];
}

export interface BatchEngine {
  /** Throws BATCH_INVALID. Runs may be asked for at the same time. */
  run(work: BatchWork): Promise<BatchTable>;
  /** Idempotent. */
  close(): Promise<void>;
}
