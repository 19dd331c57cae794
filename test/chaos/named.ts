/** Whether a fault is named by the log, `/api/v1/status`, `headwater doctor` and the metrics, each within ten seconds. */
import { crowding, run, temporaryFolder, until } from '../support/process.ts';
import type { Site } from './site.ts';

const NAMED_MS = 10_000;

export interface Named {
  log: RegExp;
  /** Of the status as JSON, and of a line of `headwater doctor`. */
  status: RegExp;
  /** A line of `/metrics`. */
  metric: RegExp;
}

/** Seconds after which each of the four named it. */
export interface NamedAfter {
  fault: string;
  log: number;
  status: number;
  metric: number;
  doctor: number;
}

/** Of this run, in its order. */
export const NAMED: NamedAfter[] = [];

/** Throws when one of the four does not name it in time. `from`: of the output, where the fault begins. */
export async function named(
  fault: string,
  { collector }: Pick<Site, 'collector'>,
  { log, status, metric }: Named,
  from = 0,
): Promise<void> {
  const http = collector?.address['http'] ?? '';
  const text = async (path: string): Promise<string> => {
    const response = await fetch(`http://${http}${path}`, { headers: { connection: 'close' } });
    return await response.text();
  };
  const limitMs = NAMED_MS * crowding();
  const began = performance.now();
  const within = async (what: string, probe: () => Promise<boolean> | boolean): Promise<number> => {
    await until(`${fault}: ${what}`, async () => (await probe()) || undefined, limitMs);
    return (performance.now() - began) / 1000;
  };
  const doctor = async (): Promise<boolean> => {
    const { output } = await run(['doctor', '--data', temporaryFolder(), '--http', http]);
    return output.split('\n').some((line) => /^(warn|fail)/.test(line) && status.test(line));
  };
  const [logS, statusS, metricS, doctorS] = await Promise.all([
    within(`the log to say ${log}`, () => log.test((collector?.output() ?? '').slice(from))),
    within(`the status to say ${status}`, async () => status.test(await text('/api/v1/status'))),
    within(`a metric ${metric}`, async () => metric.test(await text('/metrics'))),
    // It looks once, so it is asked when the status knows.
    until(
      `${fault}: the status`,
      async () => status.test(await text('/api/v1/status')) || undefined,
      limitMs,
    ).then(() => within(`the doctor to say ${status}`, doctor)),
  ]);
  NAMED.push({ fault, log: logS, status: statusS, metric: metricS, doctor: doctorS });
}

/** As a table, a row for each fault that was named. */
export function namedTable(): string {
  if (NAMED.length === 0) return '';
  const width = Math.max(...NAMED.map(({ fault }) => fault.length), 5);
  const cell = (seconds: number): string => `${seconds.toFixed(1)} s`.padStart(8);
  const rows = NAMED.map(
    ({ fault, log, status, metric, doctor }) =>
      `${fault.padEnd(width)}  ${[log, status, metric, doctor].map(cell).join('  ')}`,
  );
  const head = `${'named'.padEnd(width)}  ${['log', 'status', 'metrics', 'doctor'].map((each) => each.padStart(8)).join('  ')}`;
  return `\n${[head, ...rows].join('\n')}\n`;
}
