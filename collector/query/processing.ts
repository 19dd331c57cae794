/** The API of the lake, streams, batches and the rebuild. */
import type { HttpOptions, HttpServer } from '../../shared/http/server.ts';
import { json } from '../../shared/http/server.ts';
import { HeadwaterError } from '../../shared/errors.ts';
import { invalid } from '../../shared/http/parameters.ts';
import type { Metrics } from '../../shared/telemetry/metrics.ts';
import { ENGINES, type EngineName } from '../batch/engines.ts';
import { DAY_MS, dayMs } from '../batch/job.ts';
import type { BatchRunner } from '../batch/runner.ts';
import type { Schedule } from '../batch/schedule.ts';
import { dateOf } from '../lake/layout.ts';
import type { Processing } from '../processing.ts';
import { unrestricted, type Parts } from './api.ts';
import { bodyOf } from './parameters.ts';

export function processingMetrics(metrics: Metrics, processing: Processing): void {
  const { lakeStages, stream, delivery, batch } = processing;
  if (lakeStages.length > 0) {
    type Stage = (typeof lakeStages)[number];
    const perZone = (read: (stage: Stage) => number) => () =>
      lakeStages.map((stage) => ({ labels: { zone: stage.zone }, value: read(stage) }));
    metrics.counter(
      'headwater_lake_rows_total',
      'Rows written to the lake, by zone.',
      perZone(({ writtenRows }) => writtenRows),
    );
    metrics.counter(
      'headwater_lake_rewritten_files_total',
      'Files rewritten because readings in them were moved or decoded again, by zone.',
      perZone(({ rewrittenFiles }) => rewrittenFiles),
    );
    metrics.counter(
      'headwater_lake_merged_files_total',
      'Small files merged into larger ones, by zone.',
      perZone(({ mergedFiles }) => mergedFiles),
    );
  }
  if (stream !== undefined) {
    metrics.counter(
      'headwater_stream_readings_total',
      'Readings that a stream rule is about.',
      () => stream.processedReadings,
    );
    metrics.gauge(
      'headwater_stream_open_windows',
      'Windows whose state is held.',
      () => stream.openWindows,
    );
    metrics.gauge(
      'headwater_stream_state_bytes',
      'Memory that their state takes, about.',
      () => stream.stateBytes,
    );
    metrics.gauge(
      'headwater_stream_waiting_corrections',
      'Windows that wait until the lake can settle them.',
      () => stream.waitingCorrections,
    );
    metrics.counter(
      'headwater_stream_settled_windows_total',
      'Windows computed again from the lake.',
      () => stream.settledWindows,
    );
  }
  if (delivery !== undefined)
    metrics.counter(
      'headwater_stream_delivered_alerts_total',
      'Alerts that a target has taken.',
      () => delivery.delivered,
    );
  if (batch !== undefined) {
    metrics.counter(
      'headwater_batch_runs_total',
      'Days that batch jobs ran for.',
      () => batch.runs,
    );
    metrics.counter(
      'headwater_batch_failures_total',
      'Runs of batch jobs that failed.',
      () => batch.failures,
    );
    metrics.counter(
      'headwater_batch_results_total',
      'Results that batch jobs gave.',
      () => batch.resultRows,
    );
  }
}

const DAYS_MAX = 3660;

const missing = (what: string): never => {
  throw new HeadwaterError('NOT_FOUND', what);
};

/** From and to, inclusive; every date that the lake has without them. */
async function datesOf(
  batch: BatchRunner,
  from: string | undefined,
  to: string | undefined,
): Promise<string[]> {
  if (from === undefined && to === undefined) return await batch.dates();
  const first = from ?? to ?? '';
  const count = (dayMs(to ?? first) - dayMs(first)) / DAY_MS + 1;
  if (count < 1) invalid(`from ${first} is after to ${to ?? ''}`);
  if (count > DAYS_MAX) invalid(`more than ${DAYS_MAX} days`);
  return Array.from({ length: count }, (_, day) => dateOf(dayMs(first) + day * DAY_MS));
}

function serveBatch(
  server: HttpServer,
  batch: BatchRunner,
  schedule: Schedule | undefined,
  options: HttpOptions,
): void {
  server.on('GET', '/api/v1/batch', ({ identity }) => {
    unrestricted(identity);
    return json({
      jobs: batch.options.jobs.map((job) => ({
        name: job.name,
        about: job.about,
        measurement: job.measurement,
        schedule: job.schedule ?? null,
        next: schedule?.nextOf(job.name) ?? null,
        inputDays: job.inputDays,
        lookbackDays: job.lookbackDays,
      })),
    });
  });
  server.on('GET', '/api/v1/batch/run', ({ identity, query }) => {
    unrestricted(identity);
    const id = query.get('id') ?? '';
    return json(batch.task(id) ?? missing(`there is no run '${id.slice(0, 64)}'`));
  });
  server.on(
    'POST',
    '/api/v1/batch/run',
    async (request) => {
      unrestricted(request.identity);
      const body = await bodyOf(request, ['job', 'from', 'to', 'engine', 'force']);
      const { job = '', from, to, force } = body;
      const engine = body['engine'] ?? batch.options.engine;
      if (!(ENGINES as readonly string[]).includes(engine))
        invalid(`engine '${engine}' is not known; known are ${ENGINES.join(', ')}`);
      const dates = await datesOf(batch, from, to);
      const task = batch.begin(job, dates, engine as EngineName, force === 'true');
      options.audit?.say({
        event: 'batch',
        user: request.identity.name,
        address: request.address,
        about: JSON.stringify(body),
      });
      return json({ id: task.id }, 202);
    },
    'admin',
  );
}

export function serveProcessing(
  server: HttpServer,
  { processing }: Parts,
  options: HttpOptions,
): void {
  const { lake, batch, schedule } = processing;
  server.on('GET', '/api/v1/lake', async ({ identity }) => {
    unrestricted(identity);
    if (lake === undefined) return missing('this collector has no lake: see --lake');
    const { kind, address } = lake.store;
    return json({ kind, address, zones: await lake.summary() });
  });
  if (batch !== undefined) serveBatch(server, batch, schedule, options);
  server.on('GET', '/api/v1/rebuild', ({ identity }) => {
    unrestricted(identity);
    return json(processing.rebuild?.status ?? missing('this collector has no lake: see --lake'));
  });
  server.on(
    'POST',
    '/api/v1/rebuild',
    (request) => {
      unrestricted(request.identity);
      const rebuild = processing.rebuild ?? missing('this collector has no lake: see --lake');
      rebuild.begin();
      const { identity, address } = request;
      options.audit?.say({ event: 'rebuild', user: identity.name, address });
      return json(rebuild.status, 202);
    },
    'admin',
  );
}
