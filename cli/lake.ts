/** `headwater lake`: what the lake has; `headwater lake check`: whether all of it is as it was written. */
import { helpText, parseFlags, type Flags } from '../shared/config/flags.ts';
import type { Answer, Earlier } from '../shared/http/client.ts';
import { HeadwaterError } from '../shared/errors.ts';
import { ask, tell } from './api.ts';
import { linesText } from '../shared/telemetry/log.ts';
import { EXIT_MISSING } from './ledger.ts';

const FLAGS: Flags = {
  http: { value: 'HOST:PORT', about: 'The collector.', default: '127.0.0.1:8080' },
  before: { value: 'YYYY-MM-DD', about: 'With forget: days before this one.' },
  json: { about: "The API's JSON instead of text." },
};

export const LAKE_HELP = helpText(
  'lake [check | forget] [flags]',
  'Says where the lake is and what is in it: raw frames, readings and results as Parquet, which DuckDB, Spark and pandas read as they lie there. `check` compares every file with its checksum and with the list of what must be there; what is damaged or missing is set aside and made again. `forget` deletes whole days.',
  FLAGS,
  `\`check\` exits with 0 when all of it is as it was written, with 3 when something is not. The API token comes from HEADWATER_TOKEN.

Example: headwater lake check`,
);

type Damage = Answer<'/api/v1/lake'>['damages'][number];

function size(bytes: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let at = 0;
  let value = bytes;
  for (; value >= 1024 && at < units.length - 1; at++) value /= 1024;
  return `${value.toFixed(at === 0 ? 0 : 1)} ${units[at] ?? ''}`;
}

const POLL_MS = 300;

const damageText = ({ key, rows, kind, reason, since, final }: Damage): string =>
  `  ${key} is ${kind} (${reason}), since ${new Date(since).toISOString()}: its ${rows} rows ${final ? 'cannot all be made again' : 'are being made again'}`;

async function check(address: string, isJson: boolean): Promise<void> {
  let answer = await tell(address, '/api/v1/lake/check', {});
  while (answer.running) {
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    answer = await ask(address, '/api/v1/lake/check');
  }
  const { pass, failure, damages } = answer;
  if (failure !== undefined || pass === null)
    throw new HeadwaterError('LAKE_UNAVAILABLE', `the check stopped: ${failure ?? 'try again'}`);
  const lines = [
    `${pass.files} files (${size(pass.bytes)}) compared with their checksums: ${pass.found} damaged or missing`,
    ...damages.map(damageText),
  ];
  const { pastLost = [] } = pass as Partial<typeof pass>;
  for (const key of pastLost)
    lines.push(
      `  ${key} is damaged or missing: what was so before is in doubt, what is so now is not`,
    );
  if (pass.manifests > 0) lines.push(`  ${pass.manifests} manifests were damaged and made again`);
  process.stdout.write(isJson ? `${JSON.stringify(answer)}\n` : linesText(lines));
  if (damages.length + pastLost.length > 0) process.exitCode = EXIT_MISSING;
}

export async function lake(args: string[]): Promise<void> {
  const { values, positionals, help } = parseFlags('lake', args, FLAGS, 1);
  if (help) {
    process.stdout.write(LAKE_HELP);
    return;
  }
  const address = String(values['http'] ?? '127.0.0.1:8080');
  const [what] = positionals;
  if (what === 'check') {
    await check(address, values['json'] === true);
    return;
  }
  if (what === 'forget') {
    const before = values['before'];
    if (typeof before !== 'string')
      throw new HeadwaterError('USAGE', 'lake forget: --before YYYY-MM-DD says which days');
    const { files } = await tell(address, '/api/v1/lake/forget', { before });
    process.stdout.write(`${files} files of days before ${before} deleted\n`);
    return;
  }
  if (what !== undefined)
    throw new HeadwaterError('USAGE', `lake: '${what}' is not known; known are check and forget`);
  const answer = await ask(address, '/api/v1/lake');
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
  const { damages = [], checked } = answer as Earlier<typeof answer, 'damages'>;
  lines.push(...damages.map(damageText));
  if (checked !== null && checked !== undefined)
    lines.push(`  last checked ${new Date(checked.endedMs).toISOString()}, ${checked.files} files`);
  process.stdout.write(linesText(lines));
}
