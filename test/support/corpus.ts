/**
 * The corpus of public payloads (`test/vectors/corpus`): messages of named devices with their source and licence, what a
 * user writes for them, if anything, and what they are to become.
 *
 * A file is sections. `source`, `licence` and `how` open one; `zone` holds within it; `mapping` lines and a `script` are
 * for the message behind them. A message is a line: topic, space, payload; `hex:` is bytes, ⏎ a line end, ␣ a space of the topic.
 * `node --import tsx test/support/corpus.ts` writes what they become now beside them, for a person to review.
 */
import { readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { loadEngine } from '../../collector/sandbox/sandbox.ts';
import { parseMappings, type Mapping } from '../../collector/decode/mapping/mapping.ts';
import { Mappings } from '../../collector/decode/mapping/mappings.ts';
import { shippedMappings } from '../../collector/decode/mapping/shipped.ts';
import { Undecodable } from '../../shared/codecs/codec.ts';
import { decodeAll, shipped } from './decode.ts';

const FOLDER = fileURLToPath(new URL('../vectors/corpus', import.meta.url));

export interface Message {
  file: string;
  source: string;
  licence: string;
  how: string;
  zone: string | undefined;
  topic: string;
  payload: Buffer;
  /** Lines of a mapping. */
  mapping: string[];
  script: string | undefined;
}

/** What a message becomes, as the golden files have it: readings, then what is told. */
export type Golden = (string | [measurement: string, tags: object, fields: object, at: string])[];

export const corpusFiles = (): string[] =>
  readdirSync(FOLDER)
    .filter((name) => name.endsWith('.txt'))
    .map((name) => name.slice(0, -4))
    .sort();

const bytesOf = (text: string): Buffer =>
  text.startsWith('hex:')
    ? Buffer.from(text.slice(4), 'hex')
    : Buffer.from(text.replaceAll('⏎', '\n'));

export function corpus(file: string): Message[] {
  const messages: Message[] = [];
  let about = { source: '', licence: '', how: '', zone: undefined as string | undefined };
  let mapping: string[] = [];
  let script: string | undefined;
  for (const line of readFileSync(join(FOLDER, `${file}.txt`), 'utf8').split('\n')) {
    const [, key, value = ''] = /^(source|licence|how|zone|mapping|script): (.*)$/.exec(line) ?? [];
    if (key === 'source') about = { source: value, licence: '', how: '', zone: undefined };
    else if (key === 'mapping') mapping.push(value);
    else if (key === 'script') script = value;
    else if (key !== undefined) about = { ...about, [key]: value };
    else if (line !== '') {
      const at = line.indexOf(' ');
      const topic = line.slice(0, at).replaceAll('␣', ' ');
      const payload = bytesOf(line.slice(at + 1));
      messages.push({ file, ...about, topic, payload, mapping, script });
      mapping = [];
      script = undefined;
    }
  }
  return messages;
}

/** Where networks have the bytes; elsewhere the payload is them. */
const ENVELOPES = [
  {
    begins: 'v3/',
    topic: 'v3/{application}@{tenant}/devices/{device}/up',
    bytes: 'uplink_message.frm_payload',
    port: 'uplink_message.f_port',
    time: '$.received_at',
  },
  {
    begins: 'application/',
    topic: 'application/{application}/device/{dev_eui}/event/up',
    bytes: 'data',
    port: 'fPort',
    time: '$.time',
  },
];

const envelopeOf = (topic: string) => ENVELOPES.find(({ begins }) => topic.startsWith(begins));

let perTopic: Map<string, number> | undefined;

/** Whether its script is for it alone, so that all messages can stand side by side. */
export function isOwn({ topic, script }: Message): boolean {
  if (script === undefined) return true;
  if (perTopic === undefined) {
    perTopic = new Map();
    for (const each of corpusFiles().flatMap(corpus))
      perTopic.set(each.topic, (perTopic.get(each.topic) ?? 0) + 1);
  }
  return envelopeOf(topic) === undefined && perTopic.get(topic) === 1;
}

/** What a user writes for a message, as a mapping file; undefined: nothing. */
export function yamlOf({ topic, mapping, script }: Message): string | undefined {
  if (mapping.length > 0) return `mappings:\n  - ${mapping.join('\n    ')}\n`;
  if (script === undefined) return undefined;
  const envelope = envelopeOf(topic);
  if (envelope === undefined)
    return `mappings:\n  - topic: ${topic}\n    codec: bytes\n    script: own.js\n`;
  const { bytes, port, time } = envelope;
  return `mappings:
  - topic: "${envelope.topic}"
    rest: false
    script: { file: own.js, bytes: ${bytes}, port: ${port} }
    points: [{ each: decoded, measurement: lorawan, time: ${time} }]
`;
}

let behind: Mapping[] | undefined;

function mappingsOf(message: Message): Mappings {
  const yaml = yamlOf(message);
  if (yaml === undefined) return shipped(message.zone);
  const own = parseMappings(yaml, 'own', () => message.script ?? '');
  behind ??= shippedMappings().flatMap(({ file, text }) => parseMappings(text, file));
  return new Mappings([...own, ...behind], message.zone);
}

/** Receipt of all of them. */
export const RECEIVED_MS = Date.UTC(2026, 4, 2);

/** A reason without what differs from one Node or folder to another. */
export const comparable = (reason: string): string =>
  reason
    .replace(/not JSON: [^;]*/, 'not JSON')
    .replace(/mapping '[^']*' takes/, 'a mapping takes')
    .replace(/mapping '[^']*' (leaves out [^(]*) \(.*?\)/, '$1');

export function become(message: Message): Golden {
  const options = { mappings: mappingsOf(message), receivedMs: RECEIVED_MS };
  try {
    const { readings, problems, omitted, left } = decodeAll(
      message.topic,
      message.payload,
      options,
    );
    return [
      ...readings.map(({ measurement, tags, fields, timeMs }): Golden[number] => {
        const { gateway: _gateway, ...own } = tags;
        const at = timeMs === RECEIVED_MS ? 'receipt' : new Date(timeMs).toISOString();
        return [measurement, own, fields, at];
      }),
      ...problems.map(({ reason, part }) =>
        part === undefined
          ? `problem: ${comparable(reason)}`
          : `problem at ${part.index}: ${comparable(reason)}`,
      ),
      ...(omitted === 0 ? [] : [`omitted: ${omitted}`]),
      ...(left === undefined ? [] : [`left over: ${left.paths.join(', ')}`]),
    ];
  } catch (error) {
    if (!(error instanceof Undecodable)) throw error;
    return [`quarantine: ${comparable(error.message)}`];
  }
}

const goldenPath = (file: string): string => join(FOLDER, `${file}.golden.jsonl`);
export const golden = (file: string): Golden[] =>
  readFileSync(goldenPath(file), 'utf8')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Golden);

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  await loadEngine();
  for (const file of corpusFiles()) {
    const lines = corpus(file).map((message) => JSON.stringify(become(message)));
    writeFileSync(goldenPath(file), `${lines.join('\n')}\n`);
  }
}
