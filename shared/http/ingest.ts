/**
 * Readings over HTTP, the same on gateway and collector: every codec, by content type, on `/api/v1/ingest?topic=`, and line
 * protocol as InfluxDB's clients send it on `/write` and `/api/v2/write`. A 2xx is sent after the fsync (law 1), and so is
 * the 400 that names lines which are bad (`partial-write.ts`).
 *
 * A request with an `Idempotency-Key` that was answered before is answered again and not stored again. The key also goes
 * with the message, as a user property: what comes twice all the same (to another process, after a restart) is decoded
 * once. Source: IETF draft-ietf-httpapi-idempotency-key-header; InfluxDB 1.8 and 2 API references.
 */
import { createHash } from 'node:crypto';
import { HeadwaterError, messageOf } from '../errors.ts';
import { principalOf } from '../access/shares.ts';
import type { Identity } from '../access/tokens.ts';
import { checkTopicName, readString } from '../mqtt/packets.ts';
import { encodeProperties } from '../mqtt/properties.ts';
import { AnsweredKeys } from './answered.ts';
import { invalid } from './parameters.ts';
import { partialWrite, type WriteApi } from './partial-write.ts';
import {
  json,
  type Parameters,
  type Reply,
  type Request,
  type Right,
  type Route,
} from './route.ts';
import { FAILURE, TEXT, object } from './schema.ts';

export interface HttpMessage {
  /** Of the sender: `http`, with the name of its token if it has one. */
  client: string;
  /** Whose share of a limit it counts against. */
  principal: string;
  topic: string;
  payload: Buffer;
  properties: Uint8Array | undefined;
}

export interface IngestSink {
  /** Resolves after the fsync. Throws a retryable error when it cannot be stored now. */
  accept(message: HttpMessage): Promise<void>;
  mayPublish(identity: Identity, topic: string): boolean;
  bodyBytesMax: number;
}

const KEY_CHARS_MAX = 255;
const TOPIC_BYTES_MAX = 65_535;

/** Whose language is spoken here: clients choose by it. */
export const INFLUXDB_VERSION = '1.8.10';

export const IDEMPOTENCY_PROPERTY = 'idempotency-key';
const LINE_PROTOCOL = 'application/vnd.influx.line-protocol';
/** InfluxDB's names of precisions, 1.8's and 2's. */
const PRECISIONS: Record<string, string> = {
  ns: 'ns',
  n: 'ns',
  us: 'us',
  u: 'us',
  µ: 'us',
  ms: 'ms',
  s: 's',
};

