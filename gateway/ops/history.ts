/**
 * The gateway's own last hours: messages as they came, from what waits and what is kept as history, with no collector
 * in reach. Newest first, and bounded: a query reads so many bytes of frames and no more.
 */
import { isUtf8 } from 'node:buffer';
import { decodeJson } from '../../shared/codecs/json.ts';
import { decodeScalar } from '../../shared/codecs/scalar.ts';
import {
  KIND_RECORDS,
  checkFrame,
  readRecords,
  type FrameRecord,
} from '../../shared/frame/frame.ts';
import { parseTime } from '../../shared/http/parameters.ts';
import { listReply } from '../../shared/http/list.ts';
import type { Parameters } from '../../shared/http/route.ts';
import {
  BOOLEAN,
  FIELDS,
  INTEGER,
  TEXT,
  listOf,
  object,
  orNull,
} from '../../shared/http/schema.ts';
import type { FieldValue } from '../../shared/model/reading.ts';
import type { MessageBuffer } from '../buffer/buffer.ts';
import { bufferPart } from '../buffer/part.ts';
import type { StoredFrame } from '../buffer/stored-frame.ts';
import { READ_HERE, type GatewayPart } from '../part.ts';

export interface HistoryQuery {
  /** Exact topic, or a beginning of it that ends with '#'. */
  topic: string | undefined;
  client: string | undefined;
  /** Epoch milliseconds of receipt: inclusive, exclusive. */
  fromMs: number;
  toMs: number;
  limit: number;
}

export interface HistoryMessage {
  /** Receipt, epoch milliseconds by the gateway's clock. */
  time: number;
  client: string;
  topic: string;
  qos: number;
  payload: string;
  encoding: 'utf8' | 'base64';
  /** Numbers, texts and booleans in it, where it can be read without a mapping. */
  fields: Record<string, FieldValue> | null;
}

const LIMIT_MAX = 10_000;
/** Read at once: of what lies between two of them others have their turn. */
const READ_BYTES = 128 * 1024;
const SCAN_BYTES_MAX = 64 * 1024 * 1024;
const HOUR_MS = 3_600_000;

export const HISTORY_QUERY: Parameters = {
  topic: { about: "An exact topic, or a beginning of it that ends with '#'." },
  client: { about: 'Only of this client id.' },
  from: { about: 'Received at or after: RFC 3339, epoch milliseconds, or now-1h (the usual).' },
  to: { about: 'Received before.' },
  limit: { about: 'At most so many; 1000 when left out.', integer: { min: 1, max: LIMIT_MAX } },
};

export function parseHistoryQuery(query: URLSearchParams, nowMs: number): HistoryQuery {
  const limit = Number(query.get('limit') ?? 1000);
  const [from, to] = [query.get('from'), query.get('to')];
  return {
    topic: query.get('topic') ?? undefined,
    client: query.get('client') ?? undefined,
    fromMs: from === null ? nowMs - HOUR_MS : parseTime(from, 'from', nowMs),
    toMs: to === null ? Number.POSITIVE_INFINITY : parseTime(to, 'to', nowMs),
    limit,
  };
}

function fieldsOf(payload: Buffer, receivedMs: number): Record<string, FieldValue> | null {
  if (!isUtf8(payload)) return null;
  const text = payload.toString('utf8');
  try {
    const decoded = /^\s*[{["]/.test(text)
      ? decodeJson(text, receivedMs)
      : decodeScalar(text, 'value');
    return Object.fromEntries(decoded.fields);
  } catch {
    return null; // Shown as it came.
  }
}

function messageOf({ client, topic, qos, payload, receivedUs }: FrameRecord): HistoryMessage {
  const encoding = isUtf8(payload) ? 'utf8' : 'base64';
  const time = Math.floor(receivedUs / 1000);
  const fields = fieldsOf(payload, time);
  return { time, client, topic, qos, payload: payload.toString(encoding), encoding, fields };
}

function matches({ topic, client, receivedUs }: FrameRecord, query: HistoryQuery): boolean {
  const ms = receivedUs / 1000;
  if (ms < query.fromMs || ms >= query.toMs) return false;
  if (query.client !== undefined && client !== query.client) return false;
  if (query.topic === undefined) return true;
  return query.topic.endsWith('#')
    ? topic.startsWith(query.topic.slice(0, -1))
    : topic === query.topic;
}

/** Matching records of one frame, newest first; undefined when it and all before it are too old. */
function search(stored: StoredFrame, query: HistoryQuery): FrameRecord[] | undefined {
  const header = checkFrame(stored.frame);
  if (header.kind !== KIND_RECORDS) return [];
  const records = readRecords(stored.frame, header);
  const last = records.at(-1);
  if (last !== undefined && last.receivedUs / 1000 < query.fromMs) return undefined;
  return records.filter((record) => matches(record, query)).toReversed();
}

/** Of a question. `more`, once all was read: more match than were asked for, or than one query reads. Throws DATA_UNUSABLE while the buffer reopens. */
export class History {
  more = false;
  private readonly buffer: Pick<MessageBuffer<never>, 'readNewest'>;
  private readonly query: HistoryQuery;

  constructor(buffer: Pick<MessageBuffer<never>, 'readNewest'>, query: HistoryQuery) {
    this.buffer = buffer;
    this.query = query;
  }

  async *messages(): AsyncGenerator<HistoryMessage> {
    const { buffer, query } = this;
    let left = query.limit;
    let scanned = 0;
    for (let before: Buffer | undefined; scanned <= SCAN_BYTES_MAX; ) {
      const frames = await buffer.readNewest('held', before, READ_BYTES);
      if (frames.length === 0) return;
      for (const stored of frames) {
        const found = search(stored, query);
        if (found === undefined) return;
        this.more = found.length > left;
        for (const record of found.slice(0, left)) yield messageOf(record);
        if (this.more) return;
        left -= found.length;
        scanned += stored.frame.length;
      }
      before = frames.at(-1)?.position;
    }
    this.more = true;
  }
}

export const historyPart: GatewayPart<{
  buffer: Pick<MessageBuffer<never>, 'readNewest'>;
  nowMs: () => number;
}> = {
  name: 'history',
  open: (site) => ({ buffer: site.get(bufferPart).buffer, nowMs: site.context.nowMs }),
  routes: [
    {
      method: 'GET',
      path: '/api/v1/query',
      isCostly: true,
      about: 'Messages of the last hours as they came, newest first.',
      right: READ_HERE,
      query: HISTORY_QUERY,
      replies: {
        200: {
          about: 'Messages, and whether more match.',
          schema: object({
            messages: listOf({
              time: INTEGER,
              client: TEXT,
              topic: TEXT,
              qos: INTEGER,
              payload: TEXT,
              encoding: TEXT,
              fields: orNull(FIELDS),
            }),
            more: BOOLEAN,
          }),
        },
      },
      handle: ({ buffer, nowMs }, { query }) => {
        const history = new History(buffer, parseHistoryQuery(query, nowMs()));
        return listReply({
          name: 'messages',
          items: history.messages(),
          after: () => ({ more: history.more }),
        });
      },
    },
  ],
};
