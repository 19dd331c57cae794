/**
 * A mapping file on trial: what it would make of messages, beside what the mappings in force make of them. Nothing is
 * written; a replay applies what has been taken. A user's script runs in the sandbox, with its limits, so whoever asks has
 * to be one who may change mappings.
 */
import { loadEngine } from '../sandbox/sandbox.ts';
import { messageOf } from '../../shared/errors.ts';
import { invalid } from '../../shared/http/parameters.ts';
import { json, type Request } from '../../shared/http/route.ts';
import {
  FIELDS,
  INTEGER,
  NUMBER,
  TAGS,
  TEXT,
  listOf,
  maybe,
  object,
} from '../../shared/http/schema.ts';
import { parseMappings, type Mapping } from '../decode/mapping/mapping.ts';
import { Mappings } from '../decode/mapping/mappings.ts';
import { makeOf, type Made, type Sample } from '../decode/mapping/try.ts';
import { decodePart, mappingsPart } from '../decode/part.ts';
import { lastMessages } from '../explain/last-messages.ts';
import type { Log } from '../log/log.ts';
import { logPart } from '../log/part.ts';
import type { CollectorPart } from '../part.ts';
import { quarantinePart, type QuarantineView } from './quarantine.ts';

const BODY_BYTES_MAX = 2 * 1024 * 1024;
/** A script may take its whole time for each. */
const MESSAGES_MAX = 20;
const LIMIT_USUAL = 5;

interface Running {
  /** Those in force. */
  today: () => Mappings;
  /** Behind the file's own. */
  others: readonly { file: string; text: string }[];
  /** Where what is right goes; empty: this collector was started without one. */
  file: string;
  localZone: string;
  pastDays: number;
  view: QuarantineView;
  log: Log;
  nowMs: () => number;
}

interface Given {
  mapping: string;
  scripts: Record<string, string>;
  topic: string;
  limit: number;
  messages: Sample[] | undefined;
}

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

function textOf(value: unknown, name: string): string {
  return typeof value === 'string' ? value : invalid(`'${name}' is not a text`);
}

function messagesOf(value: unknown, topic: string, nowMs: number): Sample[] | undefined {
  if (value === undefined) return undefined;
  if (!Array.isArray(value) || value.length > MESSAGES_MAX)
    return invalid(`'messages' is not a list of at most ${MESSAGES_MAX}`);
  return value.map((each: unknown, index): Sample => {
    if (!isObject(each)) return invalid(`messages[${index}] is not an object`);
    const { payload, encoding = 'utf8', receivedMs = Math.round(nowMs) } = each;
    if (encoding !== 'utf8' && encoding !== 'base64')
      return invalid(`messages[${index}]: 'encoding' is neither utf8 nor base64`);
    if (typeof receivedMs !== 'number' || !Number.isSafeInteger(receivedMs) || receivedMs < 0)
      return invalid(`messages[${index}]: 'receivedMs' is no time in milliseconds`);
    const text = textOf(payload, `messages[${index}].payload`);
    return { topic, payload: Buffer.from(text, encoding), receivedMs };
  });
}

/** Throws QUERY_INVALID. */
function read(text: string, nowMs: number): Given {
  let body: unknown;
  try {
    body = JSON.parse(text);
  } catch (error) {
    return invalid(`the body is not JSON: ${messageOf(error)}`);
  }
  if (!isObject(body)) return invalid('the body is not an object');
  const { mapping, scripts = {}, topic, limit = LIMIT_USUAL, messages } = body;
  if (!isObject(scripts)) return invalid("'scripts' is not an object of file names and texts");
  if (typeof limit !== 'number' || !Number.isInteger(limit) || limit < 1 || limit > MESSAGES_MAX)
    return invalid(`'limit' is not a number from 1 to ${MESSAGES_MAX}`);
  const given = textOf(topic, 'topic');
  if (given === '' || given.length > 65_535) return invalid("'topic' is no topic");
  return {
    mapping: textOf(mapping, 'mapping'),
    scripts: Object.fromEntries(
      Object.entries(scripts).map(([name, each]) => [name, textOf(each, `scripts.${name}`)]),
    ),
    topic: given,
    limit,
    messages: messagesOf(messages, given, nowMs),
  };
}

