/**
 * `headwater mapping try FILE`: what a mapping file would make of messages, beside what is made of them today, before
 * anything is written. The messages are given, or are the last ones of a topic that a gateway keeps, that lie in a
 * collector's quarantine, and that its log has raw.
 */
import { readFileSync } from 'node:fs';
import { loadMappings, parseMappings, type Mapping } from '../collector/decode/mapping/mapping.ts';
import { Mappings } from '../collector/decode/mapping/mappings.ts';
import { shippedMappings } from '../collector/decode/mapping/shipped.ts';
import { makeOf, type Made, type Sample } from '../collector/decode/mapping/try.ts';
import { loadEngine } from '../collector/sandbox/sandbox.ts';
import { helpText, parseFlags, type Flags } from '../shared/config/flags.ts';
import { HeadwaterError, codeOf, messageOf } from '../shared/errors.ts';
import { printable } from '../shared/telemetry/log.ts';
import { ask, askGateway, tell } from './api.ts';

const FLAGS: Flags = {
  topic: { value: 'TOPIC', about: 'Topic of the message, or whose last messages are tried.' },
  payload: { value: 'TEXT', about: 'A message, instead of the last ones; - reads standard input.' },
  'payload-file': { value: 'FILE', about: 'The same from a file, bytes as they are.' },
  before: {
    value: 'FILE',
    about: 'The mapping file in force now, where no collector that answers says it.',
  },
  zone: { value: 'ZONE', about: 'As decode.localZone: of times that name no zone.' },
  http: {
    value: 'HOST:PORT',
    about: 'The collector, for its quarantine, its raw log and the mappings in force.',
    default: '127.0.0.1:8080',
  },
  'gateway-http': {
    value: 'HOST:PORT',
    about: 'The gateway, for the messages that it keeps.',
    default: '127.0.0.1:8081',
  },
  limit: { value: 'N', about: 'At most so many messages, the newest.', default: '5' },
  json: { about: 'JSON instead of text.' },
};

export const MAPPING_HELP = helpText(
  'mapping try FILE --topic TOPIC [flags]',
  'Shows what the mappings of a file would make of messages, beside what is made of them today. Nothing is written; `headwater quarantine replay` applies what the collector has taken.',
  FLAGS,
  `The API token comes from HEADWATER_TOKEN.

Example: headwater mapping try my.yaml --topic 'tank/t7/up'`,
);

interface Kept {
  topic: string;
  payload: string;
  encoding: string;
  time?: number;
  receivedMs?: number;
}

interface Trial {
  today: Made;
  withFile: Made;
}

/** Of one request. */
const TRIALS_MAX = 20;

const sampleOf = ({ topic, payload, encoding, time, receivedMs }: Kept): Sample => ({
  topic,
  payload: Buffer.from(payload, encoding === 'base64' ? 'base64' : 'utf8'),
  receivedMs: time ?? receivedMs ?? Date.now(),
});

async function keptBy(gateway: string, topic: string, limit: number): Promise<Kept[]> {
  const query = new URLSearchParams({ topic, limit: String(limit), from: 'now-7d' }).toString();
  const { messages } = (await askGateway(gateway, `/api/v1/query?${query}`)) as {
    messages: Kept[];
  };
  return messages;
}

/** The newest messages of a topic that gateway and collector have. */
async function lastOf(
  topic: string,
  limit: number,
  values: Record<string, string | boolean | undefined>,
  file: string,
): Promise<Sample[]> {
  const troubles: string[] = [];
  const from = async (asked: Promise<Omit<Kept, 'topic'>[]>): Promise<Sample[]> => {
    try {
      return (await asked).map((each) => sampleOf({ ...each, topic }));
    } catch (error) {
      troubles.push(messageOf(error));
      return [];
    }
  };
  const gateway = String(values['gateway-http'] ?? '127.0.0.1:8081');
  const collector = String(values['http'] ?? '127.0.0.1:8080');
  const found = [
    ...(await from(keptBy(gateway, topic, limit))),
    ...(await from(
      ask(collector, '/api/v1/quarantine', { topic, limit }).then(({ items }) => items),
    )),
    ...(await from(
      tell(collector, '/api/v1/mappings/try', {
        ...bodyOf(file),
        topic,
        limit: Math.min(limit, TRIALS_MAX),
      }).then(({ trials }) => trials),
    )),
  ];
  const different = new Map(found.map((each) => [each.payload.toString('base64'), each]));
  const newest = [...different.values()]
    .sort((a, b) => b.receivedMs - a.receivedMs)
    .slice(0, limit);
  if (newest.length === 0)
    throw new HeadwaterError(
      'NOT_FOUND',
      `no message of '${topic}' is kept${troubles.length === 0 ? '' : ` (${troubles.join('; ')})`}: give one with --payload`,
    );
  return newest;
}

function given(values: Record<string, unknown>, topic: string): Sample | undefined {
  const { payload, 'payload-file': file } = values;
  if (typeof file === 'string') {
    try {
      return { topic, payload: readFileSync(file), receivedMs: Date.now() };
    } catch (error) {
      throw new HeadwaterError('INPUT_FILE', messageOf(error), { cause: error });
    }
  }
  if (typeof payload !== 'string') return undefined;
  const bytes = payload === '-' ? readFileSync(0) : Buffer.from(payload);
  return { topic, payload: bytes, receivedMs: Date.now() };
}

