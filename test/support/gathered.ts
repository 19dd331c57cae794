/** A query's whole answer, for tests that look at all of it. */
import { seriesName, type PointsPart, type SeriesPoints } from '../../collector/store/store.ts';

export async function gathered(parts: AsyncIterable<PointsPart>): Promise<SeriesPoints[]> {
  const list: SeriesPoints[] = [];
  let name = '';
  for await (const { cursor: _, ...part } of parts) {
    const last = list.at(-1);
    const next = seriesName(part);
    if (last === undefined || next !== name) list.push({ ...part, points: [...part.points] });
    else for (const point of part.points) last.points.push(point);
    name = next;
  }
  return list;
}
