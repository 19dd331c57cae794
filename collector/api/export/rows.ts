/** Columns of an export, and its rows in batches of columns: what Parquet and Arrow are written of. */

export interface Column {
  name: string;
  type: 'text' | 'number' | 'boolean' | 'integer' | 'time' | 'bytes';
  /** It may be null in a row. */
  isOptional?: boolean;
}

/** As many lists as there are columns, equally long. Times are epoch milliseconds. */
export type Batch = unknown[][];

/** Rows of a batch: what an encoder holds of an export, and how long it keeps others waiting, is bounded by it. */
const BATCH_ROWS = 16_384;
const BATCH_BYTES = 8 * 1024 * 1024;

export type Encode = (
  columns: readonly Column[],
  batches: AsyncIterable<Batch>,
) => AsyncIterable<Uint8Array>;

/** Collects rows into batches. */
export class Batches {
  private batch: Batch;
  private readonly width: number;
  private bytes = 0;

  constructor(columns: readonly Column[]) {
    this.width = columns.length;
    this.batch = columns.map(() => []);
  }

  get isFull(): boolean {
    return (this.batch[0]?.length ?? 0) >= BATCH_ROWS || this.bytes >= BATCH_BYTES;
  }

  add(row: readonly unknown[]): void {
    for (let at = 0; at < this.width; at++) {
      const cell = row[at] ?? null;
      this.batch[at]?.push(cell);
      if (typeof cell === 'string' || cell instanceof Uint8Array) this.bytes += cell.length;
    }
  }

  /** What there is, which it has no more. */
  take(): Batch {
    const { batch } = this;
    this.batch = batch.map(() => []);
    this.bytes = 0;
    return batch;
  }
}