/** The newest of a topic that wait in quarantine, and of those that the log has raw. */
async function newest({ view, log }: Running, topic: string, limit: number): Promise<Sample[]> {
  const found = [
    ...(await waiting(view, topic, limit)),
    ...(await lastMessages(log, topic, limit)).map((each) => ({ topic, ...each })),
  ];
  const different = new Map(found.map((each) => [each.payload.toString('base64'), each]));
  return [...different.values()].sort((a, b) => b.receivedMs - a.receivedMs).slice(0, limit);
}

async function waiting(view: QuarantineView, topic: string, limit: number): Promise<Sample[]> {
  await view.whenRead();
  // A filter may match more than the topic itself.
  return [...view.list(MESSAGES_MAX, { topic }).items]
    .filter((item) => item.topic === topic)
    .slice(0, limit)
    .map(({ payload, encoding, receivedMs }) => ({
      topic,
      payload: Buffer.from(payload, encoding),
      receivedMs,
    }));
}

interface Trial {
  payload: string;
  encoding: 'utf8' | 'base64';
  receivedMs: number;
  today: Made;
  withFile: Made;
}

async function attempt(running: Running, request: Request): Promise<Trial[]> {
  const { mapping, scripts, topic, limit, messages } = read(
    (await request.body(BODY_BYTES_MAX)).toString('utf8'),
    running.nowMs(),
  );
  if (Object.keys(scripts).length > 0) await loadEngine();
  // Never a file of this machine.
  const own: Mapping[] = parseMappings(mapping, 'mapping', (name) =>
    Object.hasOwn(scripts, name)
      ? (scripts[name] as string) // Just asked.
      : invalid(`the script ${name} is not given: 'scripts' has its text under its name`),
  );
  const used = own.flatMap(({ script }) => (script === undefined ? [] : [script.script]));
  try {
    for (const script of used) script.check();
    const others = running.others.flatMap(({ file, text }) => parseMappings(text, file));
    const zone = running.localZone === '' ? undefined : running.localZone;
    const then = new Mappings([...own, ...others], zone, running.pastDays);
    const samples = messages ?? (await newest(running, topic, limit));
    return samples.map((sample): Trial => {
      const text = sample.payload.toString('utf8');
      const isText = Buffer.from(text).equals(sample.payload);
      return {
        payload: isText ? text : sample.payload.toString('base64'),
        encoding: isText ? 'utf8' : 'base64',
        receivedMs: sample.receivedMs,
        today: makeOf(sample, running.today()),
        withFile: makeOf(sample, then),
      };
    });
  } finally {
    for (const script of used) script.close();
  }
}

export const MADE = object({
  readings: listOf({ measurement: TEXT, tags: TAGS, fields: FIELDS, timeMs: NUMBER }),
  told: { type: 'array', items: TEXT },
});

export const mappingTryPart: CollectorPart<Running> = {
  name: 'mapping try',
  roles: ['query'],
  open: (site) => {
    const { config, nowMs } = site.context;
    const { loaded } = site.get(mappingsPart);
    const decoding = site.find(decodePart);
    return {
      today: () => decoding?.stage.decoder.mappings ?? loaded.mappings,
      others: loaded.version.others,
      file: config.mappings,
      localZone: config['decode.localZone'],
      pastDays: config['decode.deviceTimePastDays'],
      view: site.get(quarantinePart).view,
      log: site.get(logPart),
      nowMs,
    };
  },
  routes: [
    {
      method: 'POST',
      path: '/api/v1/mappings/try',
      about:
        'What a mapping file would make of messages, beside what is made of them today. Nothing is written. Without messages the newest of the topic are tried: those that wait in quarantine, and those that the log has raw.',
      right: { scope: 'admin', subject: 'all' },
      isCostly: true,
      body: {
        type: 'application/json',
        schema: object({
          mapping: TEXT,
          scripts: maybe({ type: 'object', additionalProperties: TEXT }),
          topic: TEXT,
          limit: maybe(INTEGER),
          messages: maybe(
            listOf({ payload: TEXT, encoding: maybe(TEXT), receivedMs: maybe(INTEGER) }),
          ),
        }),
      },
      replies: {
        200: {
          about:
            'A trial for each message, and the file that mappings are read from; empty: this collector was started without one.',
          schema: object({
            file: TEXT,
            trials: listOf({
              payload: TEXT,
              encoding: TEXT,
              receivedMs: INTEGER,
              today: MADE,
              withFile: MADE,
            }),
          }),
        },
      },
      handle: async (running, request) =>
        json({ file: running.file, trials: await attempt(running, request) }),
    },
  ],
};
