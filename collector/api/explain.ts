/** `GET /api/v1/explain`: from a point back to the bytes as received, and forward to what was made of it. */
import { may, maySee } from '../../shared/access/may.ts';
import type { Identity as Asker } from '../../shared/access/tokens.ts';
import { HeadwaterError } from '../../shared/errors.ts';
import { invalid, parseTime } from '../../shared/http/parameters.ts';
import {
  READ_EACH,
  json,
  type Parameters,
  type Reply,
  type Request,
} from '../../shared/http/route.ts';
import {
  BOOLEAN,
  FIELDS,
  INTEGER,
  NUMBER,
  TAGS,
  TEXT,
  TEXTS,
  listOf,
  object,
  orNull,
  type Schema,
} from '../../shared/http/schema.ts';
import { batchPart } from '../batch/part.ts';
import { explain, type ExplainSources } from '../explain/explain.ts';
import { Origins } from '../explain/origin.ts';
import type { Asked } from '../explain/rows.ts';
import { lakePart } from '../lake/part.ts';
import { logPart } from '../log/part.ts';
import type { CollectorPart } from '../part.ts';
import { storePart } from '../store/part.ts';
import { streamPart } from '../stream/part.ts';
import { FILTER, checkAsked, parseFilter } from './parameters.ts';

interface Running {
  /** Asked anew: rules change. */
  sources: () => ExplainSources;
  nowMs: () => number;
}

const QUERY: Parameters = {
  ...FILTER,
  time: { about: 'Of the point: RFC 3339 or epoch milliseconds. With `measurement`.' },
  gateway: { about: 'Instead of series and time, the identity of a reading: its gateway,' },
  epoch: { about: 'the epoch,' },
  sequence: {
    about: 'the sequence,',
    integer: { min: 0, max: Number.MAX_SAFE_INTEGER },
  },
  index: {
    about: 'and which of several readings in the message; all when left out.',
    integer: { min: 0, max: 2 ** 31 - 1 },
  },
};

/** Throws QUERY_INVALID. */
function askedOf(query: URLSearchParams, nowMs: number): Asked {
  const text = (name: string): string | undefined => query.get(name) ?? undefined;
  const [gateway, epoch, sequence, index] = ['gateway', 'epoch', 'sequence', 'index'].map(text);
  const time = text('time');
  const asked: Asked = parseFilter(query);
  if (gateway !== undefined || epoch !== undefined || sequence !== undefined) {
    if (gateway === undefined || epoch === undefined || sequence === undefined)
      return invalid('an identity is gateway, epoch and sequence together');
    if (time !== undefined || asked.measurement !== undefined || asked.tags !== undefined)
      invalid('a point is asked for by its identity or by its series and time, not by both');
    const identity = { gateway, epoch, sequence: Number(sequence) };
    return {
      ...(asked.field === undefined ? {} : { field: asked.field }),
      identity: index === undefined ? identity : { ...identity, index: Number(index) },
    };
  }
  if (index !== undefined) invalid('index is a part of an identity: gateway, epoch, sequence');
  if (asked.measurement === undefined || time === undefined)
    return invalid('which point? measurement and time, or gateway, epoch and sequence');
  return { ...asked, timeMs: Math.floor(parseTime(time, 'time', nowMs)) };
}

function check(asker: Asker, { identity }: Asked): void {
  if (identity === undefined || identity.gateway.startsWith('~')) return;
  if (!maySee(asker, identity.gateway))
    throw new HeadwaterError(
      'FORBIDDEN',
      `this token may not see gateway '${identity.gateway.slice(0, 64)}'`,
    );
}

async function answer({ sources, nowMs }: Running, request: Request): Promise<Reply> {
  const { identity: asker, query } = request;
  checkAsked(asker, query);
  const asked = askedOf(query, nowMs());
  check(asker, asked);
  const viewer = {
    maySee: (gateway: string) => maySee(asker, gateway),
    // As SQL over the zone `raw`.
    hasRaw: may(asker, 'read', 'all'),
  };
  return json(await explain(sources(), asked, viewer));
}

// ---- the answer, as OpenAPI has it ----

