/** Points of series as JSON, as texts to send one after the other: an answer of millions of points stands nowhere in memory. */
import { maySee } from '../../shared/access/may.ts';
import type { Identity } from '../../shared/access/tokens.ts';
import { ask, type Answering } from '../store/aggregate.ts';
import { seriesName, type StoreQuery } from '../store/store.ts';

/**
 * `{"series":[…],"next":"…"}`, and what else belongs behind the series. `next` is there when the limit was reached; points of
 * series that the asker may not see count towards it, so a page may have fewer.
 */
export async function* pointsText(
  store: Answering,
  query: StoreQuery,
  identity: Identity,
  behind: () => Record<string, unknown>,
): AsyncGenerator<string> {
  const { limit } = query;
  let given = 0;
  let name = '';
  let next: string | undefined;
  yield '{"series":[';
  for await (const { points, cursor, measurement, field, tags } of ask(store, query)) {
    given += points.length;
    next = cursor;
    if (!maySee(identity, tags['gateway'] ?? '')) continue;
    const series = { measurement, field, tags };
    const text = JSON.stringify(points).slice(1, -1);
    const before = name;
    name = seriesName(series);
    if (before === name) yield `,${text}`;
    else
      yield `${before === '' ? '' : ']},'}${JSON.stringify(series).slice(0, -1)},"points":[${text}`;
  }
  const last = limit !== undefined && given >= limit && next !== undefined ? { next } : {};
  const rest = JSON.stringify({ ...behind(), ...last }).slice(1, -1);
  yield `${name === '' ? '' : ']}'}]${rest === '' ? '' : `,${rest}`}}`;
}
