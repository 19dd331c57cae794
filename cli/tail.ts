/** `headwater tail`: readings as they enter the log, one a line, until Ctrl-C. It goes on by itself when the collector is back. */
import { setTimeout as delay } from 'node:timers/promises';
import { filterMatches } from '../shared/mqtt/packets.ts';
import { helpText, parseFlags, type Flags } from '../shared/config/flags.ts';
import { HeadwaterError, messageOf } from '../shared/errors.ts';
import { printable } from '../shared/telemetry/log.ts';
import { listen } from './api.ts';

const FLAGS: Flags = {
  http: { value: 'HOST:PORT', about: 'The collector.', default: '127.0.0.1:8080' },
  gateway: { value: 'NAME', about: 'Only readings of this gateway.' },
  topic: {
    value: 'FILTER',
    about:
      'Only readings of these topics, + and # as in MQTT; where a mapping keeps no topic, --tag says more.',
  },
  measurement: { value: 'NAME', about: 'Only this measurement.' },
  field: { value: 'NAME', about: 'Only this field.' },
  tag: {
    value: 'KEY=VALUE',
    about: 'Only series with this tag; as often as needed.',
    multiple: true,
  },
  count: { value: 'N', about: 'Ends after so many readings.' },
  json: { about: 'A JSON object a line.' },
};

export const TAIL_HELP = helpText(
  'tail [flags]',
  'Shows readings and results as they arrive, until Ctrl-C. A busy collector sends the newest of each group.',
  FLAGS,
  `The API token comes from HEADWATER_TOKEN.

Examples:
  headwater tail --topic 'home/#' --field temperature
  headwater tail --gateway hall-3 --count 1 --json`,
);

const AGAIN_MS = 2000;

interface Shown {
  gateway: string;
  readings: {
    measurement: string;
    tags: Record<string, string>;
    fields: Record<string, unknown>;
    time: number;
  }[];
}

/** Data of the events named `readings`, as they come. */
async function* events(stream: ReadableStream<Uint8Array>): AsyncGenerator<Shown> {
  const decoder = new TextDecoder();
  let text = '';
  for await (const chunk of stream as unknown as AsyncIterable<Uint8Array>) {
    text += decoder.decode(chunk, { stream: true });
    for (let end = text.indexOf('\n\n'); end >= 0; end = text.indexOf('\n\n')) {
      const lines = text.slice(0, end).split('\n');
      text = text.slice(end + 2);
      const data = lines.find((line) => line.startsWith('data: '));
      if (lines.includes('event: readings') && data !== undefined)
        yield JSON.parse(data.slice(6)) as Shown;
    }
  }
}

interface Wanted {
  gateway: string | undefined;
  topic: string | undefined;
  measurement: string | undefined;
  field: string | undefined;
  tags: [string, string][];
  json: boolean;
}

function* linesOf({ gateway, readings }: Shown, wanted: Wanted): Generator<string> {
  if (wanted.gateway !== undefined && wanted.gateway !== gateway) return;
  for (const { measurement, tags, fields, time } of readings) {
    if (wanted.measurement !== undefined && wanted.measurement !== measurement) continue;
    if (wanted.topic !== undefined && !filterMatches(wanted.topic, tags['topic'] ?? '')) continue;
    if (wanted.tags.some(([key, value]) => tags[key] !== value)) continue;
    const shown = Object.entries(fields).filter(
      ([name]) => wanted.field === undefined || wanted.field === name,
    );
    if (shown.length === 0) continue;
    const at = new Date(time).toISOString();
    yield wanted.json
      ? JSON.stringify({ time: at, gateway, measurement, tags, fields: Object.fromEntries(shown) })
      : printable(
          `${at}  ${measurement}  ${shown.map(([name, value]) => `${name}=${String(value)}`).join(' ')}  ${Object.entries(
            tags,
          )
            .map(([key, value]) => `${key}=${value}`)
            .join(' ')}`,
        );
  }
}

/** Throws USAGE. */
function wantedOf(values: Record<string, string | boolean | undefined>, tags: string[]): Wanted {
  const text = (name: string): string | undefined =>
    typeof values[name] === 'string' ? values[name] : undefined;
  return {
    gateway: text('gateway'),
    topic: text('topic'),
    measurement: text('measurement'),
    field: text('field'),
    tags: tags.map((tag) => {
      const at = tag.indexOf('=');
      if (at < 1) throw new HeadwaterError('USAGE', `--tag ${tag} is not KEY=VALUE`);
      return [tag.slice(0, at), tag.slice(at + 1)];
    }),
    json: values['json'] === true,
  };
}

export async function tail(args: string[]): Promise<void> {
  const { values, lists, help } = parseFlags('tail', args, FLAGS, 0);
  if (help) {
    process.stdout.write(TAIL_HELP);
    return;
  }
  const wanted = wantedOf(values, lists['tag'] ?? []);
  const most = values['count'] === undefined ? Infinity : Number(values['count']);
  if (!(most >= 1)) throw new HeadwaterError('USAGE', '--count is a number of readings, 1 or more');
  const address = String(values['http'] ?? '127.0.0.1:8080');
  const stop = new AbortController();
  process.once('SIGINT', () => stop.abort());
  process.once('SIGTERM', () => stop.abort());
  let shown = 0;
  let connected = false;
  while (!stop.signal.aborted) {
    try {
      const stream = await listen(address, '/api/v1/stream', stop.signal);
      if (connected) process.stderr.write(`tail: ${address} is back\n`);
      connected = true;
      for await (const event of events(stream)) {
        for (const line of linesOf(event, wanted)) {
          process.stdout.write(`${line}\n`);
          if (++shown >= most) {
            stop.abort();
            return;
          }
        }
      }
      process.stderr.write(`tail: ${address} ended the stream; trying again\n`);
    } catch (error) {
      if (stop.signal.aborted) return;
      // What never worked is a mistake; what did comes back.
      if (!connected) throw error;
      process.stderr.write(`tail: ${messageOf(error)}; trying again\n`);
    }
    await delay(AGAIN_MS, undefined, { signal: stop.signal }).catch(() => undefined);
  }
}