const nullable = (schema: Schema): Schema => ({ oneOf: [schema, { type: 'null' }] });
const LOG_PLACE = nullable(object({ topic: TEXT, partition: INTEGER, offset: INTEGER }));
const IDENTITY = { gateway: TEXT, epoch: TEXT, sequence: INTEGER, index: INTEGER };
const PLACE = { measurement: TEXT, tags: TAGS, time: INTEGER };

const MESSAGE = object({
  client: TEXT,
  topic: TEXT,
  qos: INTEGER,
  retain: BOOLEAN,
  bytes: INTEGER,
  payload: orNull(TEXT),
  encoding: orNull(TEXT),
});
const FRAME = object({
  boot: TEXT,
  kind: INTEGER,
  firstSequence: INTEGER,
  count: INTEGER,
  bytes: INTEGER,
  crc32c: TEXT,
  lake: orNull(TEXT),
  log: LOG_PLACE,
});
const CLOCK = object({
  gave: { ...TEXT, enum: ['device', 'gateway', 'anchor', 'unknown'] },
  quality: { ...TEXT, enum: ['unknown', 'assumed', 'synchronised'] },
  offsetMs: NUMBER,
  anchor: nullable(object({ errorMs: NUMBER, basis: TEXT, wallMs: NUMBER })),
});
const MAPPING = object({
  hash: TEXT,
  name: orNull(TEXT),
  inForceMs: INTEGER,
  gives: BOOLEAN,
  others: TEXTS,
});
const FORWARD = object({
  results: listOf({
    kind: TEXT,
    rule: TEXT,
    ...PLACE,
    to: orNull(INTEGER),
    revision: orNull(NUMBER),
    fields: nullable(FIELDS),
  }),
  batches: listOf({ job: TEXT, date: TEXT, ran: INTEGER, read: BOOLEAN, results: INTEGER }),
});
const BACKWARD = object({
  kind: TEXT,
  name: TEXT,
  from: orNull(INTEGER),
  to: orNull(INTEGER),
  readings: orNull(INTEGER),
  inputs: listOf({ ...IDENTITY, time: INTEGER }),
});

const POINT = {
  identity: object(IDENTITY),
  kind: { ...TEXT, enum: ['reading', 'stream', 'batch', 'fleet'] },
  state: { ...TEXT, enum: ['present', 'moved', 'removed'] },
  ...PLACE,
  fields: FIELDS,
  ns: INTEGER,
  until: orNull(NUMBER),
  now: nullable(object(PLACE)),
  before: listOf({ ...PLACE, until: NUMBER }),
  late: orNull(BOOLEAN),
  revision: orNull(NUMBER),
  row: object({ lake: orNull(TEXT), log: LOG_PLACE }),
  message: nullable(MESSAGE),
  frame: nullable(FRAME),
  clock: nullable(CLOCK),
  mapping: nullable(MAPPING),
  lane: orNull(TEXT),
  stages: listOf({ stage: TEXT, time: orNull(NUMBER), delayMs: orNull(NUMBER), note: TEXT }),
  forward: nullable(FORWARD),
  backward: nullable(BACKWARD),
  unknown: TEXTS,
};

export const explainPart: CollectorPart<Running> = {
  name: 'explain',
  roles: ['query'],
  open: (site) => {
    const log = site.get(logPart);
    const origins = new Origins(log);
    const sources = (): ExplainSources => ({
      log,
      origins,
      lake: site.find(lakePart),
      store: site.find(storePart),
      rules: site.find(streamPart)?.stream.inForce,
      batches: site.find(batchPart)?.runner,
    });
    return { sources, nowMs: site.context.nowMs };
  },
  routes: [
    {
      method: 'GET',
      path: '/api/v1/explain',
      isCostly: true,
      about:
        'Where a point comes from (bytes as received, client, frame, clock, mapping, delays) and what was made of it. Bytes are given to tokens that may see all gateways.',
      right: READ_EACH,
      query: QUERY,
      replies: {
        200: {
          about:
            'Every reading or result that is, or was, this point; none: there is nothing that this token may see.',
          schema: object({ points: listOf(POINT), unknown: TEXTS }),
        },
      },
      handle: answer,
    },
  ],
};
