/** Points of series as JSON, as texts to send one after the other: an answer of millions of points stands nowhere in memory. */
import { HeadwaterError, errorCode } from '../../shared/errors.ts';
import { maySee } from '../../shared/access/may.ts';
import type { Identity } from '../../shared/access/tokens.ts';
import { invalid } from '../../shared/http/parameters.ts';
import { ask, type Answering } from '../store/aggregate.ts';
import { gatewayOf, parseCursor } from '../store/pages.ts';
import { seriesName, type PointsPart, type StoreQuery } from '../store/store.ts';

/** Whether what the store lacks is on its way. */
type IsComing = () => boolean;

/** Where the series of a cursor is not there, or not yet. Throws STORE_UNAVAILABLE where it may come. */
async function* answered(
  store: Answering,
  query: StoreQuery,
  isComing: IsComing,
): AsyncGenerator<PointsPart> {
  try {
    yield* ask(store, query);
  } catch (error) {
    const isGone = query.cursor !== undefined && errorCode(error) === 'QUERY_INVALID';
    if (!isGone || !isComing()) throw error;
    throw new HeadwaterError(
      'STORE_UNAVAILABLE',
      'cursor: its series is not there yet, the store is being filled: ask again with the same cursor later',
      { cause: error },
    );
  }
}

/**
 * What of an answer its asker may see, up to the limit: gateway after gateway where those are some. Of other series nothing is read,
 * and not even a cursor is told, which names its series.
 */
export async function* seenParts(
  store: Answering,
  query: StoreQuery,
  identity: Identity,
  isComing: IsComing,
): AsyncGenerator<PointsPart> {
  const { gateways } = identity;
  if (gateways === undefined) {
    yield* answered(store, query, isComing);
    return;
  }
  const { limit, cursor, ...rest } = query;
  const at = cursor === undefined ? undefined : gatewayOf(parseCursor(cursor));
  if (at !== undefined && !maySee(identity, at))
    invalid('cursor: it is not one that an answer to you had');
  const asked = query.tags?.['gateway'];
  let left = limit;
  for (const gateway of [...gateways].sort()) {
    if ((asked !== undefined && gateway !== asked) || (at !== undefined && gateway < at)) continue;
    const own = {
      ...rest,
      tags: { ...query.tags, gateway },
      ...(gateway === at && cursor !== undefined && { cursor }),
      ...(left !== undefined && { limit: left }),
    };
    for await (const part of answered(store, own, isComing)) {
      if (left !== undefined) left -= part.points.length;
      yield part;
    }
    if (left !== undefined && left <= 0) return;
  }
}

/** `{"series":[…],"next":"…"}`, and what else belongs behind the series. `next` is there when the limit was reached. */
export async function* pointsText(
  parts: AsyncIterable<PointsPart>,
  limit: number | undefined,
  behind: () => Record<string, unknown>,
): AsyncGenerator<string> {
  let given = 0;
  let name = '';
  let next: string | undefined;
  yield '{"series":[';
  for await (const { points, cursor, measurement, field, tags } of parts) {
    given += points.length;
    next = cursor;
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
