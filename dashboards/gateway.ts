/** Gateways in detail, by their own metrics: the buffer, the link, the clock and the devices of each. Thresholds: prometheus.ts. */
import {
  NONE_IS_WELL,
  OUTAGES,
  UP,
  above,
  below,
  of as metricOf,
  rate as rateOf,
  bufferFill,
  bufferFullIn,
} from './metrics.ts';
import type { DashboardSpec, PanelSpec } from './model.ts';

/** A variable of its own: a collector that another dashboard has chosen is no gateway. */
const CHOSEN = 'gateway_instance';
const of = (metric: string): string => metricOf(metric, CHOSEN);
const rate = (metric: string): string => rateOf(metric, CHOSEN);
/** Collectors have some of the metrics as well. */
const ofGateways = (metric: string): string =>
  `${of(metric)} and on (instance) headwater_uplink_connected`;

const NOW: PanelSpec[] = [
  {
    title: 'Uplink',
    kind: 'stat',
    about:
      'Has the gateway a collector? Without one it keeps what devices send until its buffer is full.',
    width: 6,
    height: 5,
    states: UP,
    queries: [{ query: of('headwater_uplink_connected'), alias: '{{instance}}' }],
  },
  {
    title: 'Acknowledgements to devices',
    kind: 'stat',
    about: 'Do devices get their acknowledgements? `/api/v1/buffer` of the gateway says why not.',
    width: 6,
    height: 5,
    states: { 0: { text: 'given', color: 'green' }, 1: { text: 'held back', color: 'red' } },
    queries: [{ query: of('headwater_buffer_blocked'), alias: '{{instance}}' }],
  },
  {
    title: 'Buffer full in',
    kind: 'stat',
    about: 'When is it full at the rate of the last minutes? Infinite: not in sight.',
    width: 6,
    height: 5,
    ...bufferFullIn(CHOSEN),
  },
  {
    title: 'Given up or thinned',
    kind: 'stat',
    about:
      'What has a full buffer cost since the start? Each message is in a loss report or a summary.',
    width: 6,
    height: 5,
    unit: 'short',
    thresholds: NONE_IS_WELL,
    queries: [
      {
        query: `${of('headwater_buffer_dropped_messages_total')} + ${of('headwater_buffer_thinned_messages_total')}`,
        alias: '{{instance}}',
      },
    ],
  },
];

const FLOW: PanelSpec[] = [
  {
    title: 'Waiting for a collector',
    kind: 'timeseries',
    about:
      'How many messages has no collector acknowledged? A gap: what an earlier run left is being counted.',
    width: 12,
    height: 8,
    unit: 'short',
    queries: [{ query: of('headwater_buffer_waiting_messages'), alias: '{{instance}}' }],
  },
  {
    title: 'Buffer fill',
    kind: 'timeseries',
    about:
      'How much of what it may take on disk does it take, history that can make room included?',
    width: 12,
    height: 8,
    ...bufferFill(CHOSEN),
  },
  {
    title: 'Messages',
    kind: 'timeseries',
    about: 'Does as much reach a collector as is made durable for devices?',
    width: 12,
    height: 8,
    unit: 'cps',
    queries: [
      { query: rate('headwater_buffer_committed_messages_total'), alias: '{{instance}} durable' },
      {
        query: rate('headwater_uplink_acknowledged_messages_total'),
        alias: '{{instance}} at the collector',
      },
    ],
  },
  {
    title: 'Lanes',
    kind: 'timeseries',
    about: 'What does the link carry, and how much of it is backlog?',
    width: 12,
    height: 8,
    unit: 'Bps',
    queries: [
      { query: rate('headwater_uplink_sent_bytes_total'), alias: '{{instance}} all' },
      { query: rate('headwater_uplink_backlog_bytes_total'), alias: '{{instance}} backlog' },
    ],
  },
  {
    title: 'Fsync, 99 of 100',
    kind: 'timeseries',
    about: 'How long does a device wait for the fsync before its acknowledgement?',
    width: 12,
    height: 8,
    unit: 's',
    queries: [
      {
        query: `histogram_quantile(0.99, sum by (instance, le) (${rate('headwater_buffer_commit_seconds_bucket')}))`,
        alias: '{{instance}}',
      },
    ],
  },
  {
    title: 'Clock',
    kind: 'timeseries',
    about:
      "By how much is its clock ahead of the collector's? Nothing before one has told the time.",
    width: 12,
    height: 8,
    unit: 's',
    queries: [{ query: of('headwater_clock_offset_seconds'), alias: '{{instance}}' }],
  },
  {
    title: 'Devices',
    kind: 'timeseries',
    about: 'How many devices are connected?',
    width: 8,
    height: 8,
    unit: 'short',
    queries: [{ query: of('headwater_ingress_connections'), alias: '{{instance}}' }],
  },
  {
    title: 'Denied',
    kind: 'timeseries',
    about: 'What do access rules or limits deny to devices? The audit log says whom and what.',
    width: 8,
    height: 8,
    unit: 'cps',
    queries: [
      {
        query: `sum by (instance, kind) (${rate('headwater_ingress_denied_total')})`,
        alias: '{{instance}} {{kind}}',
        quiet: true,
      },
    ],
  },
  {
    title: 'Disk free',
    kind: 'timeseries',
    about: 'How much is free under the data folder?',
    width: 8,
    height: 8,
    unit: 'bytes',
    thresholds: below(2 * 1024 ** 3, 10 * 1024 ** 3),
    queries: [{ query: ofGateways('headwater_disk_free_bytes'), alias: '{{instance}}' }],
  },
];

