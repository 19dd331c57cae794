/**
 * InfluxQL on `/query`, as InfluxDB 1.8 answers it: for Grafana's data source and for InfluxDB's own clients, over the
 * embedded store. One database, `headwater`, with one retention policy, `autogen`; other names are taken for the same.
 */
import { maySee } from '../../shared/access/may.ts';
import { HeadwaterError } from '../../shared/errors.ts';
import { INFLUXDB_VERSION } from '../../shared/http/ingest.ts';
import { invalid } from '../../shared/http/parameters.ts';
import {
  READ_EACH,
  type Parameters,
  type Request,
  type Route,
  type StreamReply,
} from '../../shared/http/route.ts';
import { TEXT, maybe, object } from '../../shared/http/schema.ts';
import type { Context } from '../influxql/job.ts';
import { parseQuery } from '../influxql/parse.ts';
import { EPOCHS, bound, replyTexts, type ReplyOptions } from '../influxql/reply.ts';
import type { CollectorPart } from '../part.ts';
import { storePart } from '../store/part.ts';
import { answersSql } from '../store/session.ts';
import type { TimeSeriesStore } from '../store/store.ts';

interface Running {
  store: TimeSeriesStore;
  nowMs: () => number;
}

/** From the first row to the last one taken. */
const TIMEOUT_MS = 60_000;
const BODY_BYTES_MAX = 1024 * 1024;
const STATEMENTS_MAX = 100;
const CHUNK_ROWS = 10_000;

const QUERY: Parameters = {
  q: { about: 'Statements, with `;` between them; may be in a form in the body instead.' },
  db: { about: 'Not looked at: there is one database.' },
  rp: { about: 'Not looked at: there is one retention policy.' },
  epoch: { about: 'Unit of times: ns, u, ms, s, m or h; RFC 3339 when left out.' },
  params: { about: 'A JSON object of what stands for `$NAME` in the statements.' },
  chunked: { about: '`true`: a line of JSON for each series or `chunk_size` rows.' },
  chunk_size: { about: 'Rows in a line; 10,000 when left out.' },
  pretty: { about: 'Not looked at.' },
  u: { about: 'A user name; not looked at.' },
  p: { about: 'The API token.' },
};

/** Of the form in the body and of the address; an empty one is none. */
async function given(request: Request): Promise<URLSearchParams> {
  const all = new URLSearchParams();
  const type = String(request.headers['content-type'] ?? '');
  if (request.method === 'POST') {
    const body = (await request.body(BODY_BYTES_MAX)).toString('utf8');
    if (type.startsWith('multipart/'))
      invalid('send the query in the address or as application/x-www-form-urlencoded');
    if (body !== '')
      for (const [name, value] of new URLSearchParams(body)) if (value !== '') all.set(name, value);
  }
  for (const [name, value] of request.query) if (value !== '') all.set(name, value);
  return all;
}

function optionsOf(all: URLSearchParams): ReplyOptions {
  const epoch = all.get('epoch') ?? undefined;
  if (epoch !== undefined && !Object.hasOwn(EPOCHS, epoch))
    invalid(`invalid epoch ${epoch.slice(0, 20)}: it is one of ${Object.keys(EPOCHS).join(', ')}`);
  let params: unknown = {};
  try {
    params = JSON.parse(all.get('params') ?? '{}');
  } catch {
    invalid('error parsing query parameters: params is not JSON');
  }
  if (typeof params !== 'object' || params === null || Array.isArray(params))
    invalid('error parsing query parameters: params is not an object');
  const size = Number(all.get('chunk_size') ?? CHUNK_ROWS);
  return {
    epoch,
    chunkRows:
      all.get('chunked') === 'true'
        ? Number.isSafeInteger(size) && size > 0
          ? Math.min(size, CHUNK_ROWS)
          : CHUNK_ROWS
        : undefined,
    params: params as Record<string, unknown>, // An object, as looked at.
  };
}

async function answer({ store, nowMs }: Running, request: Request): Promise<StreamReply> {
  const all = await given(request);
  const q = all.get('q');
  if (q === null) return invalid('missing required parameter "q"');
  const options = optionsOf(all);
  const statements = bound(parseQuery(q), options.params);
  if (statements.length > STATEMENTS_MAX) invalid(`more than ${STATEMENTS_MAX} statements`);
  if (!answersSql(store))
    throw new HeadwaterError(
      'NOT_FOUND',
      `the store here is ${store.kind}: ask it itself; /query is answered from the embedded store`,
    );
  const sql = store;
  const { identity, signal } = request;
  async function* parts(): AsyncGenerator<string> {
    const known = await sql.known();
    const series =
      identity.gateways === undefined
        ? known
        : known.filter(({ tags }) => maySee(identity, tags['gateway'] ?? ''));
    const session = await sql.session({ timeoutMs: TIMEOUT_MS, signal });
    try {
      const context: Context = {
        session,
        series,
        nowNs: BigInt(Math.floor(nowMs())) * 1_000_000n,
        recent: (...asked) => sql.recent(...asked),
      };
      yield* replyTexts(statements, context, options);
    } finally {
      await session.close();
    }
  }
  return {
    type: 'application/json',
    parts: parts(),
    headers: { 'x-influxdb-version': INFLUXDB_VERSION, 'x-influxdb-build': 'headwater' },
  };
}

const REPLIES = {
  200: {
    about: "InfluxDB 1.8's results; what goes wrong in a statement is its `error`.",
    schema: object({ results: { type: 'array', items: { type: 'object' } } }),
  },
};

const route = (method: 'GET' | 'POST'): Route<Running> => ({
  method,
  path: '/query',
  isCostly: true,
  errors: 'influxdb',
  about: 'InfluxQL, as InfluxDB 1.8 answers it: SELECT and SHOW.',
  right: READ_EACH,
  query: QUERY,
  ...(method === 'POST'
    ? { body: { type: 'application/x-www-form-urlencoded', schema: object({ q: maybe(TEXT) }) } }
    : {}),
  replies: REPLIES,
  handle: answer,
});

export const influxqlPart: CollectorPart<Running> = {
  name: 'InfluxQL',
  roles: ['query'],
  open: (site) => ({ store: site.get(storePart), nowMs: site.context.nowMs }),
  routes: [route('GET'), route('POST')],
};
