/** `headwater ledger`: is anything missing? No, or exactly which range, since when, and why. */
import { helpText, parseFlags, type Flags } from '../shared/config/flags.ts';
import type { Answer, Earlier } from '../shared/http/client.ts';
import { HeadwaterError } from '../shared/errors.ts';
import { ask } from './api.ts';
import { linesText } from '../shared/telemetry/log.ts';

const FLAGS: Flags = {
  http: { value: 'HOST:PORT', about: 'The collector.', default: '127.0.0.1:8080' },
  gateway: { value: 'NAME', about: 'Only this gateway.' },
  json: { about: "The API's JSON instead of text." },
};

export const LEDGER_HELP = helpText(
  'ledger [flags]',
  'Says what arrived of every gateway, what is on its way, and whether anything is missing.',
  FLAGS,
  `Exits with 0 when nothing is missing, with 3 when something is. The API token comes from HEADWATER_TOKEN.

Example: headwater ledger --json`,
);

type LedgerAnswer = Earlier<Answer<'/api/v1/ledger'>, 'lake'>;

export const EXIT_MISSING = 3;

const count = (ranges: [number, number][]): number =>
  ranges.reduce((sum, [from, to]) => sum + to - from + 1, 0);
const time = (ms: number): string => new Date(ms).toISOString();
const span = (from: number, to: number | null): string =>
  from === to ? `sequence ${from}` : `sequences ${from} to ${to ?? '(not known)'}`;

const told = (count: number | null, what: string): string =>
  count === null ? `(not known how many) ${what}` : `${count} ${what}`;

type Audited = NonNullable<LedgerAnswer['gateways'][number]['epochs'][number]['audited']>;

function auditLines(epoch: string, { atMs, lake, store, differing }: Audited): string[] {
  const told = (of: { points: number; digest: string } | undefined): string =>
    of === undefined ? 'nothing' : `${of.points} points (${of.digest})`;
  return [
    `  epoch ${epoch}: audited ${time(atMs)}: lake ${told(lake)}, store ${told(store)}`,
    ...differing.map(
      ({ stage, kind, readings, mended }) =>
        `  epoch ${epoch}: audit: ${stage}: ${readings} readings ${kind} (${mended === 'yes' ? 'put right' : mended})`,
    ),
  ];
}

/** The answer as lines for a person. */
export function ledgerText({
  missing,
  gateways,
  incomplete = [],
  lake = [],
  waiting,
  doubt,
}: LedgerAnswer): string {
  const lines = [missing ? 'Something is missing:' : 'Nothing is missing.'];
  if (doubt !== undefined) lines.push(`In doubt: ${doubt}.`);
  const { notDecoded, notStored } = { notDecoded: 0, notStored: 0, ...waiting };
  if ((notDecoded ?? 0) > 0 || (notStored ?? 0) > 0)
    lines.push(
      `${told(notDecoded, 'frames')} are here and not yet decoded, ${told(notStored, 'records')} decoded and not yet stored.`,
    );
  for (const { of, from, to, reason } of incomplete)
    lines.push(
      `The store's ${of} are incomplete from ${from ?? 'the beginning'} to ${to ?? 'now'}: ${reason}.`,
    );
  for (const { gateway, epochs } of gateways) {
    const received = epochs.reduce((sum, each) => sum + count(each.received), 0);
    const pending = epochs.reduce((sum, each) => sum + count(each.pending), 0);
    lines.push(
      `gateway ${gateway}: ${received} received, ${pending} on their way, ${epochs.length} epochs`,
    );
    if (epochs.some((each) => each.lake !== undefined)) {
      const sum = (zone: 'raw' | 'readings'): number =>
        epochs.reduce((total, each) => total + count(each.lake?.[zone] ?? []), 0);
      lines.push(`  in the lake: ${sum('raw')} in raw frames, ${sum('readings')} in readings`);
    }
    for (const each of epochs) {
      const say = (text: string, since: number): void => {
        lines.push(`  epoch ${each.epoch}: ${text}, since ${time(since)}`);
      };
      if (each.audited !== undefined) lines.push(...auditLines(each.epoch, each.audited));
      for (const { from, to, cause, reason, since } of each.lost)
        say(`${span(from, to)} lost (${cause}): ${reason}`, since);
      for (const { from, to, since } of each.missing)
        say(`${span(from, to)} not received, not held and not reported lost`, since);
      for (const { where, reason, since } of each.damage)
        say(`damage of unknown extent in ${where}: ${reason}`, since);
    }
  }
  for (const { key, rows, kind, reason, since, final } of lake)
    lines.push(
      `lake: ${key} is ${kind} (${reason}), since ${time(since)}: its ${rows} rows ${final ? 'cannot all be made again' : 'are being made again'}`,
    );
  return linesText(lines);
}

export async function ledger(args: string[]): Promise<void> {
  const { values, help } = parseFlags('ledger', args, FLAGS, 0);
  if (help) {
    process.stdout.write(LEDGER_HELP);
    return;
  }
  const gateway = values['gateway'];
  const query = typeof gateway === 'string' ? { gateway } : {};
  const address = String(values['http'] ?? '127.0.0.1:8080');
  const answer = await ask(address, '/api/v1/ledger', query);
  if (typeof gateway === 'string' && answer.gateways.length === 0)
    throw new HeadwaterError('NOT_FOUND', `the ledger knows no gateway '${gateway}'`);
  process.stdout.write(
    values['json'] === true ? `${JSON.stringify(answer)}\n` : ledgerText(answer),
  );
  if (answer.missing) process.exitCode = EXIT_MISSING;
}