/** A file before the shipped ones, its scripts checked. Throws INPUT_FILE, MAPPING_INVALID. */
export async function mappingsOf(
  file: string | undefined,
  zone: string | undefined,
): Promise<Mappings> {
  const all: Mapping[] = [
    ...(file === undefined ? [] : loadMappings(file)),
    ...shippedMappings().flatMap((each) => parseMappings(each.text, each.file)),
  ];
  if (all.some(({ script }) => script !== undefined)) await loadEngine();
  for (const { script } of all) script?.script.check();
  return new Mappings(all, zone);
}

/** By a collector that answers, whose mappings in force are those of today; undefined: there is none. */
async function tried(
  file: string,
  topic: string,
  samples: readonly Sample[],
  address: string,
): Promise<Trial[] | undefined> {
  const messages = samples.map(({ payload, receivedMs }) => ({
    payload: payload.toString('base64'),
    encoding: 'base64',
    receivedMs: Math.round(receivedMs),
  }));
  try {
    const body = { ...bodyOf(file), topic, messages };
    return (await tell(address, '/api/v1/mappings/try', body)).trials;
  } catch (error) {
    if (!['UNREACHABLE', 'UNAUTHORIZED', 'QUERY_INVALID'].includes(codeOf(error))) throw error;
    if (codeOf(error) !== 'UNREACHABLE')
      process.stderr.write(
        `today is as shipped: the collector does not say what is in force (${messageOf(error)})\n`,
      );
    return undefined;
  }
}

/** The file and the scripts that it names, as they are. */
function bodyOf(file: string): { mapping: string; scripts: Record<string, string> } {
  const source = { files: {} as Record<string, string> };
  for (const { script } of loadMappings(file, source)) script?.script.close();
  const { [file]: mapping = '', ...scripts } = source.files;
  return { mapping, scripts };
}

/** A line for each reading, and what else is to be told. */
export function linesOf({ readings, told }: Made, receivedMs: number): string[] {
  const lines = readings.map(({ measurement, tags, fields, timeMs }) => {
    const at = timeMs === receivedMs ? 'at receipt' : new Date(timeMs).toISOString();
    const pairs = (values: Record<string, unknown>): string =>
      Object.entries(values)
        .map(([name, value]) => `${name}=${JSON.stringify(value)}`)
        .join(' ');
    return `${measurement} {${pairs(tags)}} ${pairs(fields)} (${at})`;
  });
  const all = [...lines, ...told];
  return all.length === 0 ? ['no reading'] : all;
}

function textOf(sample: Sample, today: Made, then: Made): string {
  const shown = printable(sample.payload.toString('utf8').slice(0, 160));
  const before = linesOf(today, sample.receivedMs);
  const after = linesOf(then, sample.receivedMs);
  const isSame = before.join('\n') === after.join('\n');
  const block = (head: string, lines: string[]): string =>
    `  ${head}\n${lines.map((line) => `    ${printable(line)}\n`).join('')}`;
  return `${printable(sample.topic)}  ${shown}\n${
    isSame
      ? block('today and with the file', after)
      : `${block('today', before)}${block('with the file', after)}`
  }`;
}

export async function mapping(args: string[]): Promise<void> {
  const { values, positionals, help } = parseFlags('mapping', args, FLAGS, 2);
  if (help) {
    process.stdout.write(MAPPING_HELP);
    return;
  }
  const [action, file] = positionals;
  const { topic, before, zone } = values;
  if (action !== 'try' || file === undefined)
    throw new HeadwaterError('USAGE', 'it is: headwater mapping try FILE --topic TOPIC');
  if (typeof topic !== 'string')
    throw new HeadwaterError('USAGE', 'whose messages? --topic TOPIC says it');
  const limit = Number(values['limit'] ?? 5);
  if (!Number.isInteger(limit) || limit < 1 || limit > 1000)
    throw new HeadwaterError(
      'USAGE',
      `--limit ${String(values['limit'])} is not a number from 1 to 1000`,
    );
  const local = typeof zone === 'string' ? zone : undefined;
  const then = await mappingsOf(file, local);
  const one = given(values, topic);
  const samples = one === undefined ? await lastOf(topic, limit, values, file) : [one];
  const isRunning = before === undefined && local === undefined;
  const address = String(values['http'] ?? '127.0.0.1:8080');
  const trials =
    isRunning && samples.length <= TRIALS_MAX
      ? await tried(file, topic, samples, address)
      : undefined;
  const today =
    trials === undefined
      ? await mappingsOf(typeof before === 'string' ? before : undefined, local)
      : undefined;
  for (const [index, sample] of samples.entries()) {
    const trial = trials?.[index];
    const now = trial?.today ?? makeOf(sample, today as Mappings); // There where no collector answered.
    const next = trial?.withFile ?? makeOf(sample, then);
    process.stdout.write(
      values['json'] === true
        ? `${JSON.stringify({ topic: sample.topic, today: now, withFile: next })}\n`
        : textOf(sample, now, next),
    );
  }
}
