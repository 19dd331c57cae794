/**
 * The order in which points lie in the embedded store's file. They come with all series in between, and questions are of few:
 * so each block of points that came is put in the order of its series, once. What a question looks through of a block is
 * then one or two of DuckDB's row groups, where its series lies in one piece; the others are passed over by their least and
 * greatest series.
 *
 * A block is rewritten in one transaction: a restart finds it as it was, or in order. How many points have come since is a
 * mark, kept with them. It only says what is put in order next: where it is wrong (another version has written meanwhile,
 * rows were deleted) questions take longer.
 */
import { messageOf } from '../../shared/errors.ts';
import { quote, type DuckDBConnection } from '../duckdb/database.ts';

/** Four of DuckDB's row groups: some 20 MB to be sorted, and never more than that without an order. */
export const BLOCK_POINTS = 491_520;

/** Names of others do not begin so. */
export const FRESH = '~fresh';

/** Whether what failed is as if it had never begun. */
export const undone = async (writer: DuckDBConnection): Promise<boolean> =>
  await writer.run('ROLLBACK').then(
    () => true,
    () => false,
  );

/** The last `fresh` points in the order of their series. */
export async function putInOrder(writer: DuckDBConnection, fresh: number): Promise<void> {
  await writer.run('BEGIN TRANSACTION');
  const [row] = (await writer.runAndReadAll('SELECT max(rowid) + 1 FROM points')).getRows();
  const end = row?.[0];
  if (typeof end === 'bigint') {
    const begin = end - BigInt(fresh);
    await writer.run(
      `INSERT INTO points SELECT * FROM points WHERE rowid >= ${begin} AND rowid < ${end} ORDER BY series, time, origin, seq, idx`,
    );
    await writer.run(`DELETE FROM points WHERE rowid >= ${begin} AND rowid < ${end}`);
  }
  await writer.run(`UPDATE marks SET value = '0' WHERE name = ${quote(FRESH)}`);
  await writer.run('COMMIT');
  try {
    // What was there before would be looked through until then.
    await writer.run('CHECKPOINT');
  } catch (error) {
    // DuckDB does it later by itself where something is being read.
    if (!/Cannot CHECKPOINT/.test(messageOf(error))) throw error;
  }
}
