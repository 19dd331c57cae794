/** What a SELECT asks the store before its rows. */
import type { Session } from '../store/session.ts';
import type { Grouped } from './relation.ts';
import { TIME_MAX, TIME_MIN, type TimeRange } from './time.ts';

/** Few series stand in the statement itself: a table of its own would cost more than the answer. */
const STATED_MAX = 200;

/** Its series with their groups, as a table. */
export async function mapOf({ rows }: Grouped, session: Session): Promise<string> {
  if (rows.length <= STATED_MAX)
    return `(SELECT * FROM (VALUES ${rows.map((row) => `(${row.join(',')})`).join(',')}) AS v(series, g, t, f))`;
  const map = await session.table({ series: 'INTEGER', g: 'INTEGER', t: 'INTEGER', f: 'INTEGER' });
  await session.append(map, ['INTEGER', 'INTEGER', 'INTEGER', 'INTEGER'], rows);
  return map;
}

/** From the first point on where no begin is asked: what is before has no bucket. */
export async function boundsOf(
  session: Session,
  table: string,
  ids: readonly number[],
  range: TimeRange,
  nowNs: bigint,
): Promise<TimeRange | undefined> {
  if (range.from !== TIME_MIN)
    return { from: range.from, to: range.to === TIME_MAX ? nowNs : range.to };
  const [row] = await session.all(
    `SELECT min(time) FROM ${table} WHERE series IN (${ids.join(',')}) AND time <= ${range.to}`,
  );
  return typeof row?.[0] === 'bigint' ? { from: row[0], to: range.to } : undefined;
}
