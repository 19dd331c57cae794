/** `headwater lake`: what the lake has. */
import { helpText, parseFlags, type Flags } from '../shared/config/flags.ts';
import { ask } from './api.ts';

const FLAGS: Flags = {
  http: { value: 'HOST:PORT', about: 'The collector.', default: '127.0.0.1:8080' },
  json: { about: "The API's JSON instead of text." },
};

export const LAKE_HELP = helpText(
  'lake [flags]',
  'Says where the lake is and what is in it: raw frames, readings and results as Parquet, which DuckDB, Spark and pandas read as they lie there.',
  FLAGS,
  'The API token comes from HEADWATER_TOKEN.',
);

interface Answer {
  kind: string;
  address: string;
  zones: {
    zone: string;
    files: number;
    bytes: number;
    rows: number;
    gateways: number;
    from?: string;
    to?: string;
  }[];
}

function size(bytes: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let at = 0;
  let value = bytes;
  for (; value >= 1024 && at < units.length - 1; at++) value /= 1024;
  return `${value.toFixed(at === 0 ? 0 : 1)} ${units[at] ?? ''}`;
}

export async function lake(args: string[]): Promise<void> {
  const { values, help } = parseFlags('lake', args, FLAGS, 0);
  if (help) {
    process.stdout.write(LAKE_HELP);
    return;
  }
  const answer = (await ask(String(values['http'] ?? '127.0.0.1:8080'), '/api/v1/lake')) as Answer;
  if (values['json'] === true) {
    process.stdout.write(`${JSON.stringify(answer)}\n`);
    return;
  }
  const lines = [answer.address];
  for (const { zone, files, bytes, rows, gateways, from, to } of answer.zones) {
    const span = from === undefined ? '' : `, ${from === to ? from : `${from} to ${to ?? ''}`}`;
    lines.push(
      `  ${zone.padEnd(8)}  ${rows} rows, ${files} files, ${size(bytes)}, ${gateways} gateways${span}`,
    );
  }
  process.stdout.write(`${lines.join('\n')}\n`);
}
