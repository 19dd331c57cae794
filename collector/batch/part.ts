/** Batch jobs as a part of a collector. */
import { join } from 'node:path';
import type { Audit } from '../../shared/access/audit.ts';
import { HeadwaterError } from '../../shared/errors.ts';
import { invalid } from '../../shared/http/parameters.ts';
import { ADMIN_ALL, READ_ALL, json, type Request } from '../../shared/http/route.ts';
import {
  BOOLEAN,
  INTEGER,
  NUMBER,
  TEXT,
  TEXTS,
  listOf,
  maybe,
  object,
  orNull,
} from '../../shared/http/schema.ts';
import { counter } from '../../shared/telemetry/metrics.ts';
import { dateOf } from '../lake/layout.ts';
import { NO_LAKE, lakePart } from '../lake/part.ts';
import { MadeKeeper } from '../ledger/made.ts';
import { logPart } from '../log/part.ts';
import { guardPart } from '../ops/parts.ts';
import type { CollectorPart } from '../part.ts';
import { ENGINES } from './engines.ts';
import { DAY_MS, dayMs, loadJobs } from './job.ts';
import { openPackageEngine } from './package-engine.ts';
import { BatchRunner } from './runner.ts';
import { Schedule } from './schedule.ts';

interface Batches {
  runner: BatchRunner;
  schedule: Schedule;
  made: MadeKeeper;
  audit: Audit;
}

const DAYS_MAX = 3660;

/** From and to, inclusive; every date that the lake has without them. Throws QUERY_INVALID. */
async function datesOf(
  runner: BatchRunner,
  from: string | undefined,
  to: string | undefined,
): Promise<string[]> {
  if (from === undefined && to === undefined) return await runner.dates();
  const first = from ?? to ?? '';
  const count = (dayMs(to ?? first) - dayMs(first)) / DAY_MS + 1;
  if (count < 1) invalid(`from ${first} is after to ${to ?? ''}`);
  if (count > DAYS_MAX) invalid(`more than ${DAYS_MAX} days`);
  return Array.from({ length: count }, (_, day) => dateOf(dayMs(first) + day * DAY_MS));
}

const jobsOf = ({ runner, schedule }: Batches) =>
  runner.options.jobs.map((job) => ({
    name: job.name,
    about: job.about,
    measurement: job.measurement,
    schedule: job.schedule ?? null,
    next: schedule.nextOf(job.name) ?? null,
    inputDays: job.inputDays,
    lookbackDays: job.lookbackDays,
  }));

async function begin({ runner, audit }: Batches, request: Request): Promise<string> {
  const { job = '', from, to, force, engine = runner.options.engine } = request.fields;
  const dates = await datesOf(runner, from, to);
  const task = runner.begin(job, dates, engine, force === 'true');
  audit.say({
    event: 'batch',
    user: request.identity.name,
    address: request.address,
    about: JSON.stringify(request.fields),
  });
  return task.id;
}

function runOf({ runner }: Batches, id: string): object {
  const task = runner.task(id);
  if (task === undefined)
    throw new HeadwaterError('NOT_FOUND', `there is no run '${id.slice(0, 64)}'`);
  return task;
}

const RUN = object({
  id: TEXT,
  job: TEXT,
  engine: TEXT,
  dates: TEXTS,
  done: listOf({
    job: TEXT,
    date: TEXT,
    rows: INTEGER,
    removed: INTEGER,
    unchanged: BOOLEAN,
    seconds: NUMBER,
  }),
  finished: BOOLEAN,
  failure: maybe(TEXT),
});

export const batchPart: CollectorPart<Batches> = {
  name: 'batch',
  roles: ['batch'],
  absent: `${NO_LAKE}, or it is not of role batch`,
  open: async (site) => {
    const { config, env, notify, nowMs } = site.context;
    const lake = site.find(lakePart);
    if (lake === undefined) return undefined;
    const folder = join(config.data, 'batch-work');
    const engine = config['batch.engine'];
    const isOwn = (ENGINES as readonly string[]).includes(engine);
    const runner = new BatchRunner({
      log: site.get(logPart),
      lake,
      jobs: loadJobs(config['batch.jobs'], config['batch.shippedJobs']),
      engine,
      packaged: isOwn ? undefined : await openPackageEngine(config, notify, nowMs),
      timeoutMs: config['batch.secondsMax'] * 1000,
      spark: { python: config['batch.python'], lakeUrl: config['batch.sparkLake'], folder },
      folder,
      wallMs: nowMs,
      notify,
    });
    const made = new MadeKeeper('batch', site.get(logPart), env, notify);
    await made.keep(runner.options.jobs);
    const schedule = new Schedule(runner);
    schedule.start();
    return { runner, schedule, made, audit: site.get(guardPart).audit };
  },
  metrics: {
    headwater_batch_runs_total: counter(
      'Days that batch jobs ran for.',
      ({ runner }) => runner.runs,
    ),
    headwater_batch_failures_total: counter(
      'Runs of batch jobs that failed.',
      ({ runner }) => runner.failures,
    ),
    headwater_batch_results_total: counter(
      'Results that batch jobs gave.',
      ({ runner }) => runner.resultRows,
    ),
  },
  routes: [
    {
      method: 'GET',
      path: '/api/v1/batch',
      about: 'Batch jobs, and when each is due.',
      right: READ_ALL,
      replies: {
        200: {
          about: 'Jobs.',
          schema: object({
            jobs: listOf({
              name: TEXT,
              about: TEXT,
              measurement: TEXT,
              schedule: orNull(TEXT),
              next: orNull(INTEGER),
              inputDays: INTEGER,
              lookbackDays: INTEGER,
            }),
          }),
        },
      },
      handle: (batches) => json({ jobs: jobsOf(batches) }),
    },
    {
      method: 'GET',
      path: '/api/v1/batch/run',
      about: 'A run of a job.',
      right: READ_ALL,
      query: { id: { about: 'As it was answered when it began.', required: true } },
      replies: { 200: { about: 'The run.', schema: RUN } },
      handle: (batches, { query }) => json(runOf(batches, query.get('id') ?? '')),
    },
    {
      method: 'POST',
      path: '/api/v1/batch/run',
      about: 'Runs a job for days; every day that the lake has without `from` and `to`.',
      right: ADMIN_ALL,
      body: {
        fields: {
          job: { about: 'Its name.', required: true },
          from: { about: 'The first day, as 2026-01-31.' },
          to: { about: 'The last day, inclusive.' },
          engine: { about: 'What runs it; as configured when left out.', choices: ENGINES },
          force: { about: 'Also days that ran and have not changed.', choices: ['true', 'false'] },
        },
      },
      replies: { 202: { about: 'Begun.', schema: object({ id: TEXT }) } },
      handle: async (batches, request) => json({ id: await begin(batches, request) }, 202),
    },
  ],
  close: async ({ runner, schedule, made }) => {
    schedule.close();
    await made.close();
    await runner.close();
  },
};
