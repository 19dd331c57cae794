/** The API's description, OpenAPI 3.1, served at `/openapi.json`. */
import { FUNCTIONS } from '../store/store.ts';

const text = { type: 'string' };
const integer = { type: 'integer' };
const tags = { type: 'object', additionalProperties: text, description: 'Tag names and values.' };
const value = { oneOf: [{ type: 'number' }, text, { type: 'boolean' }] };
const parameter = (name: string, description: string, schema: object = text) => ({
  name,
  in: 'query',
  description,
  schema,
});
const FILTER = [
  parameter('measurement', 'Only this measurement.'),
  parameter('field', 'Only this field; texts are in `<field>_text`, booleans in `<field>_bool`.'),
  {
    ...parameter('tag', 'Only series with these tags: `tag.KEY=VALUE`, as often as needed.', tags),
    style: 'deepObject',
  },
];

const reply = (description: string, schema: object) => ({
  description,
  content: { 'application/json': { schema } },
});
const list = (name: string, properties: object) => ({
  type: 'object',
  properties: { [name]: { type: 'array', items: { type: 'object', properties } } },
});
const series = { measurement: text, field: text, tags };
/** Where a device or a mapping says them. */
const meaning = { unit: text, name: text };
const failure = reply('What is wrong, where, and what to do.', {
  type: 'object',
  properties: { error: { type: 'object', properties: { code: text, message: text } } },
});

const get = (summary: string, parameters: object[], ok: object) => ({
  get: { summary, parameters, responses: { 200: ok, 400: failure, 401: failure, 503: failure } },
});

const post = (summary: string, parameters: object[], requestBody: object, ok: object) => ({
  post: {
    summary,
    parameters,
    requestBody,
    responses: { ...ok, 400: failure, 401: failure, 403: failure, 503: failure },
  },
});
const body = (type: string, schema: object) => ({ content: { [type]: { schema } } });
const STORED = { 204: { description: 'On stable storage.' } };

/** Which messages of the quarantine, or to decode again. */
const SELECTION = {
  gateway: 'Only of this gateway.',
  topic: 'Only topics that match this MQTT topic filter.',
  reason: 'Only reasons that hold this text.',
  from: 'Received by the gateway at or after: RFC 3339, epoch milliseconds, or now-1h.',
  to: 'Received before.',
};

