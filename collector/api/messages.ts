/**
 * `GET /api/v1/messages`: messages as they were received, newest first, and what the mappings in force make of each: for who
 * looks at a device, before or beside what the store has of it.
 */
import { isUtf8 } from 'node:buffer';
import { invalid } from '../../shared/http/parameters.ts';
import { READ_ALL, json, type Reply, type Request } from '../../shared/http/route.ts';
import {
  BOOLEAN,
  INTEGER,
  TEXT,
  listOf,
  object,
  orNull,
  textsOf,
  type Schema,
} from '../../shared/http/schema.ts';
import { filterMatches } from '../../shared/mqtt/packets.ts';
import { makeOf, type Made } from '../decode/mapping/try.ts';
import { decodePart, mappingsPart } from '../decode/part.ts';
import { newestMessages, type NewestMessage } from '../explain/newest.ts';
import type { Log } from '../log/log.ts';
import { logPart } from '../log/part.ts';
import type { CollectorPart } from '../part.ts';
import { MADE } from './mapping-try.ts';
import { checkFilter } from './parameters.ts';

const LIMIT_USUAL = 20;
const LIMIT_MAX = 500;
/** Of all payloads of an answer, cut at the same length. */
const PAYLOADS_BYTES_MAX = 1024 * 1024;
/** Of decoding: who follows waits no longer, and nothing else does. */
const MADE_MS_MAX = 300;

interface Running {
  log: Log;
  make: (message: NewestMessage) => Made;
  monotonicMs: () => number;
}

/** Throws QUERY_INVALID. */
function placesOf(text: string): Map<number, number> {
  if (!/^(?:\d{1,6}:\d{1,16}(?:,|$))*$/.test(text))
    invalid(`after=${text.slice(0, 100)} is not the 'next' of an answer`);
  return new Map(
    text
      .split(',')
      .filter((part) => part !== '')
      .map((part): [number, number] => {
        const [partition, offset] = part.split(':').map(Number);
        return [partition ?? 0, offset ?? 0];
      }),
  );
}

const textOf = (places: ReadonlyMap<number, number>): string =>
  [...places].map(([partition, offset]) => `${partition}:${offset}`).join(',');

function shownOf(message: NewestMessage, bytesMax: number, made: Made | null) {
  const { gateway, epoch, sequence, client, topic, qos, retain, payload } = message;
  const { receivedMs, arrivedMs = null } = message;
  const isText = isUtf8(payload);
  const part = payload.subarray(0, bytesMax);
  return {
    ...{ gateway, epoch, sequence, client, topic, qos, retain, receivedMs, arrivedMs },
    bytes: payload.length,
    // A character that was cut in two is left out.
    payload: isText
      ? part.toString('utf8').slice(0, part.length < payload.length ? -1 : undefined)
      : part.toString('base64'),
    encoding: isText ? 'utf8' : 'base64',
    isWhole: part.length === payload.length,
    made,
  };
}

async function answer({ log, make, monotonicMs }: Running, request: Request): Promise<Reply> {
  const { query, signal } = request;
  const filter = query.get('topic');
  if (filter !== null) checkFilter(filter);
  const limit = Number(query.get('limit') ?? LIMIT_USUAL);
  const { messages, next, unread } = await newestMessages(log, {
    isWanted: (topic) => filter === null || filterMatches(filter, topic),
    isOfEach: query.get('each') === 'topic',
    ...{ limit, signal, after: placesOf(query.get('after') ?? '') },
  });
  const since = monotonicMs();
  const bytesMax = Math.floor(PAYLOADS_BYTES_MAX / limit);
  return json({
    messages: messages.map((each) =>
      shownOf(each, bytesMax, monotonicMs() - since > MADE_MS_MAX ? null : make(each)),
    ),
    next: textOf(next),
    unread: unread ?? null,
  });
}

const nullable = (schema: Schema): Schema => ({ oneOf: [schema, { type: 'null' }] });

export const messagesPart: CollectorPart<Running> = {
  name: 'messages',
  roles: ['query'],
  open: (site) => {
    const { loaded } = site.get(mappingsPart);
    const decoding = site.find(decodePart)?.stage;
    return {
      log: site.get(logPart),
      make: ({ gateway, topic, payload, receivedMs, partition }) =>
        makeOf(
          { gateway, topic, payload, receivedMs },
          decoding?.decoder.mappings ?? loaded.mappings,
          decoding?.codecsOf(partition, gateway),
        ),
      monotonicMs: () => site.context.env.clock.monotonicUs() / 1000,
    };
  },
  routes: [
    {
      method: 'GET',
      path: '/api/v1/messages',
      about:
        "The newest messages as they were received, from the end of the log, newest first, and what the mappings in force make of each. `next` as the next question's `after` gives only what came since.",
      right: READ_ALL,
      isCostly: true,
      query: {
        topic: { about: 'Only topics that match this MQTT topic filter.' },
        each: { about: 'Only the newest of each topic.', choices: ['topic'] },
        limit: {
          about: `At most so many; ${LIMIT_USUAL} when left out. Payloads are cut at ${PAYLOADS_BYTES_MAX / 1024} KiB divided by it.`,
          integer: { min: 1, max: LIMIT_MAX },
        },
        after: { about: '`next` of an answer before.' },
      },
      replies: {
        200: {
          about:
            'Messages; `made` is null where decoding all of them would take too long; `unread`: why not all was looked through.',
          schema: object({
            messages: listOf({
              ...{ gateway: TEXT, epoch: TEXT, sequence: INTEGER, client: TEXT, topic: TEXT },
              ...{ qos: INTEGER, retain: BOOLEAN, receivedMs: INTEGER },
              arrivedMs: orNull(INTEGER),
              ...{ bytes: INTEGER, payload: TEXT, encoding: textsOf('utf8', 'base64') },
              isWhole: BOOLEAN,
              made: nullable(MADE),
            }),
            next: TEXT,
            unread: orNull(TEXT),
          }),
        },
      },
      handle: answer,
    },
  ],
};
