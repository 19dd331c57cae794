/**
 * How gateways and collectors work, by their own metrics: asked of Prometheus, so that it still answers when the store
 * does not. Thresholds are those of the alert rules (prometheus.ts).
 */
import {
  NONE_IS_WELL,
  OUTAGES,
  UP,
  above,
  below,
  chart,
  each,
  figure,
  of,
  rate,
  bufferFill,
  bufferFullIn,
} from './metrics.ts';
import type { DashboardSpec, PanelSpec } from './model.ts';

/** First of all: does it work? */
const NOW: PanelSpec[] = [
  figure('Log', 'Can the log be written, so that gateways get acknowledgements?', 4, {
    states: UP,
    queries: [each(of('headwater_log_up'))],
  }),
  figure('Store', 'Is what is decoded stored?', 4, {
    states: UP,
    queries: [each(of('headwater_store_up'))],
  }),
  figure('Uplink of gateways', 'Which gateways have a collector?', 4, {
    states: UP,
    queries: [each(of('headwater_uplink_connected'))],
  }),
  figure('Missing', 'How many messages neither arrived nor are held nor were reported lost?', 4, {
    unit: 'short',
    thresholds: NONE_IS_WELL,
    queries: [each(of('headwater_ledger_missing_messages'))],
  }),
  figure(
    'Certificate ends in',
    'How long do the certificates that are shown still hold? Infinite where none is shown.',
    4,
    {
      unit: 's',
      thresholds: below(3 * 86_400, 14 * 86_400),
      beyond: { from: 1e10, text: 'none shown', color: 'green' },
      queries: [each(`${of('headwater_tls_certificate_expiry_time_seconds')} - time()`)],
    },
  ),
  figure('Disk free', 'How much is free under each data folder?', 4, {
    unit: 'bytes',
    thresholds: below(2 * 1024 ** 3, 10 * 1024 ** 3),
    queries: [each(of('headwater_disk_free_bytes'))],
  }),
];

/** Then the way of a message, stage by stage. */
const PIPELINE: PanelSpec[] = [
  chart(
    'Stages that wait',
    'For how long has a stage been waiting for something that fails? 0 while it works.',
    12,
    {
      unit: 's',
      thresholds: above(10, 60),
      queries: [each(of('headwater_stage_stalled_seconds'), '{{stage}}')],
    },
  ),
  chart(
    'Lag',
    'How many records of the log has each stage still to read? A gap: not known, as while the log is down.',
    12,
    {
      unit: 'short',
      queries: [each(of('headwater_stage_waiting_records'), '{{stage}}')],
    },
  ),
  chart(
    'Throughput',
    'How much comes from devices, is acknowledged, decoded and stored? Lines that part show where it stays.',
    12,
    {
      unit: 'cps',
      queries: [
        each(rate('headwater_ingress_messages_total'), 'from devices'),
        each(rate('headwater_ingest_acknowledged_messages_total'), 'acknowledged'),
        each(rate('headwater_decode_messages_total'), 'decoded'),
        each(rate('headwater_store_readings_total'), 'readings stored'),
      ],
    },
  ),
  chart(
    'Latency of stages, 99 of 100',
    'How long after its arrival has a stage done with a frame?',
    12,
    {
      unit: 's',
      queries: [
        each(
          `histogram_quantile(0.99, sum by (instance, stage, le) (${rate('headwater_stage_latency_seconds_bucket')}))`,
          '{{stage}}',
        ),
      ],
    },
  ),
  {
    title: 'Acknowledgements by their time',
    kind: 'heatmap',
    about: 'How long does a gateway wait for an acknowledgement, which comes after the fsync?',
    width: 12,
    height: 8,
    unit: 'cps',
    queries: [
      {
        query: `sum by (le) (${rate('headwater_ingest_acknowledge_seconds_bucket')})`,
        alias: '{{le}}',
      },
    ],
  },
  chart(
    'Acknowledgements: half, 99 of 100, mean',
    'Within what time are half of the acknowledgements given, and nearly all?',
    12,
    {
      unit: 's',
      queries: [
        ...[
          ['0.5', 'half'],
          ['0.99', '99 of 100'],
        ].map(([quantile, alias = '']) => ({
          query: `histogram_quantile(${quantile}, sum by (le) (${rate('headwater_ingest_acknowledge_seconds_bucket')}))`,
          alias,
        })),
        {
          query: `sum(${rate('headwater_ingest_acknowledge_seconds_sum')}) / sum(${rate('headwater_ingest_acknowledge_seconds_count')})`,
          alias: 'mean',
        },
      ],
    },
  ),
];

/** What stays behind, and for how long there is room. */
const LEFT: PanelSpec[] = [
  chart(
    'Buffer fill',
    'How much of what it may take on disk does the buffer of each gateway take?',
    8,
    bufferFill(),
  ),
  figure(
    'Buffer full in',
    'When is a buffer full at the rate of the last minutes? Infinite: not in sight.',
    8,
    {
      height: 8,
      ...bufferFullIn(),
    },
  ),
  chart('On the way', 'How many messages do gateways hold that no collector has acknowledged?', 8, {
    unit: 'short',
    queries: [each(of('headwater_buffer_waiting_messages'))],
  }),
  chart(
    'Late, come again, set aside',
    'How much was more than ten seconds on its way, came twice and was left out, or could not be taken by a stage?',
    24,
    {
      unit: 'cps',
      queries: [
        each(rate('headwater_decode_late_readings_total'), 'late'),
        each(rate('headwater_decode_duplicates_total'), 'came again'),
        each(rate('headwater_stage_set_aside_records_total'), '{{stage}} set aside'),
      ],
    },
  ),
  chart('Quarantine', 'How many messages wait in quarantine for a mapping or a replay?', 8, {
    unit: 'short',
    thresholds: above(1, 1000),
    queries: [each(of('headwater_quarantine_open_messages'))],
  }),
  figure(
    'Into quarantine, by reason',
    'Why could messages not be decoded, and readings not be stored, since the start?',
    8,
    {
      height: 8,
      unit: 'short',
      thresholds: NONE_IS_WELL,
      queries: [
        {
          query: `sum by (reason) (${of('headwater_decode_quarantined_total')})`,
          alias: 'not decoded: {{reason}}',
          quiet: true,
        },
        {
          query: `sum by (reason) (${of('headwater_store_refused_total')})`,
          alias: 'not stored: {{reason}}',
          quiet: true,
        },
      ],
    },
  ),
  figure('Lost, by cause', 'How many messages were reported lost, and why?', 8, {
    height: 8,
    unit: 'short',
    thresholds: NONE_IS_WELL,
    queries: [
      { query: of('headwater_ledger_lost_messages'), alias: '{{instance}} {{cause}}', quiet: true },
    ],
  }),
];

export const OPERATIONS: DashboardSpec = {
  uid: 'headwater-operations',
  title: 'Headwater / Pipeline',
  about:
    'Whether gateways, log, stages and store work: lag, throughput, quarantine, and what waits where.',
  source: 'prometheus',
  from: 'now-1h',
  variables: [
    {
      name: 'instance',
      label: 'Instance',
      query: 'label_values(headwater_build_info, instance)',
      all: true,
    },
  ],
  annotations: OUTAGES,
  panels: [...NOW, ...PIPELINE, ...LEFT],
};
