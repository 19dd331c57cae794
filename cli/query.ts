/** `headwater query`: the API's answers as lines that a person or a script reads. */
import { helpText, parseFlags, type Flags } from '../shared/config/flags.ts';
import type { Answer } from '../shared/http/client.ts';
import type { FieldValue } from '../shared/model/reading.ts';
import type { SeriesKey } from '../contracts/store.ts';
import { HeadwaterError } from '../shared/errors.ts';
import { csvCell } from '../shared/model/csv.ts';
import { ask, gatewayAt } from './api.ts';

const FLAGS: Flags = {
  http: { value: 'HOST:PORT', about: 'The collector.', default: '127.0.0.1:8080' },
  measurement: { value: 'NAME', about: 'Only this measurement.' },
  field: { value: 'NAME', about: 'Only this field.' },
  tag: {
    value: 'KEY=VALUE',
    about: 'Only series with this tag; as often as needed.',
    multiple: true,
  },
  from: { value: 'TIME', about: 'RFC 3339, epoch milliseconds or now-1h; inclusive.' },
  to: { value: 'TIME', about: 'The same; exclusive.' },
  every: { value: 'DURATION', about: 'Width of a bucket, such as 5m.' },
  fn: { value: 'NAME', about: 'mean, min, max, sum, count, first, last or median.' },
  'as-of': {
    value: 'TIME',
    about: 'What was known then: without what arrived, moved or was decoded anew since.',
  },
  latest: { about: 'Only the newest point of each series.' },
  series: { about: 'Only the names of the series.' },
  spreadsheet: {
    about: 'Cells that a spreadsheet would take for a formula begin with an apostrophe.',
  },
  json: { about: "The API's JSON instead of CSV." },
};

export const QUERY_HELP = helpText(
  'query [flags]',
  'Asks the collector and prints CSV: time, measurement, field, tags, value.',
  FLAGS,
  `The API token comes from HEADWATER_TOKEN.

Examples:
  headwater query --latest
  headwater query --measurement climate --field temperature --from now-1d --every 1h --fn mean`,
);

/** One of the three, whichever was asked for; none from what is no collector. */
interface Listed {
  series?: (SeriesKey & {
    points?: Answer<'/api/v1/query'>['series'][number]['points'];
    time?: number;
    value?: FieldValue;
  })[];
  asOf?: { doubts: string[] };
}

const csv = (value: unknown, isSpreadsheet: boolean): string =>
  csvCell(String(value), isSpreadsheet);

export async function query(args: string[]): Promise<void> {
  const { values, lists, help } = parseFlags('query', args, FLAGS, 0);
  if (help) {
    process.stdout.write(QUERY_HELP);
    return;
  }
  const parameters = new URLSearchParams();
  for (const name of ['measurement', 'field', 'from', 'to', 'every', 'fn']) {
    const value = values[name];
    if (typeof value === 'string') parameters.set(name, value);
  }
  if (typeof values['as-of'] === 'string') parameters.set('asOf', values['as-of']);
  for (const tag of lists['tag'] ?? []) {
    const at = tag.indexOf('=');
    if (at < 1) throw new HeadwaterError('USAGE', `--tag ${tag} is not KEY=VALUE`);
    parameters.append(`tag.${tag.slice(0, at)}`, tag.slice(at + 1));
  }
  const path =
    values['series'] === true
      ? '/api/v1/series'
      : values['latest'] === true
        ? '/api/v1/latest'
        : '/api/v1/query';
  const address = String(values['http'] ?? '127.0.0.1:8080');
  const answer: Listed = await ask(address, path, parameters);
  if (answer.series === undefined) throw new HeadwaterError('UNREACHABLE', gatewayAt(address));
  if (values['json'] === true) {
    process.stdout.write(`${JSON.stringify(answer)}\n`);
    return;
  }
  const cell = (value: unknown): string => csv(value, values['spreadsheet'] === true);
  const out: string[] = [
    path === '/api/v1/series' ? 'measurement,field,tags' : 'time,measurement,field,tags,value',
  ];
  for (const { measurement, field, tags, points, time, value } of answer.series ?? []) {
    const name = [
      measurement,
      field,
      Object.entries(tags)
        .map(([key, each]) => `${key}=${each}`)
        .join(' '),
    ]
      .map(cell)
      .join(',');
    if (path === '/api/v1/series') out.push(name);
    else if (time !== undefined) out.push(`${new Date(time).toISOString()},${name},${cell(value)}`);
    for (const [at, each] of points ?? [])
      out.push(`${new Date(Number(at)).toISOString()},${name},${cell(each)}`);
  }
  process.stdout.write(`${out.join('\n')}\n`);
  for (const doubt of answer.asOf?.doubts ?? [])
    process.stderr.write(`query: not sure: ${doubt}\n`);
  if (out.length === 1)
    process.stderr.write(
      `query: nothing matches${parameters.size === 0 ? ': nothing is stored yet' : `; headwater query --series --http ${address} lists what there is`}\n`,
    );
}
