/** The dashboards that ask Prometheus: promtool evaluates each of its queries on what a gateway and a collector really give. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { stringify } from 'yaml';
import { METRIC_SPECS } from '../../dashboards/all.ts';
import { ingest, startUp } from '../support/lake.ts';
import { start, temporaryFolder, until, type Headwater } from '../support/process.ts';

const QUERIES = Object.values(METRIC_SPECS).flatMap(({ panels }) =>
  panels.flatMap(({ queries }) => queries),
);

/** As Grafana fills in its own names and their variables with "All". */
const filled = (query: string): string =>
  query.replaceAll('$__rate_interval', '5m').replaceAll(/\$(?:gateway_)?instance/g, '.*');

/** Prometheus text as promtool's series, each scraped once a minute from then on: counters go on, gauges stay. */
function seriesOf(text: string, instance: string): { series: string; values: string }[] {
  const types = new Map(
    [...text.matchAll(/^# TYPE (\S+) (\S+)$/gm)].map(([, a = '', b]) => [a, b]),
  );
  return [...text.matchAll(/^([a-z]\w*)(?:\{(.*)\})? (\S+)$/gm)].map(
    ([, name = '', labels = '', value = '']) => ({
      series: `${name}{instance="${instance}"${labels === '' ? '' : `,${labels}`}}`,
      values: `${value}${types.get(name) === 'gauge' ? '+0' : '+1'}x20`,
    }),
  );
}

async function metricsOf(server: Headwater, name: string): Promise<string> {
  return await (await fetch(`http://${server.address[name]}/metrics`)).text();
}

it('every query gives data from a gateway and a collector, and those of what went wrong give nothing while nothing did', async () => {
  const server = await startUp(temporaryFolder(), {}, ['--no-sample']);
  const http = server.address['http'] ?? '';
  await ingest(server, 'hall/1/warm', { v: 1 });
  await fetch(`http://${http}/api/v1/ingest?topic=hall/1/bad`, { method: 'POST', body: '{"v":' });
  await until('the reading stored, the other in quarantine', async () => {
    const text = await metricsOf(server, 'http');
    const isThere =
      // The gateway has been told the time.
      /^headwater_clock_offset_seconds /m.test(await metricsOf(server, 'gateway-http')) &&
      /^headwater_store_readings_total 1$/m.test(text) &&
      /^headwater_decode_quarantined_total\{reason=.*\} 1$/m.test(text);
    return isThere || undefined;
  });
  const scraped = await Promise.all(
    ['http', 'gateway-http'].map(async (name) => seriesOf(await metricsOf(server, name), name)),
  );
  await server.kill();
  const input = scraped.flat();
  const gone = (query: string): boolean =>
    input.every(({ series }) => !query.includes(series.slice(0, series.indexOf('{') + 1)));
  const file = join(temporaryFolder(), 'tests.yaml');
  writeFileSync(
    file,
    stringify({
      rule_files: [],
      evaluation_interval: '1m',
      tests: [
        {
          interval: '1m',
          input_series: input,
          promql_expr_test: QUERIES.map(({ query, quiet }) => ({
            expr: `count(${filled(query)}) > bool 0`,
            eval_time: '15m',
            exp_samples: quiet === true && gone(query) ? [] : [{ labels: '{}', value: 1 }],
          })),
        },
      ],
    }),
  );
  const child = start('promtool', ['test', 'rules', file]);
  expect(await child.exited, child.output()).toBe(0);
  expect(child.output()).toContain('SUCCESS');
});