export const OPENAPI = {
  openapi: '3.1.0',
  info: {
    title: 'Headwater collector',
    version: '1',
    description: 'Series, latest values and queries; all times are epoch milliseconds.',
  },
  components: { securitySchemes: { token: { type: 'http', scheme: 'bearer' } } },
  paths: {
    '/api/v1/series': get(
      'All series.',
      [],
      reply('Series.', list('series', { ...series, ...meaning })),
    ),
    '/api/v1/latest': get(
      'The newest point of each series.',
      FILTER,
      reply('Points.', list('series', { ...series, ...meaning, time: integer, value })),
    ),
    '/api/v1/query': get(
      'Points of series. Without `every` and `fn` the raw points, without a hidden limit; `fn` alone gives one point.',
      [
        ...FILTER,
        parameter('from', 'RFC 3339, epoch milliseconds, or now-1h; inclusive.'),
        parameter('to', 'The same; exclusive.'),
        parameter('every', 'Width of a bucket: 30s, 5m, 1h, 1d, or milliseconds.'),
        parameter('fn', 'Aggregate; `mean` when only `every` is given.', {
          ...text,
          enum: FUNCTIONS,
        }),
      ],
      reply(
        'Points.',
        list('series', {
          ...series,
          points: { type: 'array', items: { type: 'array', prefixItems: [integer, value] } },
        }),
      ),
    ),
    '/api/v1/gateways': get(
      'Gateways seen by this process.',
      [],
      reply(
        'Gateways.',
        list('gateways', {
          gateway: text,
          connected: { type: 'boolean' },
          lastSeenMs: integer,
          frames: integer,
          messages: integer,
        }),
      ),
    ),
    '/api/v1/ledger': get(
      'Whether anything is missing: what arrived, is on its way, lost (why, since when) or nowhere, by gateway and epoch.',
      [parameter('gateway', 'Only this gateway.', text)],
      reply('The account.', {
        type: 'object',
        properties: {
          missing: { type: 'boolean' },
          gateways: { type: 'array', items: { type: 'object' } },
        },
      }),
    ),
    '/api/v1/quarantine': get(
      'Messages that could not be decoded or stored, newest first, with the reason.',
      [
        parameter('limit', 'At most so many, up to 1000.', integer),
        ...Object.entries(SELECTION).map(([name, description]) => parameter(name, description)),
      ],
      reply('Items, how often each kind of reason, and how many wait in all.', {
        type: 'object',
        properties: {
          count: integer,
          ...list('items', {
            gateway: text,
            epoch: text,
            sequence: integer,
            topic: text,
            client: text,
            reason: text,
            receivedMs: integer,
            payload: text,
            encoding: text,
          }).properties,
          ...list('reasons', { reason: text, count: integer }).properties,
        },
      }),
    ),
    '/api/v1/replay': {
      ...get(
        'Replays, and how far each is.',
        [],
        reply(
          'Jobs.',
          list('jobs', {
            id: text,
            which: text,
            finished: { type: 'boolean' },
            messages: integer,
            readings: integer,
            quarantined: integer,
          }),
        ),
      ),
      ...post(
        'Decode raw messages again with the mappings now in force. Needs scope `admin`.',
        [],
        body('application/json', {
          type: 'object',
          properties: {
            which: { ...text, enum: ['quarantined', 'all'], default: 'quarantined' },
            ...Object.fromEntries(
              Object.entries(SELECTION).map(([name, description]) => [
                name,
                { ...text, description },
              ]),
            ),
          },
        }),
        { 202: reply('Begun.', { type: 'object', properties: { id: text } }) },
      ),
    },
    '/api/v1/lake': get(
      'Where the lake is, and what each zone has.',
      [],
      reply('The lake.', {
        type: 'object',
        properties: {
          kind: text,
          address: text,
          ...list('zones', {
            zone: text,
            files: integer,
            bytes: integer,
            rows: integer,
            gateways: integer,
            from: text,
            to: text,
          }).properties,
        },
      }),
    ),
    '/api/v1/batch': get(
      'Batch jobs, and when each is due.',
      [],
      reply(
        'Jobs.',
        list('jobs', {
          name: text,
          about: text,
          measurement: text,
          schedule: { type: ['string', 'null'] },
          next: { type: ['integer', 'null'] },
          inputDays: integer,
          lookbackDays: integer,
        }),
      ),
    ),
    '/api/v1/batch/run': {
      ...get(
        'A run of a job.',
        [{ ...parameter('id', 'As it was answered when it began.'), required: true }],
        reply('The run.', { type: 'object' }),
      ),
      ...post(
        'Runs a job for days; every day that the lake has without `from` and `to`. Needs scope `admin`.',
        [],
        body('application/json', {
          type: 'object',
          properties: {
            job: text,
            from: text,
            to: text,
            engine: { enum: ['duckdb', 'spark'] },
            force: { enum: ['true', 'false'] },
          },
          required: ['job'],
        }),
        { 202: reply('Begun.', { type: 'object', properties: { id: text } }) },
      ),
    },
    '/api/v1/rebuild': {
      ...get('The rebuild that runs, or ran last.', [], reply('Its state.', { type: 'object' })),
      ...post(
        'Makes readings, store and results again from raw. Needs scope `admin`.',
        [],
        body('application/json', { type: 'object' }),
        { 202: reply('Begun.', { type: 'object' }) },
      ),
    },
    '/api/v1/ingest': post(
      'A message, as if it had come by MQTT; `Content-Type` names its codec. Needs scope `write`.',
      [
        { ...parameter('topic', 'Its topic.'), required: true },
        {
          name: 'Idempotency-Key',
          in: 'header',
          description: 'A message that comes again under the same key is the same message.',
          schema: text,
        },
      ],
      body('*/*', {}),
      STORED,
    ),
    '/write': post(
      'Line protocol, as InfluxDB 1.8 takes it. Needs scope `write`.',
      [parameter('db', 'Names the topic.'), parameter('precision', 'ns, u, ms, s, m or h.')],
      body('text/plain', text),
      STORED,
    ),
    '/api/v2/write': post(
      'Line protocol, as InfluxDB 2 takes it. Needs scope `write`.',
      [parameter('bucket', 'Names the topic.'), parameter('precision', 'ns, us, ms or s.')],
      body('text/plain', text),
      STORED,
    ),
    '/api/v1/stream': {
      get: {
        summary: 'Readings as they arrive, as server-sent events named `readings`.',
        responses: { 200: { description: 'A stream.', content: { 'text/event-stream': {} } } },
      },
    },
    '/api/v1/status': get(
      'Lag of each stage, counts, and warnings.',
      [],
      reply('Status.', { type: 'object' }),
    ),
    '/healthz': {
      get: { summary: 'The process lives.', responses: { 200: { description: 'ok' } } },
    },
    '/readyz': {
      get: {
        summary: 'The process takes and answers.',
        responses: { 200: { description: 'ready' }, 503: { description: 'Why not.' } },
      },
    },
    '/metrics': {
      get: {
        summary: 'Prometheus metrics.',
        responses: { 200: { description: 'Text exposition 0.0.4.' } },
      },
    },
  },
  security: [{ token: [] }],
};
