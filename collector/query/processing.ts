/** The API of the lake, streams and batches. */
import { HeadwaterError } from '../../shared/errors.ts';
import { json, type HttpOptions, type HttpServer } from '../../shared/http/server.ts';
import type { Metrics } from '../../shared/telemetry/metrics.ts';
import type { Processing } from '../processing.ts';
import { unrestricted, type Parts } from './api.ts';

export function processingMetrics(metrics: Metrics, { lakeStages }: Processing): void {
  if (lakeStages.length === 0) return;
  const perZone = (
    read: (stage: (typeof lakeStages)[number]) => number,
  ): (() => { labels: Record<string, string>; value: number }[]) => {
    return () => lakeStages.map((stage) => ({ labels: { zone: stage.zone }, value: read(stage) }));
  };
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

export function serveProcessing(
  server: HttpServer,
  { processing }: Parts,
  _options: HttpOptions,
): void {
  const { lake } = processing;
  server.on('GET', '/api/v1/lake', async ({ identity }) => {
    unrestricted(identity);
    if (lake === undefined)
      throw new HeadwaterError('NOT_FOUND', 'this collector has no lake: see --lake');
    const { kind, address } = lake.store;
    return json({ kind, address, zones: await lake.summary() });
  });
}
