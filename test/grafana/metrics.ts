/** Three hours of metrics in a Prometheus: what a gateway and a collector really give, counted on. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { freePort } from '../support/free-port.ts';
import { ingest, startUp } from '../support/lake.ts';
import { start, temporaryFolder, until, type Child } from '../support/process.ts';
import { TO_MS } from './site.ts';

export const METRICS_FROM_MS = TO_MS - 3 * 3_600_000;
export const STEP_S = 60;
const STEPS = 180;
/** When the gateway had no collector, in steps. */
const AWAY = [80, 110] as const;

interface Sampled {
  name: string;
  labels: string;
  type: string;
  value: number;
}

function sampled(text: string, instance: string): Sampled[] {
  const types = new Map(
    [...text.matchAll(/^# TYPE (\S+) (\S+)$/gm)].map(([, name = '', type = '']) => [name, type]),
  );
  const all = [...text.matchAll(/^([a-z]\w*)(?:\{(.*)\})? (\S+)$/gm)];
  return all.map(([, name = '', labels = '', value = '']) => ({
    name,
    labels: `instance="${instance}"${labels === '' ? '' : `,${labels}`}`,
    type: types.get(name) ?? types.get(name.replace(/_(?:bucket|sum|count)$/, '')) ?? 'gauge',
    value: Number(value.replace('+Inf', 'Infinity')),
  }));
}

const isAway = (step: number): boolean => step >= AWAY[0] && step < AWAY[1];
const wave = (step: number, seed: string): number =>
  1 + 0.25 * Math.sin(step / 17 + seed.length) + ((step * 7919) % 13) / 60;
/** Of a histogram the share that is at most so long. */
const shareOf = (labels: string): number => {
  const most = /le="([^"]+)"/.exec(labels)?.[1];
  return most === undefined || most === '+Inf' ? 1 : 1 - Math.exp(-Number(most) / 0.012);
};
const QUIET =
  /denied|refused|quarantined|dropped|thinned|timeouts|duplicates|lost|errors|set_aside/;

/** So much more in a step. */
function growth({ name, labels }: Sampled, step: number): number {
  if (QUIET.test(name)) return 0;
  if (/uplink|ingest_|decode_|store_|latency/.test(name) && isAway(step)) return 0;
  const catchUp = step >= AWAY[1] && step < AWAY[1] + 12 ? 3.5 : 1;
  if (name === 'headwater_uplink_backlog_bytes_total')
    return catchUp > 1 ? 300_000 * wave(step, name) : 0;
  if (name === 'headwater_uplink_connects_total') return step === AWAY[1] ? 1 : 0;
  if (/bytes_total/.test(name)) return 120_000 * wave(step, name) * catchUp;
  if (/seconds_sum/.test(name)) return 600 * 0.012 * wave(step, name);
  return 600 * wave(step, `${name}${labels}`.slice(0, 30)) * catchUp * shareOf(labels);
}

const GAUGES: Record<string, (step: number) => number> = {
  headwater_uplink_connected: (step) => (isAway(step) ? 0 : 1),
  headwater_buffer_waiting_messages: (step) =>
    isAway(step) ? (step - AWAY[0] + 1) * 600 : step % 3,
  headwater_buffer_disk_bytes: (step) => 2.1e8 + (isAway(step) ? (step - AWAY[0]) * 3e6 : 0),
  headwater_buffer_disk_limit_bytes: () => 1e9,
  headwater_buffer_full_in_seconds: (step) =>
    isAway(step) ? 30_000 - (step - AWAY[0]) * 60 : Infinity,
  headwater_clock_offset_seconds: (step) => 0.004 * Math.sin(step / 30),
  headwater_ingress_connections: (step) => 24 + (step % 7 === 0 ? 1 : 0),
  headwater_board_card_years: () => 6.4,
  headwater_board_written_bytes_per_day: (step) => 5.1e8 * wave(step, 'card'),
  headwater_board_temperature_celsius: (step) => 46 + 3 * Math.sin(step / 40),
  headwater_disk_free_bytes: (step) => 22e9 - step * 1e6,
  headwater_stage_stalled_seconds: () => 0,
};

function exposition(all: readonly Sampled[]): string {
  const names = new Map<string, Sampled[]>();
  for (const each of all) {
    const family =
      each.type === 'histogram' ? each.name.replace(/_(?:bucket|sum|count)$/, '') : each.name;
    names.set(family, [...(names.get(family) ?? []), each]);
  }
  const lines: string[] = [];
  for (const [, family] of names)
    for (const each of family) {
      let { value } = each;
      if (each.type !== 'gauge') value = Number.isFinite(value) ? Math.min(value, 1000) : 0;
      for (let step = 0; step <= STEPS; step++) {
        if (each.type !== 'gauge') value += growth(each, step);
        const shown = each.type === 'gauge' ? (GAUGES[each.name]?.(step) ?? value) : value;
        const text = Number.isFinite(shown) ? shown : Number.isNaN(shown) ? 'NaN' : '+Inf';
        lines.push(
          `${each.name}{${each.labels}} ${text} ${METRICS_FROM_MS / 1000 + step * STEP_S}`,
        );
      }
    }
  return `${lines.join('\n')}\n# EOF\n`;
}

async function scraped(): Promise<Sampled[]> {
  const server = await startUp(temporaryFolder(), {}, ['--no-sample', '--id', 'barn']);
  const text = async (name: string): Promise<string> =>
    await (await fetch(`http://${server.address[name]}/metrics`)).text();
  await ingest(server, 'hall/1/warm', { v: 1 });
  const http = server.address['http'] ?? '';
  await fetch(`http://${http}/api/v1/ingest?topic=hall/1/bad`, { method: 'POST', body: '{"v":' });
  await until('what the gateway and the stages tell', async () => {
    const isThere =
      /^headwater_clock_offset_seconds /m.test(await text('gateway-http')) &&
      /^headwater_store_readings_total 1$/m.test(await text('http'));
    return isThere || undefined;
  });
  const all = [
    ...sampled(await text('http'), 'collector'),
    ...sampled(await text('gateway-http'), 'barn'),
    {
      name: 'headwater_board_temperature_celsius',
      labels: 'instance="barn",zone="cpu"',
      type: 'gauge',
      value: 46,
    },
  ];
  await server.kill();
  return all;
}

/** A Prometheus on loopback, over blocks made of it. */
export async function startPrometheus(): Promise<{ url: string; server: Child }> {
  const folder = temporaryFolder();
  const file = join(folder, 'metrics.txt');
  writeFileSync(file, exposition(await scraped()));
  const tool = start('promtool', [
    'tsdb',
    'create-blocks-from',
    'openmetrics',
    file,
    join(folder, 'data'),
  ]);
  if ((await tool.exited) !== 0) throw new Error(`promtool: ${tool.output()}`);
  const settings = join(folder, 'prometheus.yml');
  writeFileSync(settings, 'global: {}\n');
  const url = `http://127.0.0.1:${await freePort()}`;
  const server = start('prometheus', [
    `--config.file=${settings}`,
    `--storage.tsdb.path=${join(folder, 'data')}`,
    '--storage.tsdb.retention.time=100y',
    `--web.listen-address=${url.slice(7)}`,
  ]);
  await until('Prometheus', async () => (await fetch(`${url}/-/ready`)).ok || undefined);
  return { url, server };
}