/** What stands before `influxdb/` topics' bucket or database. */
const asLevel = (name: string): string =>
  name.replaceAll(/[/+#%\p{Cc}]/gu, (char) => encodeURIComponent(char));

export class HttpIngest {
  readonly sink: IngestSink;
  private readonly answered = new AnsweredKeys();

  constructor(sink: IngestSink) {
    this.sink = sink;
  }

  async message(request: Request): Promise<Reply> {
    const topic = request.query.get('topic') ?? '';
    if (topic === '') invalid("'topic' is empty: POST /api/v1/ingest?topic=TOPIC");
    return await this.take(request, topic, request.headers['content-type'], []);
  }

  async lines(request: Request, bucket: string | null, api: WriteApi): Promise<Reply> {
    const given = request.query.get('precision') ?? 'ns';
    const precision = Object.hasOwn(PRECISIONS, given) ? PRECISIONS[given] : undefined;
    if (precision === undefined) invalid(`precision=${given} is not one of ns, us, ms, s`);
    const topic = `influxdb/${asLevel(bucket ?? '') || 'default'}`;
    const look = (payload: Buffer): Reply | undefined => partialWrite(payload, api);
    return await this.take(request, topic, LINE_PROTOCOL, [['precision', precision]], look);
  }

  private async take(
    request: Request,
    topic: string,
    contentType: string | undefined,
    user: [string, string][],
    look: (payload: Buffer) => Reply | undefined = () => undefined,
  ): Promise<Reply> {
    const { identity } = request;
    this.checkTopic(topic);
    if (!this.sink.mayPublish(identity, topic))
      throw new HeadwaterError('FORBIDDEN', `this token may not publish to '${topic}'`);
    const payload = await request.body(this.sink.bodyBytesMax);
    const partial = look(payload);
    const key = idempotencyKey(request);
    const client = identity.name === '' ? 'http' : `http:${identity.name}`;
    const properties = encodeProperties({
      contentType: contentType?.slice(0, 256),
      user: key === undefined ? user : [...user, [IDEMPOTENCY_PROPERTY, key]],
    });
    const message: HttpMessage = {
      client,
      principal: principalOf(identity.name === '' ? undefined : identity.name, request.address),
      topic,
      payload,
      properties: properties.length === 0 ? undefined : properties,
    };
    if (key === undefined) {
      await this.sink.accept(message);
      return partial ?? { status: 204, body: '' };
    }
    const reply = await this.once(`${client}\0${key}`, message, request);
    return partial ?? reply;
  }

  private checkTopic(topic: string): void {
    try {
      const bytes = Buffer.from(topic);
      if (bytes.length > TOPIC_BYTES_MAX) throw new Error('topic is longer than 65,535 bytes');
      const size = Buffer.alloc(2);
      size.writeUInt16BE(bytes.length);
      readString(Buffer.concat([size, bytes]), 0, 'topic');
      checkTopicName(topic);
    } catch (error) {
      invalid(messageOf(error));
    }
  }

  private async once(
    name: string,
    message: HttpMessage,
    { principal, keys }: Request,
  ): Promise<Reply> {
    const body = createHash('sha256')
      .update(message.topic)
      .update('\0')
      .update(message.payload)
      .digest('base64');
    const before = this.answered.get(name);
    if (before !== undefined) {
      if (before.body !== body)
        invalid('this Idempotency-Key was used for another message: a key belongs to one');
      await before.stored;
      return { status: 204, body: '', headers: { 'idempotency-replayed': 'true' } };
    }
    const stored = this.sink.accept(message);
    this.answered.set(name, { body, stored }, principal, keys);
    try {
      await stored;
    } catch (error) {
      // Not stored, as far as is known: the next try is a new one.
      this.answered.delete(name);
      throw error;
    }
    return { status: 204, body: '' };
  }
}

/** The header's value; its quotation marks (it is a structured string) may be there or not. Throws QUERY_INVALID. */
function idempotencyKey({ headers }: Request): string | undefined {
  const value = headers['idempotency-key'];
  if (value === undefined) return undefined;
  const key = String(value).replace(/^"(.*)"$/, '$1');
  if (key === '' || key.length > KEY_CHARS_MAX)
    invalid(`Idempotency-Key has between 1 and ${KEY_CHARS_MAX} characters`);
  return key;
}

const STORED = { 204: { about: 'On stable storage.' } };
const MAY_WRITE: Right = { scope: 'write', subject: 'here' };
/** What InfluxDB's clients send with a write, and what has no meaning here. */
const WITHOUT_MEANING: Parameters = {
  u: { about: 'A user name, of InfluxDB 1.8; not looked at.' },
  p: { about: 'The API token, where InfluxDB 1.8 has a password.' },
  rp: { about: 'A retention policy; not looked at.' },
  consistency: { about: 'Not looked at.' },
  org: { about: 'Not looked at.' },
  orgID: { about: 'Not looked at.' },
};
const KEY: Parameters = {
  'idempotency-key': {
    about: 'A message that comes again under the same key is the same message.',
  },
};

/** A parameter that is wrong is told in our form; lines that are, in that of InfluxDB, whose clients read it. */
const NOT_WRITTEN_1 = {
  about: 'Lines that could not be written, and why; the others are stored.',
  schema: { anyOf: [object({ error: TEXT }), FAILURE] },
};
const NOT_WRITTEN_2 = {
  about: 'Lines that could not be written, and why; the others are stored.',
  schema: { anyOf: [object({ code: TEXT, message: TEXT }), FAILURE] },
};

export const INGEST_ROUTES: readonly Omit<Route<HttpIngest>, 'socket'>[] = [
  {
    method: 'POST',
    path: '/api/v1/ingest',
    about: 'A message, as if it had come by MQTT; `Content-Type` names its codec.',
    right: MAY_WRITE,
    query: { topic: { about: 'Its topic.', required: true } },
    headers: KEY,
    body: { type: '*/*', schema: {} },
    replies: STORED,
    handle: (ingest, request) => ingest.message(request),
  },
  {
    method: 'POST',
    path: '/write',
    about: 'Line protocol, as InfluxDB 1.8 takes it.',
    right: MAY_WRITE,
    query: {
      db: { about: 'Names the topic.' },
      precision: { about: 'ns, u, ms or s.' },
      ...WITHOUT_MEANING,
    },
    headers: KEY,
    body: { type: 'text/plain', schema: TEXT },
    replies: { ...STORED, 400: NOT_WRITTEN_1 },
    handle: (ingest, request) => ingest.lines(request, request.query.get('db'), 1),
  },
  {
    method: 'POST',
    path: '/api/v2/write',
    about: 'Line protocol, as InfluxDB 2 takes it.',
    right: MAY_WRITE,
    query: {
      bucket: { about: 'Names the topic.' },
      precision: { about: 'ns, us, ms or s.' },
      ...WITHOUT_MEANING,
    },
    headers: KEY,
    body: { type: 'text/plain', schema: TEXT },
    replies: { ...STORED, 400: NOT_WRITTEN_2 },
    handle: (ingest, request) => ingest.lines(request, request.query.get('bucket'), 2),
  },
  {
    method: 'GET',
    path: '/ping',
    about: "What InfluxDB 1.8's clients ask before they write.",
    right: 'open',
    query: 'any',
    replies: { 204: { about: 'Here.' } },
    handle: () => ({
      status: 204,
      body: '',
      headers: { 'x-influxdb-version': INFLUXDB_VERSION, 'x-influxdb-build': 'headwater' },
    }),
  },
  {
    method: 'GET',
    path: '/health',
    about: "What InfluxDB 2's clients ask before they write.",
    right: 'open',
    query: 'any',
    replies: {
      200: {
        about: 'Here.',
        schema: object({ name: TEXT, status: TEXT, message: TEXT, version: TEXT }),
      },
    },
    handle: () =>
      json({
        name: 'headwater',
        status: 'pass',
        message: 'ready for queries and writes',
        version: INFLUXDB_VERSION,
      }),
  },
];
