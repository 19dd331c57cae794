/** The newest values of series, which the store has in memory: a panel that asks for nothing else reads no point. */
import type { Job } from './job.ts';
import { byNumber } from './relation.ts';
import type { Point } from './running.ts';
import { nanosOf } from '../duckdb/nanos.ts';

/** Of a group and a field, the newest point of its series; of several the one of the last tags. */
type Newest = Map<number, { time: bigint; tags: number; point: Point }>;

/**
 * For each group, in its order, the newest point of each of its fields by the field's number. Undefined: that is not what is
 * asked for, or more has to be known.
 */
export function newestOf(job: Job): [group: number, Newest][] | undefined {
  const { plan, source, relation, buckets, range, groups, select } = job;
  if (buckets !== undefined || source.condition !== undefined) return undefined;
  if (!plan.streams.every(({ base, running }) => base.fn === 'last' && running.length === 0))
    return undefined;
  const series = byNumber(relation.series);
  const found = new Map<number, Newest>();
  for (const [id, group, tags, field] of groups.rows) {
    const latest = series.get(id)?.latest;
    if (latest === undefined) return undefined;
    const time = nanosOf(latest.timeMs, latest.ns);
    if (time > range.to) return undefined;
    if (time < range.from || (typeof latest.value === 'number' && !Number.isFinite(latest.value)))
      continue;
    let own = found.get(group);
    if (own === undefined) found.set(group, (own = new Map()));
    const best = own.get(field);
    if (best === undefined || time > best.time || (time === best.time && tags > best.tags))
      own.set(field, { time, tags, point: [time, latest.value] });
  }
  const list = [...found];
  return select.descending ? list.toReversed() : list;
}
