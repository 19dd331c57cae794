/**
 * Arrow's IPC stream: the schema once, a record batch for each batch, and the mark of the end, without which it was cut. The only file
 * that imports the encoder, which writes whole tables: of each but the first the schema is left out, of each the end.
 */
import {
  binary,
  bool,
  columnFromArray,
  float64,
  int64,
  tableFromColumns,
  tableToIPC,
  timestamp,
  utf8,
  TimeUnit,
  type DataType,
} from '@uwdata/flechette';
import type { Batch, Column } from './rows.ts';

const TYPES: Record<Column['type'], () => DataType> = {
  text: utf8,
  bytes: binary,
  number: float64,
  boolean: bool,
  integer: int64,
  time: () => timestamp(TimeUnit.MILLISECOND, 'UTC'),
};

/** Encapsulated messages: a mark, the length of the metadata, the metadata, the body; the end has a length of 0. */
const MARK_BYTES = 8;

function encoded(
  columns: readonly Column[],
  batch: Batch,
): { schema: Uint8Array; rest: Uint8Array } {
  const table = tableFromColumns(
    columns.map(({ name, type }, at) => [name, columnFromArray(batch[at] ?? [], TYPES[type]())]),
  );
  const bytes = tableToIPC(table, { format: 'stream' }) ?? new Uint8Array();
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  // A schema has no body.
  const schemaEnd = MARK_BYTES + view.getInt32(4, true);
  return {
    schema: bytes.subarray(0, schemaEnd),
    rest: bytes.subarray(schemaEnd, bytes.length - MARK_BYTES),
  };
}

const END = new Uint8Array([0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]);

export async function* arrow(
  columns: readonly Column[],
  batches: AsyncIterable<Batch>,
): AsyncGenerator<Uint8Array> {
  let isFirst = true;
  for await (const batch of batches) {
    const { schema, rest } = encoded(columns, batch);
    if (isFirst) yield schema;
    isFirst = false;
    yield rest;
  }
  if (isFirst)
    yield encoded(
      columns,
      columns.map(() => []),
    ).schema;
  yield END;
}
