/** `headwater explain`: where a point comes from and what was made of it, for people. */
import { helpText, parseFlags, type Flags } from '../shared/config/flags.ts';
import type { Answer } from '../shared/http/client.ts';
import { HeadwaterError } from '../shared/errors.ts';
import { ask } from './api.ts';
import { linesText } from '../shared/telemetry/log.ts';

const FLAGS: Flags = {
  http: { value: 'HOST:PORT', about: 'The collector.', default: '127.0.0.1:8080' },
  measurement: { value: 'NAME', about: 'Of the point.' },
  field: { value: 'NAME', about: 'Of the point.' },
  tag: { value: 'KEY=VALUE', about: 'A tag of its series; as often as needed.', multiple: true },
  time: { value: 'TIME', about: 'Of the point: RFC 3339 or epoch milliseconds.' },
  gateway: { value: 'ID', about: 'Instead, the identity of a reading: its gateway,' },
  epoch: { value: 'EPOCH', about: 'epoch,' },
  sequence: { value: 'N', about: 'sequence,' },
  index: { value: 'N', about: 'and which of several readings in its message.' },
  json: { about: "The API's JSON." },
};

export const EXPLAIN_HELP = helpText(
  'explain [flags]',
  'Says where a point comes from, back to the bytes as received, and what was made of it.',
  FLAGS,
  `The API token comes from HEADWATER_TOKEN.

Example: headwater explain --measurement climate --field temperature --tag topic=home/kitchen/climate --time 2026-11-26T12:00:00Z`,
);

type Point = Answer<'/api/v1/explain'>['points'][number];
type Place = Pick<Point, 'measurement' | 'tags' | 'time'>;

const iso = (ms: number): string => new Date(ms).toISOString();
const list = (tags: Point['fields']): string =>
  Object.entries(tags)
    .map(([name, value]) => `${name}=${String(value)}`)
    .join(' ');
const placeOf = ({ measurement, tags, time }: Place): string =>
  `${measurement} ${list(tags)} at ${iso(time)}`;
const whereOf = ({ lake, log }: Point['row']): string =>
  lake ??
  (log === null ? 'the store alone' : `log ${log.topic}/${log.partition}, offset ${log.offset}`);
/** Control characters of a device's bytes are not for a terminal. */
const shown = (text: string): string => JSON.stringify(text);

function back({ message, frame, clock, mapping, lane, late, stages }: Point): [string, string][] {
  const lines: [string, string][] = [];
  if (message !== null) {
    lines.push(['topic', shown(message.topic)], ['client', shown(message.client)]);
    const { payload, encoding, bytes } = message;
    const text =
      payload === null
        ? 'this token may not read them'
        : `${shown(payload)}${encoding === 'base64' ? ' (base64)' : ''}`;
    lines.push(['bytes', `${bytes}: ${text}`]);
  }
  if (frame !== null)
    lines.push([
      'frame',
      `${frame.firstSequence} to ${frame.firstSequence + frame.count - 1}, ${frame.bytes} bytes, boot ${frame.boot}, in ${whereOf(frame)}`,
    ]);
  if (mapping !== null)
    lines.push([
      'mapping',
      `${mapping.name ?? 'none: told from the payload'}, version ${mapping.hash}, in force since ${iso(mapping.inForceMs)}${mapping.gives ? '' : '; it does not give this point'}`,
    ]);
  if (clock !== null) {
    const { anchor } = clock;
    const moved = clock.offsetMs === 0 ? '' : `, put right by ${clock.offsetMs} ms`;
    const by = anchor === null ? '' : ` (${anchor.basis}, within ${anchor.errorMs} ms)`;
    lines.push(['time by', `${clock.gave}; gateway's clock ${clock.quality}${moved}${by}`]);
  }
  if (lane !== null) lines.push(['lane', `${lane}${late === true ? ', late' : ''}`]);
  for (const { stage, time, delayMs, note } of stages)
    lines.push([
      stage,
      `${time === null ? 'not known' : iso(time)}${delayMs === null ? '' : `, ${delayMs} ms later`}: ${note}`,
    ]);
  return lines;
}

function text(point: Point): string {
  const { identity, state, until, now, before, row, forward, backward, unknown } = point;
  const { gateway, epoch, sequence, index } = identity;
  const lines: [string, string][] = [
    ['point', `${placeOf(point)}: ${list(point.fields)}`],
    ['identity', `gateway ${gateway}, epoch ${epoch}, sequence ${sequence}, index ${index}`],
    [
      'state',
      `${state}${until === null ? '' : ` since ${iso(until)}`}${now === null ? '' : `: now ${placeOf(now)}`}`,
    ],
  ];
  for (const each of before) lines.push(['before', `${placeOf(each)}, until ${iso(each.until)}`]);
  lines.push(['row', whereOf(row)], ...back(point));
  if (backward !== null) {
    const { kind, name, from, to, readings } = backward;
    const range = from === null || to === null ? '' : ` of ${iso(from)} to ${iso(to)}`;
    lines.push([
      'made by',
      `${kind} ${name}${range}${readings === null ? '' : `, ${readings} readings`}`,
    ]);
  }
  for (const each of forward?.results ?? [])
    lines.push([
      each.kind,
      `${each.rule}: ${placeOf(each)}: ${each.fields === null ? 'not said' : list(each.fields)}`,
    ]);
  for (const { job, date, ran, read } of forward?.batches ?? [])
    lines.push([
      'batch',
      `${job} of ${date}, run ${iso(ran)}: ${read ? 'read it' : 'ran before it'}`,
    ]);
  for (const each of unknown) lines.push(['unknown', each]);
  return linesText(lines.map(([name, value]) => `${name.padEnd(10)} ${value}`));
}

export async function explain(args: string[]): Promise<void> {
  const { values, lists, help } = parseFlags('explain', args, FLAGS, 0);
  if (help) {
    process.stdout.write(EXPLAIN_HELP);
    return;
  }
  const parameters = new URLSearchParams();
  const names = ['measurement', 'field', 'time', 'gateway', 'epoch', 'sequence', 'index'];
  for (const name of names) {
    const value = values[name];
    if (typeof value === 'string') parameters.set(name, value);
  }
  for (const tag of lists['tag'] ?? []) {
    const at = tag.indexOf('=');
    if (at < 1) throw new HeadwaterError('USAGE', `--tag ${tag} is not KEY=VALUE`);
    parameters.append(`tag.${tag.slice(0, at)}`, tag.slice(at + 1));
  }
  const address = String(values['http'] ?? '127.0.0.1:8080');
  const answer = await ask(address, '/api/v1/explain', parameters);
  if (values['json'] === true) process.stdout.write(`${JSON.stringify(answer)}\n`);
  else process.stdout.write(answer.points.map(text).join('\n'));
  if (answer.points.length === 0)
    process.stderr.write(
      `explain: there is no such point; headwater query shows which there are\n${linesText(answer.unknown.map((each) => `not looked at: ${each}`))}`,
    );
}
