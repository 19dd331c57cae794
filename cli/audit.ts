/** `headwater audit`: whether log, lake and store have the same readings; a report that can be shown. */
import { helpText, parseFlags, type Flags } from '../shared/config/flags.ts';
import type { Answer } from '../shared/http/client.ts';
import { HeadwaterError } from '../shared/errors.ts';
import { rangesText } from '../shared/model/ranges.ts';
import { ask, tell } from './api.ts';
import { linesText } from '../shared/telemetry/log.ts';

const FLAGS: Flags = {
  http: { value: 'HOST:PORT', about: 'The collector.', default: '127.0.0.1:8080' },
  full: {
    about: 'Compare every file of the lake with its checksum, too, and look at every raw frame.',
  },
  json: { about: "The API's JSON instead of text." },
};

export const AUDIT_HELP = helpText(
  'audit [flags]',
  'Compares what log, lake and store have of every reading, names what differs by stage, gateway, epoch and sequence, and puts it right from whoever has it right. What is on its way is waited for (lake.flushSeconds).',
  FLAGS,
  `Exits with 0 when all was compared and nothing differed, with 1 otherwise. The API token comes from HEADWATER_TOKEN.

Example: headwater audit --json`,
);

type Report = NonNullable<Answer<'/api/v1/audit'>['report']>;
type StageTotal = NonNullable<Report['epochs'][number]['lake']>;

const POLL_MS = 300;
const RANGES_SHOWN = 20;

const MENDED: Record<Report['findings'][number]['mended'], string> = {
  yes: 'put right',
  no: 'not put right',
  waits: 'being made again',
  harmless: 'harmless: every other stage has it once',
};

const time = (ms: number): string => new Date(ms).toISOString();
const total = (of: StageTotal | undefined): string =>
  of === undefined ? '-' : `${of.points} points, ${of.digest}`;

/** The report as a person reads it. */
export function auditText(report: Report): string {
  const { log, lake, store, findings, epochs, isCut, left } = report;
  const differs = findings.some(({ mended }) => mended !== 'harmless');
  const rest = left.length === 0 ? '' : ' in what was compared';
  const verdict = differs || isCut ? 'something differed' : `nothing differs${rest}`;
  const lines = [
    `Audit of ${time(report.startedMs)} to ${time(report.endedMs)}${report.full ? ', full' : ''}: ${verdict}.`,
    `log ${log}: ${report.logReadings} readings; lake ${lake ?? '(none)'}: ${report.lakePoints} points of ${report.days} days; store ${store ?? '(not audited)'}: ${report.storePoints} points`,
    `compared: ${report.compared}`,
  ];
  for (const { gateway, epoch, lake: inLake, store: inStore } of epochs)
    lines.push(
      `  gateway ${gateway}, epoch ${epoch}: lake ${total(inLake)}; store ${total(inStore)}`,
    );
  for (const { stage, kind, gateway, epoch, ranges, readings, mended } of findings) {
    lines.push(
      `${stage}: ${readings} ${kind} of gateway ${gateway}, epoch ${epoch}, sequences ${rangesText(ranges, RANGES_SHOWN)} (${MENDED[mended]})`,
    );
  }
  if (left.length > 0)
    lines.push(
      `Not compared, since rows of the lake are being made again: ${left.length === 1 ? '' : `${left.length} days, `}${left.slice(0, RANGES_SHOWN).join(', ')}. Run it again.`,
    );
  if (isCut) lines.push('There is more than is looked at in one audit: run it again.');
  return linesText(lines);
}

export async function audit(args: string[]): Promise<void> {
  const { values, help } = parseFlags('audit', args, FLAGS, 0);
  if (help) {
    process.stdout.write(AUDIT_HELP);
    return;
  }
  const address = String(values['http'] ?? '127.0.0.1:8080');
  const full = values['full'] === true ? 'true' : 'false';
  let answer = await tell(address, '/api/v1/audit', { full });
  while (answer.running) {
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    answer = await ask(address, '/api/v1/audit');
  }
  const { report, failure } = answer;
  if (failure !== undefined || report === null)
    throw new HeadwaterError('LAKE_UNAVAILABLE', `the audit stopped: ${failure ?? 'try again'}`);
  process.stdout.write(values['json'] === true ? `${JSON.stringify(report)}\n` : auditText(report));
  if (!report.clean) process.exitCode = 1;
}
