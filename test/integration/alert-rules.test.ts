/** The shipped alert rules: Prometheus' own checker reads them, and each fires when it must and not before. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { stringify } from 'yaml';
import { COLLECTOR_PARTS } from '../../collector/collector.ts';
import { GATEWAY_PARTS } from '../../gateway/gateway.ts';
import { ALERT_RULES } from '../../dashboards/prometheus.ts';
import { ROOT, start, temporaryFolder } from '../support/process.ts';

const RULES = join(ROOT, 'dashboards/prometheus/headwater.rules.yaml');

/**
 * What comes each minute while all is well (the rule is silent at `wellAt`) and while it is not (it fires at `at`).
 * Prometheus' own notation: `0x9` repeats, `0+1x9` grows, `_x5` is nothing yet: a label that comes new.
 */
const CASES: Record<
  string,
  { metric: string; labels?: string; well: string; ill: string; at: string; wellAt?: string }
> = {
  HeadwaterLogDown: { metric: 'headwater_log_up', well: '1x30', ill: '0x30', at: '2m' },
  HeadwaterStageStalled: {
    metric: 'headwater_stage_stalled_seconds',
    labels: 'stage="decode"',
    well: '0x30',
    ill: '0+60x30',
    at: '4m',
  },
  HeadwaterIngestBlocked: {
    metric: 'headwater_ingest_blocked',
    well: '0x30',
    ill: '1x30',
    at: '2m',
  },
  HeadwaterMessagesMissing: {
    metric: 'headwater_ledger_missing_messages',
    well: '0x30',
    ill: '3x30',
    at: '11m',
  },
  HeadwaterMessagesLost: {
    metric: 'headwater_ledger_lost_messages',
    labels: 'cause="full"',
    well: '5x90',
    ill: '_x5 7x25',
    at: '7m',
    wellAt: '80m',
  },
  HeadwaterGatewayUplinkDown: {
    metric: 'headwater_uplink_connected',
    well: '1x30',
    ill: '0x30',
    at: '6m',
  },
  HeadwaterBufferFullSoon: {
    metric: 'headwater_buffer_full_in_seconds',
    well: '9e9x30',
    ill: '3600x30',
    at: '6m',
  },
  HeadwaterBufferBlocked: {
    metric: 'headwater_buffer_blocked',
    well: '0x30',
    ill: '1x30',
    at: '2m',
  },
  HeadwaterBufferWriteErrors: {
    metric: 'headwater_buffer_write_errors_total',
    well: '4x30',
    ill: '0x5 1x25',
    at: '7m',
  },
  // promtool's clock begins at 1970.
  HeadwaterCertificateEnds: {
    metric: 'headwater_tls_certificate_expiry_time_seconds',
    well: '1296000x20',
    ill: '86400x30',
    at: '11m',
  },
  HeadwaterDiskNearlyFull: {
    metric: 'headwater_disk_free_bytes',
    well: '3e9x30',
    ill: '1e9x30',
    at: '11m',
  },
  HeadwaterStoreRefuses: {
    metric: 'headwater_store_refused_total',
    labels: 'reason="type"',
    well: '4x30',
    ill: '_x5 9x25',
    at: '7m',
  },
  HeadwaterClockDoubted: { metric: 'headwater_clock_doubted', well: '0x30', ill: '1x30', at: '6m' },
  HeadwaterGatewayClockOff: {
    metric: 'headwater_gateway_clock_offset_seconds',
    labels: 'gateway="g"',
    well: '-50x30',
    ill: '-90x30',
    at: '11m',
  },
  HeadwaterTwoGatewaysOneName: {
    metric: 'headwater_ingest_doubled_gateways',
    well: '0x30',
    ill: '1x30',
    at: '1m',
  },
};

/** A test of promtool with the whole alert named: `vector` of firing ones, counted by the metric that Prometheus makes. */
function unitTest(alert: string, values: string, at: string, fires: number) {
  const { metric, labels } = CASES[alert] ?? { metric: '' };
  return {
    interval: '1m',
    input_series: [
      { series: `${metric}{instance="a"${labels === undefined ? '' : `,${labels}`}}`, values },
    ],
    promql_expr_test: [
      {
        expr: `count(ALERTS{alertname="${alert}",alertstate="firing"}) or vector(0)`,
        eval_time: at,
        exp_samples: [{ labels: '{}', value: fires }],
      },
    ],
  };
}

it('promtool evaluates every rule on a well and an ill series: silent while all is well, firing when it is not', async () => {
  expect(Object.keys(CASES).toSorted()).toEqual(ALERT_RULES.map(({ alert }) => alert).toSorted());
  const file = join(temporaryFolder(), 'tests.yaml');
  const tests = Object.entries(CASES).flatMap(([alert, { well, ill, at, wellAt = '20m' }]) => [
    unitTest(alert, well, wellAt, 0),
    unitTest(alert, ill, '0m', alert === 'HeadwaterTwoGatewaysOneName' ? 1 : 0),
    unitTest(alert, ill, at, 1),
  ]);
  writeFileSync(file, stringify({ rule_files: [RULES], evaluation_interval: '1m', tests }));
  const { code, output } = await promtool('test', 'rules', file);
  expect(output).toContain('SUCCESS');
  expect(code).toBe(0);
});

async function promtool(...args: string[]): Promise<{ code: number; output: string }> {
  const child = start('promtool', args);
  const code = await child.exited;
  return { code, output: child.output() };
}

it('the file is what promtool takes, and every name in it is one that a side has', async () => {
  const { code, output } = await promtool('check', 'rules', RULES);
  expect(output).toContain(`SUCCESS: ${ALERT_RULES.length} rules found`);
  expect(code).toBe(0);
  const known = new Set(
    [...COLLECTOR_PARTS, ...GATEWAY_PARTS].flatMap(({ metrics = {} }) => Object.keys(metrics)),
  );
  for (const { alert, expr } of ALERT_RULES)
    for (const name of expr.match(/headwater_\w+/g) ?? []) expect(known, alert).toContain(name);
});
