/** `headwater quarantine`: what could not be decoded or stored, and decoding it again after its mapping was mended. */
import { helpText, parseFlags, type Flags } from '../shared/config/flags.ts';
import type { Answer } from '../shared/http/client.ts';
import { HeadwaterError } from '../shared/errors.ts';
import { linesText } from '../shared/telemetry/log.ts';
import { ask, tell } from './api.ts';

const FLAGS: Flags = {
  http: { value: 'HOST:PORT', about: 'The collector.', default: '127.0.0.1:8080' },
  gateway: { value: 'NAME', about: 'Only of this gateway.' },
  topic: { value: 'FILTER', about: 'Only topics that match, as an MQTT topic filter.' },
  reason: { value: 'TEXT', about: 'Only reasons that hold this text.' },
  from: {
    value: 'TIME',
    about: 'Received by the gateway at or after: RFC 3339, epoch milliseconds, now-1h.',
  },
  to: { value: 'TIME', about: 'Received before.' },
  limit: { value: 'N', about: 'At most so many, the newest.', default: '20' },
  all: { about: 'With replay: all messages that match, not only those in quarantine.' },
  'no-wait': { about: 'With replay: do not wait for its end.' },
  json: { about: "The API's JSON instead of text." },
};

export const QUARANTINE_HELP = helpText(
  'quarantine [list | replay | jobs] [flags]',
  'Lists what could not be decoded or stored. `replay` decodes raw messages again with the mappings now in force: their readings appear at their right time, once, and what an older mapping wrote elsewhere is removed.',
  FLAGS,
  `The API token comes from HEADWATER_TOKEN.

Examples:
  headwater quarantine list --topic 'factory/#'
  headwater quarantine replay --topic 'factory/#'`,
);

type Listing = Answer<'/api/v1/quarantine'>;
type Job = Answer<'/api/v1/replay'>['jobs'][number];

const PAYLOAD_CHARS = 120;
const POLL_MS = 250;

function listingText({ count, items, reasons }: Listing): string {
  if (count === 0) return 'Nothing is in quarantine.\n';
  const lines = [`${count} in quarantine`];
  for (const each of reasons) lines.push(`  ${each.count} × ${each.reason}`);
  for (const item of items) {
    const time = new Date(item.receivedMs).toISOString();
    const payload = item.encoding === 'utf8' ? item.payload : `(${item.encoding}) ${item.payload}`;
    lines.push(
      `${time} ${item.gateway} ${item.topic}`,
      `  ${item.reason}`,
      `  ${payload.slice(0, PAYLOAD_CHARS)}${payload.length > PAYLOAD_CHARS ? ' …' : ''}`,
    );
  }
  return linesText(lines);
}

const jobText = ({ id, createdMs, finished, messages, readings, quarantined }: Job): string =>
  `replay ${id} of ${new Date(createdMs).toISOString()}: ${finished ? 'finished' : 'running'}, ${messages} messages, ${readings} readings, ${quarantined} still in quarantine\n`;

export async function quarantine(args: string[]): Promise<void> {
  const { values, positionals, help } = parseFlags('quarantine', args, FLAGS, 1);
  if (help) {
    process.stdout.write(QUARANTINE_HELP);
    return;
  }
  const address = String(values['http'] ?? '127.0.0.1:8080');
  const names = ['gateway', 'topic', 'reason', 'from', 'to'];
  const selection = Object.fromEntries(
    names.flatMap((name) => (typeof values[name] === 'string' ? [[name, values[name]]] : [])),
  ) as Record<string, string>;
  const isJson = values['json'] === true;
  const [action = 'list'] = positionals;
  switch (action) {
    case 'list': {
      const limit = Number(values['limit'] ?? 20);
      const answer = await ask(address, '/api/v1/quarantine', { ...selection, limit });
      process.stdout.write(isJson ? `${JSON.stringify(answer)}\n` : listingText(answer));
      return;
    }
    case 'jobs': {
      const { jobs } = await ask(address, '/api/v1/replay');
      if (isJson) process.stdout.write(`${JSON.stringify(jobs)}\n`);
      else process.stdout.write(jobs.length === 0 ? 'No replays.\n' : jobs.map(jobText).join(''));
      return;
    }
    case 'replay': {
      const which = values['all'] === true ? 'all' : 'quarantined';
      const { id } = await tell(address, '/api/v1/replay', { which, ...selection });
      const job = values['no-wait'] === true ? undefined : await finished(address, id);
      if (isJson) process.stdout.write(`${JSON.stringify(job ?? { id })}\n`);
      else process.stdout.write(job === undefined ? `replay ${id} has begun\n` : jobText(job));
      return;
    }
    default:
      throw new HeadwaterError(
        'USAGE',
        `'${action}' is not list, replay or jobs: see headwater quarantine --help`,
      );
  }
}

async function finished(address: string, id: string): Promise<Job> {
  for (;;) {
    const { jobs } = await ask(address, '/api/v1/replay');
    const job = jobs.find((each) => each.id === id);
    if (job?.finished === true) return job;
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}
