/** Series, latest values and queries, of the store. */
import { maySee } from '../../shared/access/may.ts';
import { READ_EACH, type Request, type StreamReply } from '../../shared/http/route.ts';
import {
  BOOLEAN,
  INTEGER,
  TAGS,
  TEXT,
  VALUE,
  listOf,
  maybe,
  object,
  type Schema,
} from '../../shared/http/schema.ts';
import { NO_LAKE, lakePart } from '../lake/part.ts';
import { logPart } from '../log/part.ts';
import type { CollectorPart } from '../part.ts';
import { parseCursor } from '../store/pages.ts';
import { storePart, storeStagePart } from '../store/part.ts';
import type { StoreStage } from '../store/stage.ts';
import { matches, type SeriesKey, type TimeSeriesStore } from '../store/store.ts';
import { invalid, parseTime } from '../../shared/http/parameters.ts';
import { INCOMPLETE, headersOf, incompleteness } from './incomplete.ts';
import { AsOf } from './as-of.ts';
import { FILTER, QUERY, checkAsked, parseFilter, parseQuery } from './parameters.ts';
import { pointsText, seenParts } from './points.ts';
import { SeriesMeta } from './series-meta.ts';

interface Series {
  store: TimeSeriesStore;
  stage: StoreStage | undefined;
  meta: SeriesMeta;
  nowMs: () => number;
  /** Undefined: there is no lake. */
  asOf?: AsOf;
}

/** Series carry their gateway as a tag. */
function seen<T extends { tags: Record<string, string> }>(
  { identity, query }: Request,
  list: T[],
): T[] {
  if (identity.gateways === undefined) return list;
  checkAsked(identity, query);
  return list.filter(({ tags }) => maySee(identity, tags['gateway'] ?? ''));
}

const JSON_TYPE = 'application/json; charset=utf-8';
/** Series of an answer that are written at once. */
const SLICE = 1000;

async function* seriesText(series: readonly unknown[], behind: string): AsyncGenerator<string> {
  for (let at = 0; at < series.length; at += SLICE)
    yield `${at === 0 ? '{"series":[' : ','}${JSON.stringify(series.slice(at, at + SLICE)).slice(1, -1)}`;
  yield `${series.length === 0 ? '{"series":[' : ''}]${behind}}`;
}

/** With what the store lacks now, so that an answer that may be short says so. */
function answer({ stage, meta }: Series, request: Request, list: SeriesKey[]): StreamReply {
  const incomplete = incompleteness(stage);
  const behind = incomplete.length === 0 ? '' : `,"incomplete":${JSON.stringify(incomplete)}`;
  return {
    type: JSON_TYPE,
    parts: seriesText(meta.describe(seen(request, list)), behind),
    headers: headersOf(incomplete),
  };
}

function points(
  { store, stage, nowMs, asOf }: Series,
  { query: given, identity, signal }: Request,
): StreamReply {
  const query = { ...parseQuery(given, nowMs()), signal };
  checkAsked(identity, given);
  if (query.cursor !== undefined) parseCursor(query.cursor);
  const type = JSON_TYPE;
  const at = given.get('asOf');
  if (at !== null) {
    const time = Math.floor(parseTime(at, 'asOf', nowMs()));
    if (asOf === undefined) invalid(`asOf: ${NO_LAKE}`);
    const view = asOf.view(time);
    const behind = (): Record<string, unknown> => ({
      asOf: { time, exact: view.doubts.length === 0, doubts: view.doubts },
    });
    const parts = seenParts(view.store, query, identity, () => false);
    return { type, parts: pointsText(parts, query.limit, behind) };
  }
  const incomplete = incompleteness(stage);
  const behind = (): Record<string, unknown> => (incomplete.length === 0 ? {} : { incomplete });
  const isComing = (): boolean => stage?.fill.isComing() === true;
  const parts = seenParts(store, query, identity, isComing);
  return {
    type,
    parts: pointsText(parts, query.limit, behind),
    headers: headersOf(incomplete),
  };
}

const AS_OF: Schema = {
  ...object({ time: INTEGER, exact: BOOLEAN, doubts: { type: 'array', items: TEXT } }),
  description:
    'Of a question with `asOf`: the time, and what the answer cannot be sure of, in sentences.',
};

const SERIES = { measurement: TEXT, field: TEXT, tags: TAGS };
/** No tuple: generators of clients, and what tests an API by its description, cannot say one; ours reads what it is beside it. */
const POINT: Schema = {
  type: 'array',
  items: VALUE,
  minItems: 2,
  maxItems: 2,
  'x-items': [INTEGER, VALUE],
  description: 'Epoch milliseconds, and the value.',
};
/** Where a device or a mapping says them. */
const MEANING = { unit: maybe(TEXT), name: maybe(TEXT) };

export const seriesPart: CollectorPart<Series> = {
  name: 'series',
  roles: ['query'],
  open: async (site) => {
    const meta = new SeriesMeta(site.get(logPart));
    await meta.start();
    return {
      store: site.get(storePart),
      stage: site.find(storeStagePart),
      meta,
      nowMs: site.context.nowMs,
    };
  },
  routes: [
    {
      method: 'GET',
      path: '/api/v1/series',
      isCostly: true,
      about: 'Series that have points.',
      right: READ_EACH,
      query: FILTER,
      replies: {
        200: {
          about: 'Series.',
          schema: object({
            series: listOf({ ...SERIES, ...MEANING }),
            incomplete: INCOMPLETE,
          }),
        },
      },
      handle: async (running, request) => {
        const filter = parseFilter(request.query);
        const all = await running.store.series();
        return answer(
          running,
          request,
          all.filter((each) => matches(each, filter)),
        );
      },
    },
    {
      method: 'GET',
      path: '/api/v1/latest',
      isCostly: true,
      about: 'The newest point of each series.',
      right: READ_EACH,
      query: FILTER,
      replies: {
        200: {
          about: 'Points.',
          schema: object({
            series: listOf({ ...SERIES, ...MEANING, time: INTEGER, value: VALUE }),
            incomplete: INCOMPLETE,
          }),
        },
      },
      handle: async (running, request) =>
        answer(running, request, await running.store.latest(parseFilter(request.query))),
    },
    {
      method: 'GET',
      path: '/api/v1/query',
      isCostly: true,
      about:
        'Points of series. Without `every` and `fn` the raw points, without a hidden limit; `fn` alone gives one point. It is sent as it is read.',
      right: READ_EACH,
      query: QUERY,
      replies: {
        200: {
          about: 'Points.',
          schema: object({
            series: listOf({
              ...SERIES,
              points: { type: 'array', items: POINT },
            }),
            next: maybe(TEXT),
            incomplete: INCOMPLETE,
            asOf: maybe(AS_OF),
          }),
        },
      },
      handle: points,
    },
  ],
  // The lake is opened behind it.
  start: async (running, site) => {
    const lake = site.find(lakePart);
    const log = site.get(logPart);
    if (lake !== undefined) running.asOf = new AsOf({ lake, log, nowMs: running.nowMs });
  },
  close: ({ meta }) => meta.close(),
};