/** The machine itself. What a system or a configuration does not tell is not there. */
const BOARD: PanelSpec[] = [
  {
    title: 'Card lasts',
    kind: 'stat',
    about:
      'For how many years does the card last at the rate of this run? By `board.enduranceBytes`; NaN where that is not given.',
    width: 6,
    height: 8,
    unit: 'suffix:years',
    thresholds: below(1, 3),
    queries: [{ query: of('headwater_board_card_years'), alias: '{{instance}}' }],
  },
  {
    title: 'Written to the card',
    kind: 'timeseries',
    about: 'How much is written to storage, file system included?',
    width: 9,
    height: 8,
    unit: 'Bps',
    queries: [
      { query: rate('headwater_board_written_bytes_total'), alias: '{{instance}} written' },
      { query: rate('headwater_buffer_committed_bytes_total'), alias: '{{instance}} of frames' },
    ],
  },
  {
    title: 'Written in a day',
    kind: 'timeseries',
    about:
      'How much is that in a day, at the rate of this run? Nothing in the first ten minutes of a run.',
    width: 9,
    height: 8,
    unit: 'bytes',
    queries: [{ query: of('headwater_board_written_bytes_per_day'), alias: '{{instance}}' }],
  },
  {
    title: 'Temperature',
    kind: 'timeseries',
    about: 'How warm is the board?',
    width: 8,
    height: 8,
    unit: 'celsius',
    thresholds: above(70, 80),
    queries: [
      {
        query: of('headwater_board_temperature_celsius'),
        alias: '{{instance}} {{zone}}',
        quiet: true,
      },
    ],
  },
  {
    title: 'Held back',
    kind: 'stat',
    about: 'Is a Raspberry Pi held back by its supply or by heat? 1 while it is, by reason.',
    width: 8,
    height: 8,
    states: { 0: { text: 'no', color: 'green' }, 1: { text: 'held back', color: 'red' } },
    queries: [
      {
        query: of('headwater_board_held_back'),
        alias: '{{instance}} {{reason}}',
        quiet: true,
      },
    ],
  },
  {
    title: 'Memory left',
    kind: 'timeseries',
    about: 'How much memory is left on the machine?',
    width: 8,
    height: 8,
    unit: 'bytes',
    queries: [{ query: of('headwater_board_memory_available_bytes'), alias: '{{instance}}' }],
  },
];

/** The link itself. */
const UPLINK: PanelSpec[] = [
  {
    title: 'On the link',
    kind: 'timeseries',
    about:
      'How much is sent and not yet acknowledged, beside what may be, by the delay of the link?',
    width: 12,
    height: 8,
    unit: 'bytes',
    queries: [
      { query: of('headwater_uplink_in_flight_bytes'), alias: '{{instance}} on its way' },
      { query: of('headwater_uplink_window_bytes'), alias: '{{instance}} at most' },
    ],
  },
  {
    title: 'Connections made, links given up',
    kind: 'timeseries',
    about:
      'Does the link come and go? Connections to a collector, and links given up since no acknowledgement came, in five minutes.',
    width: 12,
    height: 8,
    unit: 'short',
    queries: [
      {
        query: `increase(${of('headwater_uplink_connects_total')}[5m])`,
        alias: '{{instance}} connections',
      },
      {
        query: `increase(${of('headwater_uplink_ack_timeouts_total')}[5m])`,
        alias: '{{instance}} given up',
      },
    ],
  },
];

export const GATEWAY: DashboardSpec = {
  uid: 'headwater-gateway',
  title: 'Headwater / Gateways',
  about: 'Each gateway: its buffer, its link, its clock, its devices, its card.',
  source: 'prometheus',
  from: 'now-3h',
  variables: [
    {
      name: 'gateway',
      label: 'Gateway',
      query: 'label_values(headwater_gateway_info, gateway)',
      all: true,
    },
    {
      name: CHOSEN,
      label: 'Instance',
      query: 'label_values(headwater_gateway_info{gateway=~"$gateway"}, instance)',
      all: true,
      isHidden: true,
    },
  ],
  annotations: OUTAGES,
  panels: [...NOW, ...FLOW, ...UPLINK, ...BOARD],
};
