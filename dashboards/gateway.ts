/** Gateways in detail, by their own metrics: the buffer, the link, the clock and the devices of each. Thresholds: prometheus.ts. */
import {
  NONE_IS_WELL,
  OUTAGES,
  UP,
  above,
  below,
  chart,
  each,
  figure,
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
  figure(
    'Uplink',
    'Has the gateway a collector? Without one it keeps what devices send until its buffer is full.',
    6,
    {
      states: UP,
      queries: [each(of('headwater_uplink_connected'))],
    },
  ),
  figure(
    'Acknowledgements to devices',
    'Do devices get their acknowledgements? `/api/v1/buffer` of the gateway says why not.',
    6,
    {
      states: { 0: { text: 'given', color: 'green' }, 1: { text: 'held back', color: 'red' } },
      queries: [each(of('headwater_buffer_blocked'))],
    },
  ),
  figure(
    'Buffer full in',
    'When is it full at the rate of the last minutes? Infinite: not in sight.',
    6,
    bufferFullIn(CHOSEN),
  ),
  figure(
    'Given up or thinned',
    'What has a full buffer cost since the start? Each message is in a loss report or a summary.',
    6,
    {
      unit: 'short',
      thresholds: NONE_IS_WELL,
      queries: [
        each(
          `${of('headwater_buffer_dropped_messages_total')} + ${of('headwater_buffer_thinned_messages_total')}`,
        ),
      ],
    },
  ),
];

const FLOW: PanelSpec[] = [
  chart(
    'Waiting for a collector',
    'How many messages has no collector acknowledged? A gap: what an earlier run left is being counted.',
    12,
    {
      unit: 'short',
      queries: [each(of('headwater_buffer_waiting_messages'))],
    },
  ),
  chart(
    'Buffer fill',
    'How much of what it may take on disk does it take, history that can make room included?',
    12,
    bufferFill(CHOSEN),
  ),
  chart('Messages', 'Does as much reach a collector as is made durable for devices?', 12, {
    unit: 'cps',
    queries: [
      each(rate('headwater_buffer_committed_messages_total'), 'durable'),
      each(rate('headwater_uplink_acknowledged_messages_total'), 'at the collector'),
    ],
  }),
  chart('Lanes', 'What does the link carry, and how much of it is backlog?', 12, {
    unit: 'Bps',
    queries: [
      each(rate('headwater_uplink_sent_bytes_total'), 'all'),
      each(rate('headwater_uplink_backlog_bytes_total'), 'backlog'),
    ],
  }),
  chart(
    'Fsync, 99 of 100',
    'How long does a device wait for the fsync before its acknowledgement?',
    12,
    {
      unit: 's',
      queries: [
        each(
          `histogram_quantile(0.99, sum by (instance, le) (${rate('headwater_buffer_commit_seconds_bucket')}))`,
        ),
      ],
    },
  ),
  chart(
    'Clock',
    "By how much is its clock ahead of the collector's? Nothing before one has told the time.",
    12,
    {
      unit: 's',
      queries: [each(of('headwater_clock_offset_seconds'))],
    },
  ),
  chart('Devices', 'How many devices are connected?', 8, {
    unit: 'short',
    queries: [each(of('headwater_ingress_connections'))],
  }),
  chart(
    'Denied',
    'What do access rules or limits deny to devices? The audit log says whom and what.',
    8,
    {
      unit: 'cps',
      queries: [
        {
          query: `sum by (instance, kind) (${rate('headwater_ingress_denied_total')})`,
          alias: '{{instance}} {{kind}}',
          quiet: true,
        },
      ],
    },
  ),
  chart('Disk free', 'How much is free under the data folder?', 8, {
    unit: 'bytes',
    thresholds: below(2 * 1024 ** 3, 10 * 1024 ** 3),
    queries: [each(ofGateways('headwater_disk_free_bytes'))],
  }),
];

/** The machine itself. What a system or a configuration does not tell is not there. */
const BOARD: PanelSpec[] = [
  figure(
    'Card lasts',
    'For how many years does the card last at the rate of this run? By `board.enduranceBytes`; NaN where that is not given.',
    6,
    {
      height: 8,
      unit: 'suffix:years',
      thresholds: below(1, 3),
      queries: [each(of('headwater_board_card_years'))],
    },
  ),
  chart('Written to the card', 'How much is written to storage, file system included?', 9, {
    unit: 'Bps',
    queries: [
      each(rate('headwater_board_written_bytes_total'), 'written'),
      each(rate('headwater_buffer_committed_bytes_total'), 'of frames'),
    ],
  }),
  chart(
    'Written in a day',
    'How much is that in a day, at the rate of this run? Nothing in the first ten minutes of a run.',
    9,
    {
      unit: 'bytes',
      queries: [each(of('headwater_board_written_bytes_per_day'))],
    },
  ),
  chart('Temperature', 'How warm is the board?', 8, {
    unit: 'celsius',
    thresholds: above(70, 80),
    queries: [
      {
        query: of('headwater_board_temperature_celsius'),
        alias: '{{instance}} {{zone}}',
        quiet: true,
      },
    ],
  }),
  figure(
    'Held back',
    'Is a Raspberry Pi held back by its supply or by heat? 1 while it is, by reason.',
    8,
    {
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
  ),
  chart('Memory left', 'How much memory is left on the machine?', 8, {
    unit: 'bytes',
    queries: [each(of('headwater_board_memory_available_bytes'))],
  }),
];

/** The link itself. */
const UPLINK: PanelSpec[] = [
  chart(
    'On the link',
    'How much is sent and not yet acknowledged, beside what may be, by the delay of the link?',
    12,
    {
      unit: 'bytes',
      queries: [
        each(of('headwater_uplink_in_flight_bytes'), 'on its way'),
        each(of('headwater_uplink_window_bytes'), 'at most'),
      ],
    },
  ),
  chart(
    'Connections made, links given up',
    'Does the link come and go? Connections to a collector, and links given up since no acknowledgement came, in five minutes.',
    12,
    {
      unit: 'short',
      queries: [
        each(`increase(${of('headwater_uplink_connects_total')}[5m])`, 'connections'),
        each(`increase(${of('headwater_uplink_ack_timeouts_total')}[5m])`, 'given up'),
      ],
    },
  ),
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
