/** Parquet, written as it goes out: a row group for each batch, and the footer behind the last. The only file that imports the writer. */
import { ByteWriter, ParquetWriter, type SchemaElement } from 'hyparquet-writer';
import type { Batch, Column } from './rows.ts';

const TYPES: Record<Column['type'], Omit<SchemaElement, 'name'>> = {
  text: { type: 'BYTE_ARRAY', converted_type: 'UTF8' },
  bytes: { type: 'BYTE_ARRAY' },
  number: { type: 'DOUBLE' },
  boolean: { type: 'BOOLEAN' },
  integer: { type: 'INT64' },
  time: {
    type: 'INT64',
    converted_type: 'TIMESTAMP_MILLIS',
    logical_type: { type: 'TIMESTAMP', isAdjustedToUTC: true, unit: 'MILLIS' },
  },
};

const schemaOf = (columns: readonly Column[]): SchemaElement[] => [
  { name: 'root', num_children: columns.length },
  ...columns.map(
    ({ name, type, isOptional }): SchemaElement => ({
      name,
      ...TYPES[type],
      repetition_type: isOptional === true ? 'OPTIONAL' : 'REQUIRED',
    }),
  ),
];

/** What was written since the last time; offsets go on. */
function taken(writer: ByteWriter): Uint8Array {
  const bytes = writer.getBytes().slice();
  writer.index = 0;
  return bytes;
}

export async function* parquet(
  columns: readonly Column[],
  batches: AsyncIterable<Batch>,
): AsyncGenerator<Uint8Array> {
  const writer = new ByteWriter();
  const file = new ParquetWriter({ writer, schema: schemaOf(columns), createdBy: 'headwater' });
  for await (const batch of batches) {
    const columnData = columns.map(({ name, type }, at) => ({
      name,
      data:
        type === 'integer'
          ? (batch[at] ?? []).map((each) => BigInt(each as number))
          : (batch[at] ?? []),
      // Its place is in the footer: page indexes would be kept until then.
      offsetIndex: false,
    }));
    await file.write({ columnData, rowGroupSize: batch[0]?.length ?? 1 });
    yield taken(writer);
  }
  await file.finish();
  yield taken(writer);
}
