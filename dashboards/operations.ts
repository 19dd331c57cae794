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
  of,
  rate,
  bufferFill,
  bufferFullIn,
} from './metrics.ts';
import type { DashboardSpec, PanelSpec } from './model.ts';

/** First of all: does it work? */
const NOW: PanelSpec[] = [
  {
    title: 'Log',
    kind: 'stat',
    about: 'Can the log be written, so that gateways get acknowledgements?',
    width: 4,
    height: 5,
    states: UP,
    queries: [{ query: of('headwater_log_up'), alias: '{{instance}}' }],
  },
  {
    title: 'Store',
    kind: 'stat',
    about: 'Is what is decoded stored?',
    width: 4,
    height: 5,
    states: UP,
    queries: [{ query: of('headwater_store_up'), alias: '{{instance}}' }],
  },
  {
    title: 'Uplink of gateways',
    kind: 'stat',
    about: 'Which gateways have a collector?',
    width: 4,
    height: 5,
    states: UP,
    queries: [{ query: of('headwater_uplink_connected'), alias: '{{instance}}' }],
  },
  {
    title: 'Missing',
    kind: 'stat',
    about: 'How many messages neither arrived nor are held nor were reported lost?',
    width: 4,
    height: 5,
    unit: 'short',
    thresholds: NONE_IS_WELL,
    queries: [{ query: of('headwater_ledger_missing_messages'), alias: '{{instance}}' }],
  },
  {
    title: 'Certificate ends in',
    kind: 'stat',
    about: 'How long do the certificates that are shown still hold? Infinite where none is shown.',
    width: 4,
    height: 5,
    unit: 's',
    thresholds: below(3 * 86_400, 14 * 86_400),
    beyond: { from: 1e10, text: 'none shown', color: 'green' },
    queries: [
      {
        query: `${of('headwater_tls_certificate_expiry_time_seconds')} - time()`,
        alias: '{{instance}}',
      },
    ],
  },
  {
    title: 'Disk free',
    kind: 'stat',
    about: 'How much is free under each data folder?',
    width: 4,
    height: 5,
    unit: 'bytes',
    thresholds: below(2 * 1024 ** 3, 10 * 1024 ** 3),
    queries: [{ query: of('headwater_disk_free_bytes'), alias: '{{instance}}' }],
  },
];

/** Then the way of a message, stage by stage. */
const PIPELINE: PanelSpec[] = [
  {
    title: 'Stages that wait',
    kind: 'timeseries',
    about: 'For how long has a stage been waiting for something that fails? 0 while it works.',
    width: 12,
    height: 8,
    unit: 's',
    thresholds: above(10, 60),
    queries: [{ query: of('headwater_stage_stalled_seconds'), alias: '{{instance}} {{stage}}' }],
  },
  {
    title: 'Lag',
    kind: 'timeseries',
    about:
      'How many records of the log has each stage still to read? A gap: not known, as while the log is down.',
    width: 12,
    height: 8,
    unit: 'short',
    queries: [{ query: of('headwater_stage_waiting_records'), alias: '{{instance}} {{stage}}' }],
  },
  {
    title: 'Throughput',
    kind: 'timeseries',
    about:
      'How much comes from devices, is acknowledged, decoded and stored? Lines that part show where it stays.',
    width: 12,
    height: 8,
    unit: 'cps',
    queries: [
      { query: rate('headwater_ingress_messages_total'), alias: '{{instance}} from devices' },
      {
        query: rate('headwater_ingest_acknowledged_messages_total'),
        alias: '{{instance}} acknowledged',
      },
      { query: rate('headwater_decode_messages_total'), alias: '{{instance}} decoded' },
      { query: rate('headwater_store_readings_total'), alias: '{{instance}} readings stored' },
    ],
  },
  {
    title: 'Latency of stages, 99 of 100',
    kind: 'timeseries',
    about: 'How long after its arrival has a stage done with a frame?',
    width: 12,
    height: 8,
    unit: 's',
    queries: [
      {
        query: `histogram_quantile(0.99, sum by (instance, stage, le) (${rate('headwater_stage_latency_seconds_bucket')}))`,
        alias: '{{instance}} {{stage}}',
      },
    ],
  },
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
  {
    title: 'Acknowledgements: half, 99 of 100, mean',
    kind: 'timeseries',
    about: 'Within what time are half of the acknowledgements given, and nearly all?',
    width: 12,
    height: 8,
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
];

/** What stays behind, and for how long there is room. */
const LEFT: PanelSpec[] = [
  {
    title: 'Buffer fill',
    kind: 'timeseries',
    about: 'How much of what it may take on disk does the buffer of each gateway take?',
    width: 8,
    height: 8,
    ...bufferFill(),
  },
  {
    title: 'Buffer full in',
    kind: 'stat',
    about: 'When is a buffer full at the rate of the last minutes? Infinite: not in sight.',
    width: 8,
    height: 8,
    ...bufferFullIn(),
  },
  {
    title: 'On the way',
    kind: 'timeseries',
    about: 'How many messages do gateways hold that no collector has acknowledged?',
    width: 8,
    height: 8,
    unit: 'short',
    queries: [{ query: of('headwater_buffer_waiting_messages'), alias: '{{instance}}' }],
  },
  {
    title: 'Late, come again, set aside',
    kind: 'timeseries',
    about:
      'How much was more than ten seconds on its way, came twice and was left out, or could not be taken by a stage?',
    width: 24,
    height: 8,
    unit: 'cps',
    queries: [
      { query: rate('headwater_decode_late_readings_total'), alias: '{{instance}} late' },
      { query: rate('headwater_decode_duplicates_total'), alias: '{{instance}} came again' },
      {
        query: rate('headwater_stage_set_aside_records_total'),
        alias: '{{instance}} {{stage}} set aside',
      },
    ],
  },
  {
    title: 'Quarantine',
    kind: 'timeseries',
    about: 'How many messages wait in quarantine for a mapping or a replay?',
    width: 8,
    height: 8,
    unit: 'short',
    thresholds: above(1, 1000),
    queries: [{ query: of('headwater_quarantine_open_messages'), alias: '{{instance}}' }],
  },
  {
    title: 'Into quarantine, by reason',
    kind: 'stat',
    about: 'Why could messages not be decoded, and readings not be stored, since the start?',
    width: 8,
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
  {
    title: 'Lost, by cause',
    kind: 'stat',
    about: 'How many messages were reported lost, and why?',
    width: 8,
    height: 8,
    unit: 'short',
    thresholds: NONE_IS_WELL,
    queries: [
      { query: of('headwater_ledger_lost_messages'), alias: '{{instance}} {{cause}}', quiet: true },
    ],
  },
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
