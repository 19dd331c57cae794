/** `headwater batch`: which jobs there are, and running one for days. */
import { helpText, parseFlags, type Flags } from '../shared/config/flags.ts';
import type { Answer, Body } from '../shared/http/client.ts';
import { HeadwaterError } from '../shared/errors.ts';
import { ask, tell } from './api.ts';
import { Progress } from './progress.ts';

const FLAGS: Flags = {
  http: { value: 'HOST:PORT', about: 'The collector.', default: '127.0.0.1:8080' },
  from: { value: 'DATE', about: 'First day, such as 2019-03-10 (UTC).' },
  to: { value: 'DATE', about: 'Last day; the first one when left out.' },
  engine: {
    value: 'NAME',
    about: 'duckdb or spark; as the collector is configured when left out.',
  },
  force: { about: 'Run also where nothing has changed since.' },
  'no-wait': { about: 'Do not wait for its end.' },
  json: { about: "The API's JSON instead of text." },
};

export const BATCH_HELP = helpText(
  'batch [list | run JOB | backfill JOB] [flags]',
  'Lists batch jobs, runs one for the days named by --from and --to, or, with backfill, for every day that the lake has. A day whose input has not changed is left as it is; one that runs again replaces its results.',
  FLAGS,
  `The API token comes from HEADWATER_TOKEN.

Examples:
  headwater batch list
  headwater batch run daily_summary --from 2026-11-01 --to 2026-11-07`,
);

type Listing = Answer<'/api/v1/batch'>;
type Task = Answer<'/api/v1/batch/run'>;

const POLL_MS = 250;

function listing({ jobs }: Listing): string {
  if (jobs.length === 0) return 'There are no jobs.\n';
  const width = Math.max(...jobs.map(({ name }) => name.length));
  return jobs
    .map(({ name, about, schedule, next }) => {
      const due = next === null ? '' : `, next ${new Date(next).toISOString().slice(0, 16)}Z`;
      const when = schedule === null ? 'when asked for' : `at '${schedule}'${due}`;
      return `${name.padEnd(width)}  ${about} (${when})\n`;
    })
    .join('');
}

function outcome({ job, done }: Task): string {
  return done
    .map(({ date, rows, removed, unchanged, seconds }) =>
      unchanged
        ? `${job} ${date}: unchanged, ${rows} results\n`
        : `${job} ${date}: ${rows} results${removed > 0 ? `, ${removed} taken back` : ''} in ${seconds.toFixed(1)} s\n`,
    )
    .join('');
}

export async function batch(args: string[]): Promise<void> {
  const { values, positionals, help } = parseFlags('batch', args, FLAGS, 2);
  if (help) {
    process.stdout.write(BATCH_HELP);
    return;
  }
  const address = String(values['http'] ?? '127.0.0.1:8080');
  const isJson = values['json'] === true;
  const [action = 'list', job] = positionals;
  if (action === 'list') {
    const answer = await ask(address, '/api/v1/batch');
    process.stdout.write(isJson ? `${JSON.stringify(answer)}\n` : listing(answer));
    return;
  }
  if (action !== 'run' && action !== 'backfill')
    throw new HeadwaterError(
      'USAGE',
      `'${action}' is not list, run or backfill: see headwater batch --help`,
    );
  if (job === undefined)
    throw new HeadwaterError(
      'USAGE',
      `batch ${action} needs the name of a job: headwater batch list has them`,
    );
  const names = ['from', 'to', 'engine'] as const;
  const given = Object.fromEntries(
    names.flatMap((name) => (typeof values[name] === 'string' ? [[name, values[name]]] : [])),
  ) as Pick<Body<'/api/v1/batch/run'>, (typeof names)[number]>; // The collector knows its engines.
  if (action === 'run' && given.from === undefined && given.to === undefined)
    throw new HeadwaterError(
      'USAGE',
      'batch run needs a day: --from DATE; headwater batch backfill runs for all that there are',
    );
  const force = values['force'] === true ? ({ force: 'true' } as const) : {};
  const body = { job, ...given, ...force };
  const { id } = await tell(address, '/api/v1/batch/run', body);
  if (values['no-wait'] === true) {
    process.stdout.write(isJson ? `${JSON.stringify({ id })}\n` : `run ${id} has begun\n`);
    return;
  }
  const task = await finished(address, id);
  process.stdout.write(isJson ? `${JSON.stringify(task)}\n` : outcome(task));
  if (task.failure !== undefined) throw new HeadwaterError('BATCH_INVALID', task.failure);
}

async function finished(address: string, id: string): Promise<Task> {
  let progress: Progress | undefined;
  for (;;) {
    const task = await ask(address, '/api/v1/batch/run', { id });
    progress ??= new Progress(`batch ${task.job}`, task.dates.length, 'days');
    progress.show(task.done.length);
    if (task.finished) {
      progress.end();
      return task;
    }
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}
